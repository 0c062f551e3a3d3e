// WideResNets whose convolutions normalise what they read (--fuse conv): what the plan holds, and what training gives.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "all_ops.h"
#include "picture_inputs.h"
#include "temporary_folder.h"
#include "thimble/dataset.h"
#include "thimble/error.h"
#include "thimble/initialize.h"
#include "thimble/replay.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

TrainingChoices choices_for(WideResNet model, std::int64_t batch, bool fuse_convolutions) {
  TrainingChoices choices;
  choices.model = model;
  choices.fuse_convolutions = fuse_convolutions;
  choices.batch = batch;
  choices.device.threads = 2;
  return choices;
}

Plan plan_of(const TrainingChoices& choices) { return make_plan(request_training(choices, registry()), registry()); }

const Plan& wide_plan() {
  static const Plan plan = plan_of(choices_for({}, 100, true));
  return plan;
}

// Elements per picture that have to survive the forward pass: the stem, and of each block its first convolution's
// output and its sum.
std::int64_t kept_elements(const Graph& graph) {
  std::int64_t count = 0;
  for (const Tensor& tensor : graph.tensors)
    if (tensor.name == "stem" || tensor.name.ends_with(".conv1") || tensor.name.ends_with(".add"))
      count += elements_per_sample(tensor.type);
  return count;
}

TEST(NormConvPlan, OfABlockOnlyItsInputAndItsFirstConvolutionSurvive) {
  const Program& train = wide_plan().program(kTrainProgram);
  std::set<std::string> kept;
  for (const Instance& instance : train.schedule.instances) {
    const Tensor& tensor = train.graph.tensors[instance.tensor];
    const bool is_forward = tensor.producer != kNoOp && train.graph.ops[tensor.producer].phase == Phase::forward;
    bool is_read_backward = false;
    for (OpId reader : tensor.consumers) is_read_backward |= train.graph.ops[reader].phase == Phase::backward;
    if (is_forward && is_read_backward && tensor.type.batched && tensor.type.dtype == DType::f32 &&
        elements_per_sample(tensor.type) > 1000)
      kept.insert(tensor.name);
  }
  std::set<std::string> expected{"images", "stem"};
  for (int block = 0; block < 12; ++block)
    for (const char* what : {".conv1", ".add"}) expected.insert("block" + std::to_string(block) + what);
  EXPECT_EQ(kept, expected);
  for (const Op& op : train.graph.ops)
    if (op.kind == "batch_norm") {
      EXPECT_EQ(op.name, "final.bn");  // pooled, not convolved
    }
}

