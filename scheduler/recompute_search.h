// Finds which values to keep: a list of rank vectors, each the cheapest found for its bytes.
#pragma once

#include <vector>

#include "op_prices.h"
#include "thimble/recompute.h"
#include "thimble/schedule.h"

namespace thimble {

struct RecomputeOption {
  RecomputeRanks ranks;
  Bytes live;          ///< most bytes live at a step, persistent ones included
  double seconds = 0;  ///< of recomputation
};

/// Pareto optimal among what was looked at, most bytes first: the first keeps everything. Local search over ranks under
/// the exact schedule, from what the chain of blocks chooses (`block_options.h`), for a ladder of exchange rates
/// between bytes and time and one of rooms; no budget enters. Counted in evaluations, so the same graph gives the same
/// list. `options` says the cut.
std::vector<RecomputeOption> search_recompute(const Graph& graph, const OpRegistry& registry,
                                              const ScheduleOptions& options, const IdVector<OpId, OpPrice>& prices,
                                              int most_evaluations);

}  // namespace thimble
