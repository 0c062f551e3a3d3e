// Best-first search over resident sets (A*), exact: it proves optima, lower bounds and that nothing fits.
#pragma once

#include <optional>

#include "remat_graph.h"

namespace thimble::remat {

struct SearchOutcome {
  Sequence sequence;  ///< the cheapest schedule, where one within the cap was found
  bool found = false;
  bool exhausted = false;  ///< looked everywhere: without a schedule found, none costs `cap` or less
  Cost lower_bound = 0;    ///< no schedule costs less, whatever the outcome
  std::int64_t nodes = 0;  ///< states looked at
};

inline constexpr std::int32_t kLargestSearch = 256;  ///< tensors a state can hold

/// Looks for the cheapest schedule of cost <= `cap`, looking at about `node_limit` states at most. The graph has at
/// most kLargestSearch tensors, and its goal can be made.
SearchOutcome search_exact(const Graph& graph, std::int64_t budget, Cost cap, std::int64_t node_limit);

inline constexpr std::int32_t kLargestFeasibility = 1024;

/// Looks for any schedule, whatever it costs. Exhausted without one found: nothing fits the budget. The graph has at
/// most kLargestFeasibility tensors.
SearchOutcome search_feasible(const Graph& graph, std::int64_t budget, std::int64_t node_limit);

/// The same for one run of `op`. Exhausted without one found: the op never runs.
SearchOutcome search_one_run(const Graph& graph, std::int64_t budget, std::int32_t op, std::int64_t node_limit);

/// The same as search_exact, from the end: faster where the budget is tight.
SearchOutcome search_backwards(const Graph& graph, std::int64_t budget, Cost cap, std::int64_t node_limit);

/// Beam search over the same states: per depth the `width` most promising that
/// may cost `cap` or less. Empty where nothing is found.
std::optional<Sequence> search_beam(const Graph& graph, std::int64_t budget, Cost cap, std::int32_t width,
                                    std::int64_t node_limit);

}  // namespace thimble::remat
