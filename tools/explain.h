// A plan's decisions in words: what was cut or made again, what that bought in bytes and cost in time.
#pragma once

#include <string>

#include "thimble/calibration.h"
#include "thimble/plan.h"

namespace thimble {

/// One line per decision of the training step, largest saving first. A value that is made again buys its bytes if it
/// would lie in the arena at the peak step, were it kept; time is the prediction for what runs again. Where a budget
/// cut the batch and its statistics, what those of the whole batch would take.
std::string explain(const Plan& plan, const OpRegistry& registry, const CalibrationTable* calibration = nullptr);

}  // namespace thimble
