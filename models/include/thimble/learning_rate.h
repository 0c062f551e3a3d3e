// The learning rate as a function of the step.
//
//   LearningRateSchedule schedule{.base = 0.1};
//   schedule.at(step, total_steps);
#pragma once

#include <cstdint>
#include <string>

namespace thimble {

struct LearningRateSchedule {
  enum class Kind : std::uint8_t { step, cosine, constant };
  double base = 0.1;
  Kind kind = Kind::step;
  /// step: times 0.2 at 30, 60 and 80 % of the run (the recipe's epochs 60, 120, 160 of 200). cosine: a linear warm-up
  /// over the first 5 %, then half a cosine down to zero.
  float at(std::int64_t step, std::int64_t total_steps) const;
};

/// Throws InvalidArgument for an unknown name.
LearningRateSchedule::Kind parse_schedule(const std::string& name);

}  // namespace thimble
