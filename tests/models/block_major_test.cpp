// Block-major order on a real network: the bits of microbatch-major order, in other bytes.
#include <gtest/gtest.h>

#include "all_ops.h"
#include "thimble/planner.h"
#include "thimble/recompute.h"
#include "thimble/replay.h"
#include "thimble/trainer.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

TrainingChoices small_net(std::vector<std::int64_t> cut) {
  TrainingChoices choices{.model = {.depth = 16, .width = 1, .dropout = 0.3},
                          .batch = 6,
                          .microbatches = std::move(cut),
                          .train_samples = 16,  // two batches and a short one, which is cut too
                          .test_samples = 6};
  choices.device.threads = 2;
  return choices;
}

// Weights, optimizer state and running statistics after an epoch and a half, and the losses on the way.
std::string train(const Plan& plan) {
  const Dataset data = synthetic_data(16, 3), test = synthetic_data(6, 4);
  HostMemory memory;
  Runtime runtime(plan, registry(), memory, {.poison = true, .canaries = true});  // refuses what check_plan finds
  Trainer trainer(runtime, data, test, {.steps = 5, .seed = 4});
  trainer.initialize();
  std::string bits;
  while (!trainer.is_done()) bits += std::to_string(trainer.step().loss) + " ";
  for (const PersistentTensor& tensor : plan.persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    bits.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return bits;
}

// The request with its loops split at every `period`-th place.
PlanRequest split(PlanRequest request, std::size_t period, std::int32_t rank) {
  const Graph step = request.programs.front().graph;
  const Graph cut = accumulate_over_microbatches(step, registry());
  const std::vector<TensorId> splits = loop_splits(cut, recompute_basis(cut, registry()));
  EXPECT_GT(splits.size(), 5U);
  for (ProgramRequest& program : request.programs) {
    if (program.name != kTrainProgram && program.name != kTrainShortProgram) continue;
    for (std::size_t i = period; i <= splits.size(); i += period)
      program.splits.push_back({splits[i - 1], period == 2 && i + period <= splits.size()});
    program.ranks = keep_everything(step);
    for (std::int32_t& one : program.ranks) one = rank;
  }
  return request;
}

TEST(WideResNetBlockMajor, TrainsWithTheBitsOfMicrobatchMajorOrder) {
  for (const bool fuse : {false, true})
    for (const bool in_momentum : {false, true}) {
      TrainingChoices choices = small_net({2, 3, 1});
      choices.fuse_convolutions = fuse;
      choices.sgd.nesterov = !in_momentum;
      choices.sgd.accumulate_in_momentum = in_momentum;
      PlanRequest request = request_training(choices, registry());
      // How wide slices are depends on the peak, and is arithmetic.
      for (ProgramRequest& program : request.programs) program.spend_slack = false;
      const Plan plain = make_plan(request, registry());
      const std::string expected = train(plain);
      for (const auto& [period, rank] : {std::pair<std::size_t, std::int32_t>{1, 0}, {2, 1}, {4, kOnDemand}}) {
        const Plan plan = make_plan(split(request, period, rank), registry());
        EXPECT_EQ(plan.arithmetic_hash, plain.arithmetic_hash);
        EXPECT_EQ(replay(plan, registry()).problems, std::vector<std::string>{});
        EXPECT_NE(plan.program(kTrainProgram).schedule.order.size(),
                  plain.program(kTrainProgram).schedule.order.size());
        EXPECT_NE(plan.program(kTrainShortProgram).schedule, plain.program(kTrainShortProgram).schedule);
        EXPECT_TRUE(train(plan) == expected) << fuse << in_momentum << " every " << period;
      }
    }
}

}  // namespace
}  // namespace thimble
