// The bits of a real network do not depend on where its bytes lie.
#include <gtest/gtest.h>

#include "../scheduler/other_placements.h"
#include "thimble/ops.h"
#include "thimble/trainer.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

constexpr std::int64_t kSteps = 3;

std::map<std::string, std::string> train(const Plan& plan, const OpRegistry& registry, const Dataset& data) {
  HostMemory memory;
  Runtime runtime(plan, registry, memory, {.poison = true, .canaries = true});  // refuses what check_plan finds
  Trainer trainer(runtime, data, data, {.steps = kSteps, .seed = 4});
  trainer.initialize();
  while (!trainer.is_done()) trainer.step();
  std::map<std::string, std::string> bits;
  for (const PersistentTensor& tensor : plan.persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    bits[tensor.name].assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return bits;
}

std::size_t moved(const Plan& from, const Plan& to) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < from.persistent.size(); ++i)
    count += from.persistent[i].offset != to.persistent[i].offset ? 1U : 0U;
  const Schedule &before = from.program(kTrainProgram).schedule, &after = to.program(kTrainProgram).schedule;
  for (std::size_t i = 0; i < before.storages.size(); ++i) {
    const auto id = static_cast<StorageId>(i);
    count += !before.storages[id].persistent && before.storages[id].offset != after.storages[id].offset ? 1U : 0U;
  }
  return count;
}

TEST(WideResNetBits, AreThoseOfAnyValidPlacement) {
  OpRegistry registry;
  register_ops(registry);
  const Dataset data = synthetic_data(21, 3);  // two batches and a short one
  for (const auto& [fuse, cut] : {std::pair{true, std::vector<std::int64_t>{}}, {false, {}}, {true, {3, 5}}}) {
    TrainingChoices choices{.model = {.depth = 10, .width = 1, .fuse = fuse},
                            .batch = 8,
                            .microbatches = cut,
                            .train_samples = 21,
                            .test_samples = 21};
    choices.device.threads = 2;
    const Plan plan = make_plan(request_training(choices, registry), registry);
    const auto expected = train(plan, registry, data);
    const std::size_t all = plan.program(kTrainProgram).schedule.storages.size();
    for (const auto& change : {testing::turn_over, testing::spread_out}) {
      Plan other = plan;
      change(other);
      EXPECT_EQ(check_plan(other, registry), std::vector<std::string>{});
      EXPECT_GT(moved(plan, other), all * 3 / 4);
      const auto bits = train(other, registry, data);
      for (const auto& [name, bytes] : expected) EXPECT_TRUE(bits.at(name) == bytes) << name;
    }
  }
}

}  // namespace
}  // namespace thimble
