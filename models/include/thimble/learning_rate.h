// Learning rate as a function of the step: nothing to save, nothing to resume.
//
//   LearningRateSchedule schedule{.base = 0.1};          // x0.2 at 30, 60 and 80 % of the run
//   schedule.at(/*step=*/0, /*total_steps=*/1000) == 0.1f;
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

/// `one_cycle` rises linearly for a quarter of the run, then falls to zero along half a cosine: good for short runs.
enum class ScheduleKind : std::uint8_t { step, cosine, one_cycle, constant };

/// "step", "cosine", "one_cycle", "constant". Throws InvalidArgument on others.
ScheduleKind parse_schedule(std::string_view text);

struct LearningRateSchedule {
  double base = 0.1;
  ScheduleKind kind = ScheduleKind::step;
  double factor = 0.2;                            ///< `step`: at each milestone
  std::vector<double> milestones{0.3, 0.6, 0.8};  ///< fractions of the run: 60, 120 and 160 of 200 epochs
  double warmup = 0;                              ///< fraction of the run that rises linearly from near zero

  /// The rate of step `step`, counted from 0, of `total_steps`.
  float at(std::int64_t step, std::int64_t total_steps) const;
};

/// "0.1 step x0.2 at 0.3 0.6 0.8", "0.05 cosine, warmup 0.1": equal texts are equal schedules.
std::string to_string(const LearningRateSchedule& schedule);

}  // namespace thimble
