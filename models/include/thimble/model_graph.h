// What the graphs of all models have in common.
#pragma once

#include <cstdint>

#include "thimble/graph.h"

namespace thimble {

/// In `evaluate`, batch normalisation uses the running statistics and nothing is dropped. Persistent tensors have the
/// same names in both.
enum class Mode : std::uint8_t { train, evaluate };

/// Elements of all weights that are given from outside; statistics and optimizer state are not counted.
std::int64_t parameter_count(const Graph& graph);

}  // namespace thimble
