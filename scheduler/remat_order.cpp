// Schedules that run nothing twice: the problem's own order, and orders that hold little at a time.
#include "remat_order.h"

#include <algorithm>

#include "remat_solver.h"

namespace thimble::remat {
namespace {

// Steps of orders looked at, per start and aim: 40 moves of each op over half the order, up to a limit.
std::int64_t packing_effort(const Graph& graph) {
  const auto n = static_cast<std::int64_t>(graph.order.size());
  return std::min<std::int64_t>(20 * n * n, 5'000'000);
}

}  // namespace

// Ties by what was made last, then by place.
Sequence lean_order(const Graph& graph) {
  const std::size_t n = graph.bytes.size();
  std::vector<std::int32_t> missing(graph.cost.size(), 0), readers(n, 0), age(n, 0);
  std::vector<char> is_in_order(graph.cost.size(), 0), made(n, 0);
  for (std::int32_t op : graph.order) is_in_order[static_cast<std::size_t>(op)] = 1;
  std::vector<std::int32_t> ready;
  for (std::int32_t op : graph.order) {
    const auto o = static_cast<std::size_t>(op);
    missing[o] = static_cast<std::int32_t>(graph.in[o].size());
    for (std::int32_t t : graph.in[o]) ++readers[static_cast<std::size_t>(t)];
    if (missing[o] == 0) ready.push_back(op);
  }
  Sequence order;
  while (!ready.empty()) {
    std::size_t best = 0;
    std::int64_t best_growth = INT64_MAX;
    std::int32_t best_age = -1;
    for (std::size_t i = 0; i < ready.size(); ++i) {
      const auto o = static_cast<std::size_t>(ready[i]);
      std::int64_t growth = 0;
      std::int32_t newest = 0;
      for (std::int32_t t : graph.out[o])
        if (!made[static_cast<std::size_t>(t)] &&
            (graph.keep[static_cast<std::size_t>(t)] || readers[static_cast<std::size_t>(t)] > 0))
          growth += graph.bytes[static_cast<std::size_t>(t)];
      for (std::int32_t t : graph.in[o]) {
        newest = std::max(newest, age[static_cast<std::size_t>(t)]);
        if (readers[static_cast<std::size_t>(t)] == 1 && !graph.keep[static_cast<std::size_t>(t)])
          growth -= graph.bytes[static_cast<std::size_t>(t)];
      }
      if (growth > best_growth || (growth == best_growth && newest <= best_age)) continue;
      best = i;
      best_growth = growth;
      best_age = newest;
    }
    const auto op = static_cast<std::size_t>(ready[best]);
    ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(best));
    order.push_back(static_cast<std::int32_t>(op));
    for (std::int32_t t : graph.in[op]) --readers[static_cast<std::size_t>(t)];
    for (std::int32_t t : graph.out[op]) {
      if (made[static_cast<std::size_t>(t)]) continue;
      made[static_cast<std::size_t>(t)] = 1;
      age[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(order.size());
      for (std::int32_t reader : graph.consumers[static_cast<std::size_t>(t)])
        if (is_in_order[static_cast<std::size_t>(reader)] && --missing[static_cast<std::size_t>(reader)] == 0)
          ready.push_back(reader);
    }
    std::sort(ready.begin(), ready.end());
  }
  return order;
}

std::vector<Sequence> starting_orders(const SolverInput& input) {
  if (!input.known.orders.empty()) return input.known.orders;
  return {input.graph.order, lean_order(input.graph)};
}

SolverOutput solve_by_order(const SolverInput& input) {
  SolverOutput output;
  const auto take = [&](Sequence order) {
    const std::int64_t peak = sequence_peak(input.graph, order);
    if (peak >= 0 && peak <= input.budget) output.sequences.push_back(order);
    output.orders.push_back(std::move(order));
  };
  take(input.graph.order);
  take(lean_order(input.graph));
  // Aiming lower than the budget shapes the whole order, not only the steps around the worst one.
  for (const std::int64_t aim : {input.budget, input.budget / 2})
    for (std::size_t i = 0; i < 2 && output.sequences.empty(); ++i)
      take(packed_order(input.graph, aim, output.orders[i], packing_effort(input.graph)));
  return output;
}

}  // namespace thimble::remat
