#include "thimble/learning_rate.h"

#include <cmath>
#include <numbers>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr double kDecay = 0.2, kMilestones[] = {0.3, 0.6, 0.8}, kWarmUp = 0.05;

}  // namespace

float LearningRateSchedule::at(std::int64_t step, std::int64_t total_steps) const {
  const double done = static_cast<double>(step) / static_cast<double>(total_steps);
  double rate = base;
  if (kind == Kind::step)
    for (double milestone : kMilestones)
      if (done >= milestone) rate *= kDecay;
  if (kind == Kind::cosine) {
    const double progress = (done - kWarmUp) / (1 - kWarmUp);
    rate *= done < kWarmUp ? (done + 1.0 / static_cast<double>(total_steps)) / kWarmUp
                           : 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
  return static_cast<float>(rate);
}

LearningRateSchedule::Kind parse_schedule(const std::string& name) {
  if (name == "step") return LearningRateSchedule::Kind::step;
  if (name == "cosine") return LearningRateSchedule::Kind::cosine;
  if (name == "constant") return LearningRateSchedule::Kind::constant;
  throw InvalidArgument("learning rate: there is no schedule '" + name + "'; there are step, cosine, constant");
}

}  // namespace thimble
