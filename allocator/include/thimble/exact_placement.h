// Exact placement: does a problem fit into a capacity, and how small can its peak be, each with a proof where there
// is one.
//
//   CapacityAnswer answer = place_into(problem, 1_MiB, 1'000'000);
//   if (answer.verdict == CapacityAnswer::Verdict::kPlaced) use(answer.placement.offsets);
//   MinimizedPlacement best = minimize_peak(problem, 1'000'000);
//   assert(best.placement.peak == best.placement.lower_bound || !best.proven_optimal);
//
// Both stop after a counted number of search nodes, never after a time: same problem and limit, same bytes out. A
// larger limit goes on where a smaller one ends. Alignment and fixed offsets are kept; a size counts rounded
// up to the alignment, in a capacity as in a peak. Groups above kMostExactBuffers are placed by place_buffers' orders
// alone.
#pragma once

#include <cstdint>

#include "thimble/placement.h"

namespace thimble {

inline constexpr std::size_t kMostExactBuffers = 5'000;

struct CapacityAnswer {
  enum class Verdict {
    kPlaced,
    kInfeasible,  ///< proven: no placement ends at or below the capacity
    kNotFound,    ///< neither found nor refuted within the node limit
  };
  Verdict verdict = Verdict::kNotFound;
  Placement placement;     ///< where kPlaced; else without offsets
  Bytes lower_bound;       ///< no placement has a smaller peak; above the capacity where kInfeasible
  std::int64_t nodes = 0;  ///< looked at; 0 where a greedy order or max live decided
};

/// Throws as place_buffers does.
CapacityAnswer place_into(const PlacementProblem& problem, Bytes capacity, std::int64_t node_limit);

struct MinimizedPlacement {
  Placement placement;  ///< never worse than place_buffers'; its lower bound may be above max live
  bool proven_optimal = false;
  std::int64_t nodes = 0;
};

/// The best placement found within `node_limit` nodes; more nodes never make it worse. Throws as place_buffers does.
MinimizedPlacement minimize_peak(const PlacementProblem& problem, std::int64_t node_limit);

}  // namespace thimble
