#include "thimble/learning_rate.h"

#include <gtest/gtest.h>

#include "thimble/error.h"

namespace thimble {
namespace {

TEST(LearningRate, StepsDownWhereTheRecipeDoes) {
  const LearningRateSchedule schedule{.base = 0.1};
  const std::int64_t per_epoch = 391, total = 200 * per_epoch;
  const auto rate = [&](std::int64_t epoch, std::int64_t step) { return schedule.at(epoch * per_epoch + step, total); };
  EXPECT_FLOAT_EQ(rate(0, 0), 0.1f);
  EXPECT_FLOAT_EQ(rate(60, -1), 0.1f);
  EXPECT_FLOAT_EQ(rate(60, 0), 0.02f);
  EXPECT_FLOAT_EQ(rate(120, -1), 0.02f);
  EXPECT_FLOAT_EQ(rate(120, 0), 0.004f);
  EXPECT_FLOAT_EQ(rate(160, -1), 0.004f);
  EXPECT_FLOAT_EQ(rate(160, 0), 0.0008f);
  EXPECT_FLOAT_EQ(rate(200, -1), 0.0008f);
}

TEST(LearningRate, WarmupRisesToTheBase) {
  const LearningRateSchedule schedule{.base = 1, .kind = ScheduleKind::constant, .warmup = 0.1};
  EXPECT_FLOAT_EQ(schedule.at(0, 100), 0.1f);
  EXPECT_FLOAT_EQ(schedule.at(4, 100), 0.5f);
  EXPECT_FLOAT_EQ(schedule.at(9, 100), 1.0f);
  EXPECT_FLOAT_EQ(schedule.at(99, 100), 1.0f);
}

TEST(LearningRate, CosineFallsToNearZero) {
  const LearningRateSchedule schedule{.base = 2, .kind = ScheduleKind::cosine};
  EXPECT_FLOAT_EQ(schedule.at(0, 100), 2.0f);
  EXPECT_FLOAT_EQ(schedule.at(50, 100), 1.0f);
  EXPECT_LT(schedule.at(99, 100), 0.001f);
}

TEST(LearningRate, OneCycleRisesThenFalls) {
  const LearningRateSchedule schedule{.base = 1, .kind = ScheduleKind::one_cycle};
  EXPECT_FLOAT_EQ(schedule.at(0, 100), 0.04f);
  EXPECT_FLOAT_EQ(schedule.at(24, 100), 1.0f);
  for (std::int64_t step = 26; step < 100; ++step) EXPECT_LT(schedule.at(step, 100), schedule.at(step - 1, 100));
  EXPECT_LT(schedule.at(99, 100), 0.01f);
}

// fairseq: the first update has the initial rate, update 4000 the base, update 16000 half of it; a run's length has no
// say.
TEST(LearningRate, InverseSqrtIsTheRecipes) {
  const LearningRateSchedule schedule{.base = 5e-4, .kind = ScheduleKind::inverse_sqrt};
  for (std::int64_t total : {1, 50000}) {
    EXPECT_FLOAT_EQ(schedule.at(0, total), 1e-7f);
    EXPECT_FLOAT_EQ(schedule.at(2000, total), 2.5005e-4f);
    EXPECT_FLOAT_EQ(schedule.at(4000, total), 5e-4f);
    EXPECT_FLOAT_EQ(schedule.at(16000, total), 2.5e-4f);
  }
  const LearningRateSchedule at_once{.base = 1, .kind = ScheduleKind::inverse_sqrt, .warmup_steps = 0};
  EXPECT_FLOAT_EQ(at_once.at(0, 9), 1.0f);
  EXPECT_FLOAT_EQ(at_once.at(4, 9), 0.5f);
}

TEST(LearningRate, KnowsItsSchedules) {
  EXPECT_EQ(parse_schedule("inverse_sqrt"), ScheduleKind::inverse_sqrt);
  EXPECT_EQ(parse_schedule("cosine"), ScheduleKind::cosine);
  EXPECT_THROW(parse_schedule("cosin"), InvalidArgument);
}

TEST(LearningRate, TextHoldsWhatDecidesARate) {
  EXPECT_EQ(to_string(LearningRateSchedule{}), "0.1 step x0.2 at 0.3 0.6 0.8");
  EXPECT_EQ(to_string(LearningRateSchedule{.base = 0.05, .kind = ScheduleKind::one_cycle}), "0.05 one_cycle");
  EXPECT_EQ(to_string(LearningRateSchedule{.kind = ScheduleKind::cosine, .warmup = 0.25}), "0.1 cosine, warmup 0.25");
  EXPECT_EQ(to_string(LearningRateSchedule{.base = 0.5, .kind = ScheduleKind::inverse_sqrt}),
            "0.5 inverse_sqrt, warmup 4000 steps");
}

}  // namespace
}  // namespace thimble
