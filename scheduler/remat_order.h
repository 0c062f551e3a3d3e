// Orders in which every op runs once.
#pragma once

#include "remat_graph.h"

namespace thimble::remat {

/// List scheduling: of the ops that are ready the one after which least is held.
Sequence lean_order(const Graph& graph);

/// From `start`, an order with as few bytes above the budget, summed over its steps, as `effort_limit` steps looked at
/// find.
Sequence packed_order(const Graph& graph, std::int64_t budget, Sequence start, std::int64_t effort_limit);

}  // namespace thimble::remat
