// A group-normalised WideResNet: neither how its batch is cut nor what is fused changes what it learns.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "all_ops.h"
#include "picture_inputs.h"
#include "thimble/dataset.h"
#include "thimble/initialize.h"
#include "thimble/replay.h"
#include "thimble/runtime.h"
#include "thimble/trainer.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

TrainingChoices choices_for(std::vector<std::int64_t> cut, bool fuse_convolutions, Norm norm = Norm::group) {
  TrainingChoices choices;
  choices.model = {.depth = 10, .width = 1, .norm = norm};
  choices.fuse_convolutions = fuse_convolutions;
  choices.batch = 12;
  choices.microbatches = std::move(cut);
  choices.train_samples = choices.test_samples = 12;
  choices.device.threads = 2;
  choices.sgd = {.momentum = 0.9, .weight_decay = 0, .nesterov = false};  // the momentum is the gradient after a step
  return choices;
}

struct Step {
  double loss = 0;
  std::map<std::string, std::vector<float>> gradients;
};

// One step from one start, of a learning rate of zero: its loss and, in the momentum, its gradients.
Step step_of(const TrainingChoices& choices) {
  HostMemory memory;
  Runtime runtime(make_plan(request_training(choices, registry()), registry()), registry(), memory,
                  {.poison = true, .canaries = true});
  const auto values = [&](const PersistentTensor& tensor) {
    const auto bytes = runtime.persistent(tensor.name);
    return std::span{reinterpret_cast<float*>(bytes.data()), bytes.size() / 4};
  };
  for (const PersistentTensor& tensor : runtime.plan().persistent)
    initialize_parameter(values(tensor), tensor.name, tensor.type, 3);
  const Dataset data = synthetic_data(choices.batch, 7);
  Step step;
  runtime.run(
      kTrainProgram, {.seed = 1, .step = 0, .learning_rate = 0},
      [&](ProgramView& in) { fill_in_order(data, 0, in); },
      [&](ProgramView& out) { step.loss = static_cast<double>(out.as<float>("loss")[0]); });
  for (const PersistentTensor& tensor : runtime.plan().persistent)
    if (tensor.role == Role::optimizer) {
      const auto all = values(tensor);
      step.gradients[tensor.name].assign(all.begin(), all.end());
    }
  return step;
}

double distance(const Step& a, const Step& b) {
  double difference = 0, norm = 0;
  EXPECT_EQ(a.gradients.size(), b.gradients.size());
  for (const auto& [name, left] : a.gradients) {
    const std::vector<float>& right = b.gradients.at(name);
    for (std::size_t i = 0; i < left.size(); ++i) {
      difference += std::pow(static_cast<double>(left[i]) - static_cast<double>(right[i]), 2);
      norm += std::pow(static_cast<double>(left[i]), 2);
    }
  }
  return std::sqrt(difference / norm);
}

const std::vector<std::vector<std::int64_t>> kCuts{{4, 4, 4}, {1, 8, 3}, std::vector<std::int64_t>(12, 1)};

TEST(GroupNormTraining, NoCutChangesLossOrGradients) {
  for (bool fuse_convolutions : {false, true}) {
    const Step whole = step_of(choices_for({}, fuse_convolutions));
    for (const auto& cut : kCuts) {
      const Step step = step_of(choices_for(cut, fuse_convolutions));
      EXPECT_NEAR(step.loss, whole.loss, 1e-6 * whole.loss) << cut.size() << " parts";
      EXPECT_LT(distance(whole, step), 1e-6) << cut.size() << " parts";
    }
  }
}

// What the test above would say of statistics that a cut does change.
TEST(GroupNormTraining, ACutDoesChangeBatchStatistics) {
  const Step whole = step_of(choices_for({}, false, Norm::batch));
  EXPECT_GT(distance(whole, step_of(choices_for({4, 4, 4}, false, Norm::batch))), 1e-2);
}

TEST(GroupNormTraining, FusionChangesNothingButRounding) {
  const Step separate = step_of(choices_for({6, 6}, false)), fused = step_of(choices_for({6, 6}, true));
  EXPECT_EQ(fused.loss, separate.loss);  // the forward pass has the same bits
  EXPECT_LT(distance(separate, fused), 1e-6);
}

TEST(GroupNormTraining, FusedPlansAreSoundReplayAndKeepNoNormalisedValue) {
  TrainingChoices choices = choices_for({5, 7}, true);
  choices.model = {.depth = 16, .width = 2, .norm = Norm::group};
  const Plan plan = make_plan(request_training(choices, registry()), registry());
  EXPECT_EQ(check_plan(plan, registry()), std::vector<std::string>{});
  EXPECT_EQ(replay(plan, registry()).problems, std::vector<std::string>{});
  for (const char* program : {kTrainProgram, kEvaluateProgram})
    for (const Op& op : plan.program(program).graph.ops)
      if (op.kind == "group_norm") {
        EXPECT_EQ(op.name, "final.gn") << program;  // pooled, not convolved
      }
}

TEST(GroupNormTraining, LearnsSyntheticPictures) {
  TrainingChoices choices = choices_for({12, 12, 8}, true);
  choices.batch = 32;
  choices.train_samples = 256;
  choices.test_samples = 64;
  choices.sgd = {};
  HostMemory memory;
  Runtime runtime(make_plan(request_training(choices, registry()), registry()), registry(), memory);
  const Dataset train = synthetic_data(256, 1), test = synthetic_data(64, 2);
  Trainer trainer(runtime, train, test, {.steps = 80, .seed = 1, .learning_rate = {.kind = ScheduleKind::constant}},
                  false);
  trainer.initialize();
  std::vector<double> losses;
  while (!trainer.is_done()) losses.push_back(trainer.step().loss);
  EXPECT_LT(losses.back(), 0.2 * losses.front());
}

}  // namespace
}  // namespace thimble
