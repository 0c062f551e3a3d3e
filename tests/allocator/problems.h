// Tiny named problems and a generator of random ones, shared by the tests of placement.
#pragma once

#include <string>
#include <vector>

#include "thimble/placement.h"

namespace thimble::testing {

inline Buffer buffer(std::string name, std::int32_t begin, std::int32_t end, std::int64_t size,
                     std::optional<Offset> fixed = {}) {
  return {std::move(name), {Step{begin}, Step{end}}, Bytes{size}, fixed};
}

/// Forward and backward pass of `layers` layers: activation i lives until its backward step, gradients for two.
inline PlacementProblem chain(std::int32_t layers) {
  PlacementProblem problem;
  const std::int32_t last = 2 * layers;
  for (std::int32_t i = 0; i < layers; ++i) {
    const std::int64_t size = 100 + 37 * ((i * 7) % 5);
    problem.buffers.push_back(buffer("a" + std::to_string(i), i, last - i, size));
    problem.buffers.push_back(buffer("g" + std::to_string(i), last - i - 1, last - i + 1, size));
  }
  return problem;
}

/// Lifetimes such that no placement reaches max live for some greedy orders: interlocking blocks.
inline PlacementProblem interlocked() {
  return {{buffer("a", 0, 3, 4), buffer("b", 3, 9, 4), buffer("c", 0, 9, 4), buffer("d", 9, 21, 4),
           buffer("e", 0, 21, 4)},
          Bytes{1}};
}

}  // namespace thimble::testing
