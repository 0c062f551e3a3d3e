// What `plan` prints: the summary of a plan as JSON, and as a table for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "thimble/calibration.h"
#include "thimble/planner.h"

namespace thimble {

/// Which samples a training step's normalisations take their statistics from, as the end of a sentence; empty for a
/// plan without the option `norm`.
std::string statistics_text(const Plan& plan);

/// The fields of `plan --json`. Bytes are integers, padded to the alignment. Where a budget is missed: fits false, the
/// smallest arena, the bound and the tensors that force it.
nlohmann::ordered_json plan_report(const PlanOrNo& answer, const OpRegistry& registry,
                                   const CalibrationTable* calibration = nullptr);
/// Repeats over the microbatches: 0 without a cut, 1 in microbatch-major order, more in block-major order.
std::int64_t count_loops(const Program& program);
std::string plan_table(const nlohmann::ordered_json& report);

}  // namespace thimble