TEST(NormConvPlan, Needs215MegabytesAtMost) {
  const Plan& plan = wide_plan();
  const Program& peak = peak_program(plan);
  const Bytes kept{4 * plan.batch * kept_elements(peak.graph)};
  std::vector<Bytes> roles = bytes_by_role(plan, peak, peak.peak_step);
  RecordProperty("arena_bytes", std::to_string(plan.arena.value));
  std::printf(
      "wrn-28-2, batch 100, fuse conv: arena %lld bytes, lower bound %lld, values kept for the backward pass %lld; "
      "at the peak ('%s')",
      static_cast<long long>(plan.arena.value), static_cast<long long>(peak.lower_bound.value),
      static_cast<long long>(kept.value),
      peak.graph.ops[peak.schedule.steps[static_cast<std::size_t>(index(peak.peak_step))].op].name.c_str());
  for (std::size_t role = 0; role < roles.size(); ++role)
    std::printf(" %s %lld", std::string(to_string(static_cast<Role>(role))).c_str(),
                static_cast<long long>(roles[role].value));
  std::printf("\n");
  EXPECT_LE(plan.arena, Bytes{215'000'000});
  // Fixed scratch of odd sizes between full maps: placement stays 448 bytes above max live.
  EXPECT_LE((plan.arena - peak.lower_bound).value, plan.arena.value / 100'000);
  EXPECT_EQ(kept_elements(peak.graph), 475'136);
}

TEST(NormConvPlan, IsSoundAndReplays) {
  for (const auto& cut : {std::vector<std::int64_t>{}, {10, 10, 10}, {7, 20, 3}}) {
    TrainingChoices choices = choices_for({.depth = 16, .width = 1}, 30, true);
    choices.microbatches = cut;
    const Plan plan = plan_of(choices);
    EXPECT_EQ(check_plan(plan, registry()), std::vector<std::string>{});
    const ReplayReport report = replay(plan, registry());
    EXPECT_EQ(report.problems, std::vector<std::string>{});
    for (std::size_t i = 0; i < report.programs.size(); ++i)
      EXPECT_EQ(report.programs[i].high_water, plan.programs[i].planned) << report.programs[i].name;
  }
  EXPECT_EQ(check_plan(wide_plan(), registry()), std::vector<std::string>{});
  EXPECT_EQ(replay(wide_plan(), registry()).problems, std::vector<std::string>{});
}

TEST(NormConvPlan, HasThePersistentTensorsAndOutputsOfTheOthers) {
  const Plan conv = plan_of(choices_for({.depth = 10}, 8, true)), norm = plan_of(choices_for({.depth = 10}, 8, false));
  std::set<std::pair<std::string, Role>> ours, theirs;
  for (const PersistentTensor& tensor : conv.persistent) ours.emplace(tensor.name, tensor.role);
  for (const PersistentTensor& tensor : norm.persistent) theirs.emplace(tensor.name, tensor.role);
  EXPECT_EQ(ours, theirs);
  EXPECT_NE(conv.arithmetic_hash, norm.arithmetic_hash);
  for (std::size_t i = 0; i < conv.programs.size(); ++i)
    for (const Tensor& tensor : norm.programs[i].graph.tensors) {
      if (!tensor.is_output) continue;
      const TensorId id = conv.programs[i].graph.find(tensor.name);
      ASSERT_NE(id, kNoTensor) << tensor.name;
      EXPECT_TRUE(conv.programs[i].graph.tensors[id].is_output) << tensor.name;
    }
}

TEST(NormConvPlan, ChoiceSurvivesThePlan) {
  Plan plan = plan_of(choices_for({.depth = 10}, 8, true));
  EXPECT_EQ(plan.options.at("fuse"), "conv");
  const TrainingChoices choices = choices_of(read_plan(write_plan(plan), "plan"));
  EXPECT_TRUE(choices.fuse_convolutions);
  EXPECT_TRUE(choices.model.fuse);
  EXPECT_FALSE(choices_of(plan_of(choices_for({.depth = 10}, 8, false))).fuse_convolutions);
  plan.options["fuse"] = "all";
  EXPECT_TRUE(holds(message_of<BadInput>([&] { choices_of(plan); }), "'all'"));
  EXPECT_TRUE(holds(message_of<InvalidArgument>([] { plan_of(choices_for({.depth = 10, .fuse = false}, 8, true)); }),
                    "model.fuse"));
}

// One step of WRN-10-1 and an evaluation, from one start on the same pictures. Further steps would tell less: a value
// whose sign a last bit turns in a ReLU changes gradients by far more than rounding does.
class Trained {
 public:
  explicit Trained(const TrainingChoices& choices)
      : runtime_(plan_of(choices), registry(), memory_, {.poison = true, .canaries = true}) {
    for (const PersistentTensor& tensor : runtime_.plan().persistent)
      initialize_parameter(values(tensor.name), tensor.name, tensor.type, 3);
    const Dataset data = synthetic_data(kSteps * choices.batch, 7);
    const auto read = [&](ProgramView& outputs) { losses.push_back(outputs.as<float>("loss")[0]); };
    for (int step = 0; step < kSteps; ++step) {
      const auto fill = [&](ProgramView& inputs) { fill_in_order(data, step * choices.batch, inputs); };
      runtime_.run(kTrainProgram, {.seed = 0, .step = step, .learning_rate = 0.01f}, fill, read);
    }
    const auto fill = [&](ProgramView& inputs) {
      fill_evaluation_batch(data, (kSteps - 1) * choices.batch, evaluation_inputs(inputs));
    };
    runtime_.run(kEvaluateProgram, {}, fill, read);
  }

  std::span<float> values(const std::string& name) {
    const auto bytes = runtime_.persistent(name);
    return {reinterpret_cast<float*>(bytes.data()), bytes.size() / 4};
  }
  const Plan& plan() const { return runtime_.plan(); }

  std::vector<float> losses;

 private:
  static constexpr int kSteps = 1;
  HostMemory memory_;
  Runtime runtime_;
};

// Of the largest value of the tensor: sums in other orders.
void expect_close(Trained& a, Trained& b, double tolerance) {
  double worst = 0;
  for (const PersistentTensor& tensor : a.plan().persistent) {
    const std::span<float> left = a.values(tensor.name), right = b.values(tensor.name);
    ASSERT_EQ(left.size(), right.size());
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < left.size(); ++i) {
      largest = std::max(largest, std::fabs(static_cast<double>(right[i])));
      difference = std::max(difference, std::fabs(static_cast<double>(left[i]) - static_cast<double>(right[i])));
    }
    EXPECT_LE(difference, tolerance * largest) << tensor.name;
    if (largest > 0) worst = std::max(worst, difference / largest);
  }
  std::printf("largest difference of a weight or state, of the tensor's largest value: %.2g\n", worst);
}

TEST(NormConvTraining, GivesTheWeightsOfSeparateNormalisation) {
  Trained conv(choices_for({.depth = 10, .width = 1}, 20, true)),
      norm(choices_for({.depth = 10, .width = 1}, 20, false));
  EXPECT_EQ(conv.losses[0], norm.losses[0]);  // the forward pass has the same bits
  for (std::size_t i = 1; i < norm.losses.size(); ++i) EXPECT_NEAR(conv.losses[i], norm.losses[i], 1e-4) << i;
  expect_close(conv, norm, 1e-5);
}

TEST(NormConvTraining, BitsDoNotDependOnTheThreadCount) {
  TrainingChoices one = choices_for({.depth = 10, .width = 1}, 20, true), three = one;
  one.device.threads = 1;
  three.device.threads = 3;
  Trained a(one), b(three);
  EXPECT_EQ(a.losses, b.losses);
  for (const PersistentTensor& tensor : a.plan().persistent)
    EXPECT_TRUE(std::ranges::equal(a.values(tensor.name), b.values(tensor.name))) << tensor.name;
}

}  // namespace
}  // namespace thimble
