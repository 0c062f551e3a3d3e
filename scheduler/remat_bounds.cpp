// What no schedule can do better than.
#include <algorithm>

#include "remat_search.h"
#include "remat_solver.h"
#include "remat_state.h"

namespace thimble::remat {
namespace {

template <int W>
Cost bound_of(const Graph& graph, std::int64_t budget) {
  StateView<W> view(graph, budget);
  view.look_at(TensorSet<W>{});
  return view.needs().cost + view.forced_recomputation(TensorSet<W>{});
}

// Ops that run in every schedule, where every tensor has one producer: those the goal's order holds.
Cost sum_of_needed(const Graph& graph) { return graph.has_alternatives ? 0 : sequence_cost(graph, graph.order); }

}  // namespace

Cost cost_bound(const Graph& graph, std::int64_t budget) {
  if (graph.tensors() <= 64) return bound_of<1>(graph, budget);
  if (graph.tensors() <= 128) return bound_of<2>(graph, budget);
  if (graph.tensors() <= kLargestSearch) return bound_of<4>(graph, budget);
  if (graph.tensors() <= 1024) return bound_of<16>(graph, budget);
  if (graph.tensors() <= 2048) return bound_of<32>(graph, budget);
  return sum_of_needed(graph);
}

std::int64_t budget_bound(const Graph& graph) {
  std::int64_t bound = 0, kept = 0;
  for (std::size_t t = 0; t < graph.bytes.size(); ++t) kept += graph.keep[t] ? graph.bytes[t] : 0;
  bound = kept;
  if (!graph.has_alternatives)
    for (std::int32_t op : graph.order) bound = std::max(bound, graph.need[static_cast<std::size_t>(op)]);
  // The last to make something of what a tensor needs: with alternatives, the cheapest of its producers.
  for (std::size_t t = 0; t < graph.bytes.size(); ++t) {
    if (!graph.keep[t]) continue;
    std::int64_t least = INT64_MAX;
    for (std::int32_t p : graph.producers[t]) least = std::min(least, graph.need[static_cast<std::size_t>(p)]);
    if (!graph.producers[t].empty()) bound = std::max(bound, least);
  }
  return bound;
}

}  // namespace thimble::remat
