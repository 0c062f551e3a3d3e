// Finds where to split the loop over microbatches: block-major choices for one cut of the batch.
#pragma once

#include <vector>

#include "op_prices.h"
#include "thimble/recompute.h"
#include "thimble/schedule.h"

namespace thimble {

struct LoopChoice {
  std::size_t ranks = 0;  ///< which of those that were offered
  std::vector<LoopSplit> splits;
  std::vector<OpId> steps;
  std::vector<Bytes> live;  ///< at each of the steps, persistent ones included
};

/// For a few of `ranks` the splits that are best at some exchange rate of bytes and time, one change at a time. What a
/// split can save are sums over microbatches: where a value has more bytes for the whole batch than all of these
/// together, the loop is not split there. Counted, not timed: the same graph gives the same list. `options` say the cut
/// and the workspaces.
std::vector<LoopChoice> search_loops(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                                     const RecomputeBasis& basis, const ScheduleOptions& options,
                                     const std::vector<RecomputeRanks>& ranks, const IdVector<OpId, OpPrice>& prices,
                                     std::vector<std::vector<LoopSplit>>& known);

}  // namespace thimble
