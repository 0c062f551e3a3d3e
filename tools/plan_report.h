// What `plan` prints: the summary of a plan as JSON, and as a table for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "thimble/plan.h"

namespace thimble {

/// The fields of `plan --json`. Bytes are integers, padded to the alignment. With a budget that is missed:
/// fits false, the smallest arena, the bound and the tensors that force it.
nlohmann::ordered_json plan_report(const Plan& plan, const OpRegistry& registry);
std::string plan_table(const nlohmann::ordered_json& report);
bool fits(const Plan& plan);

}  // namespace thimble
