#include "thimble/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "plan_options.h"
#include "thimble/error.h"

namespace thimble {
namespace {

constexpr double kRise = 0.25;  // of a one-cycle run

constexpr double kFirstRate = 1e-7;  // where inverse_sqrt begins, as in the recipe

double inverse_sqrt(double base, std::int64_t step, std::int64_t warmup) {
  const auto now = static_cast<double>(step), rising = static_cast<double>(warmup);
  if (step < warmup) return kFirstRate + (base - kFirstRate) * now / rising;
  return base * std::sqrt(std::max(rising, 1.0) / std::max(now, 1.0));
}

double half_cosine(double part) { return 0.5 * (1 + std::cos(std::numbers::pi * part)); }

}  // namespace

ScheduleKind parse_schedule(std::string_view text) {
  if (text == "step") return ScheduleKind::step;
  if (text == "cosine") return ScheduleKind::cosine;
  if (text == "one_cycle") return ScheduleKind::one_cycle;
  if (text == "constant") return ScheduleKind::constant;
  if (text == "inverse_sqrt") return ScheduleKind::inverse_sqrt;
  throw InvalidArgument("schedule '" + std::string(text) +
                        "' is unknown; there are step, cosine, one_cycle, constant, inverse_sqrt");
}

float LearningRateSchedule::at(std::int64_t step, std::int64_t total_steps) const {
  if (kind == ScheduleKind::inverse_sqrt) return static_cast<float>(inverse_sqrt(base, step, warmup_steps));
  const auto total = static_cast<double>(std::max<std::int64_t>(total_steps, 1));
  const double part = static_cast<double>(step) / total;
  double rate = base;
  if (kind == ScheduleKind::step)
    for (double milestone : milestones)
      if (static_cast<double>(step) >= std::round(milestone * total)) rate *= factor;
  if (kind == ScheduleKind::cosine) rate *= half_cosine(part);
  if (kind == ScheduleKind::one_cycle) rate *= part >= kRise ? half_cosine((part - kRise) / (1 - kRise)) : 1.0;
  // The first step of a rise already moves.
  const double rise = kind == ScheduleKind::one_cycle ? kRise : warmup;
  const double rising_steps = rise * total;
  if (static_cast<double>(step + 1) < rising_steps) rate *= static_cast<double>(step + 1) / rising_steps;
  return static_cast<float>(rate);
}

std::string to_string(const LearningRateSchedule& schedule) {
  constexpr const char* kNames[] = {"step", "cosine", "one_cycle", "constant", "inverse_sqrt"};
  std::string text = number_text(schedule.base) + " " + kNames[static_cast<std::size_t>(schedule.kind)];
  if (schedule.kind == ScheduleKind::step) {
    text += " x" + number_text(schedule.factor) + " at";
    for (double milestone : schedule.milestones) text += " " + number_text(milestone);
  }
  if (schedule.kind == ScheduleKind::inverse_sqrt)
    return text + ", warmup " + std::to_string(schedule.warmup_steps) + " steps";
  if (schedule.kind != ScheduleKind::one_cycle && schedule.warmup != 0)
    text += ", warmup " + number_text(schedule.warmup);
  return text;
}

}  // namespace thimble
