// Where a budget is missed: what its owner could allow to go lower.
#pragma once

#include <nlohmann/json.hpp>

#include "model_options.h"

namespace thimble {

/// One object {option, arena_bytes, predicted_ms, fits} for each allowance with which the smallest arena is below
/// `smallest`: those that fit come first, the fastest of them first; then the others, the smallest first.
nlohmann::ordered_json advise(const ModelOptions& options, Bytes smallest);

}  // namespace thimble
