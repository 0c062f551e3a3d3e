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
/// `inverse_sqrt` rises linearly from 1e-7 for `warmup_steps`, then falls as 1 / sqrt(step): fairseq's, whatever the
/// run's length.
enum class ScheduleKind : std::uint8_t { step, cosine, one_cycle, constant, inverse_sqrt };

/// "step", "cosine", "one_cycle", "constant", "inverse_sqrt". Throws InvalidArgument on others.
ScheduleKind parse_schedule(std::string_view text);

struct LearningRateSchedule {
  double base = 0.1;
  ScheduleKind kind = ScheduleKind::step;
  double factor = 0.2;                            ///< `step`: at each milestone
  std::vector<double> milestones{0.3, 0.6, 0.8};  ///< fractions of the run: 60, 120 and 160 of 200 epochs
  double warmup = 0;                 ///< fraction of the run that rises linearly from near zero; not of `inverse_sqrt`
  std::int64_t warmup_steps = 4000;  ///< `inverse_sqrt`

  /// The rate of step `step`, counted from 0, of `total_steps`.
  float at(std::int64_t step, std::int64_t total_steps) const;
};

/// "0.1 step x0.2 at 0.3 0.6 0.8", "0.05 cosine, warmup 0.1", "5e-04 inverse_sqrt, warmup 4000 steps": equal texts are
/// equal schedules.
std::string to_string(const LearningRateSchedule& schedule);

}  // namespace thimble
