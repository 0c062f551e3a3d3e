#include "thimble/wide_resnet.h"

#include <gtest/gtest.h>

#include "all_ops.h"
#include "thimble/error.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

TEST(WideResNet, HasTheParametersOfItsAuthors) {
  const auto count = [](const char* name) {
    return parameter_count(build_wide_resnet(parse_wide_resnet(name), registry(), 1, Mode::train));
  };
  EXPECT_EQ(count("wrn-28-2"), 1467610);
  EXPECT_EQ(count("wrn-28-10"), 36479194);
  EXPECT_EQ(count("wrn-16-4"), 2748890);
}

TEST(WideResNet, RefusesNamesThatBreakTheRule) {
  for (const char* name : {"wrn-27-2", "wrn-28", "wrn-28-0", "wrn-4-1", "resnet", "wrn-28-2x", "wrn--28-2"})
    EXPECT_THROW(parse_wide_resnet(name), InvalidArgument) << name;
}

Plan plan_of(std::int64_t batch, bool fuse, std::vector<std::int64_t> cut = {}) {
  TrainingChoices choices;
  choices.model.fuse = fuse;
  choices.batch = batch;
  choices.microbatches = std::move(cut);
  choices.device.threads = 2;
  return make_plan(request_training(choices, registry()), registry());
}

TEST(WideResNetPlan, StaysBelow396MegabytesWithoutRecomputation) {
  for (bool fuse : {true, false}) EXPECT_LE(plan_of(100, fuse).arena, Bytes{396'000'000});
}

TEST(WideResNetPlan, ReachesItsLowerBound) {
  for (std::int64_t batch : {1, 10, 100})
    for (bool fuse : {true, false}) {
      const Plan plan = plan_of(batch, fuse);
      EXPECT_EQ(plan.arena, peak_program(plan).lower_bound) << "batch " << batch;
    }
}

TEST(WideResNetPlan, CheckerAcceptsEveryCut) {
  for (const auto& cut : {std::vector<std::int64_t>{}, {10, 10, 10}, {7, 20, 3}})
    EXPECT_EQ(check_plan(plan_of(30, true, cut), registry()), std::vector<std::string>{});
}

TEST(WideResNetPlan, MicrobatchesNeedLess) {
  EXPECT_LT(plan_of(100, true, cut_evenly(100, 10)).arena, Bytes{70'000'000});
}

TEST(WideResNetPlan, ChoicesSurviveThePlan) {
  const Plan plan = plan_of(30, false, {10, 20});
  const TrainingChoices choices = choices_of(read_plan(write_plan(plan), "plan"));
  EXPECT_EQ(choices.model, (WideResNet{.fuse = false}));
  EXPECT_EQ(choices.microbatches, (std::vector<std::int64_t>{10, 20}));
  EXPECT_EQ(choices.sgd, SgdOptions{});
}

TEST(WideResNetPlan, NormSurvivesThePlan) {
  TrainingChoices choices{.model = {.depth = 10, .width = 1, .norm = Norm::group}, .batch = 8};
  Plan plan = make_plan(request_training(choices, registry()), registry());
  EXPECT_EQ(plan.options.at("norm"), "group");
  EXPECT_EQ(choices_of(read_plan(write_plan(plan), "plan")).model, choices.model);
  choices.model.norm = Norm::batch;
  const Plan other = make_plan(request_training(choices, registry()), registry());
  EXPECT_EQ(other.options.at("norm"), "batch");
  EXPECT_NE(other.arithmetic_hash, plan.arithmetic_hash);
  plan.options["norm"] = "layer";
  EXPECT_THROW(choices_of(plan), BadInput);
}

}  // namespace
}  // namespace thimble
