// The searches as members of the portfolio: A* under rising cost caps, the backward search, the beam.
#include <algorithm>

#include "remat_search.h"
#include "remat_solver.h"

namespace thimble::remat {
namespace {

constexpr Cost kUnlimited = Cost{1} << 58;
constexpr std::size_t kMostSingleOps = 16;
constexpr std::int64_t kNodesPerOp = 1000;

// Nodes that a graph of this size is worth: one costs about n^2.
std::int64_t share_of(std::int64_t node_limit, const Graph& graph) {
  if (node_limit > 0) return node_limit;
  const auto n = static_cast<std::int64_t>(std::max(graph.tensors(), 1));
  return std::clamp<std::int64_t>(1'200'000'000 / (n * n), 2000, 2'000'000);
}

// A low cap keeps the states few: what cannot be read again within it is let go at once. A search that ends without a
// schedule proves that none costs the cap or less; so the cap rises until there is one, or the best known is proven.
SolverOutput solve_forwards(const SolverInput& input) {
  SolverOutput output;
  std::int64_t nodes_left = share_of(input.node_limit, input.graph);
  Cost lower = std::max(input.known.lower_bound, cost_bound(input.graph, input.budget));
  const Cost ceiling = input.known.best == INT64_MAX ? kUnlimited : input.known.best - 1;
  Cost step = std::max<Cost>(1, lower / 512);
  for (Cost cap = std::min(lower, ceiling); lower <= ceiling;
       cap = std::min(ceiling, std::max(lower, cap + step)), step *= 2) {
    SearchOutcome outcome = search_exact(input.graph, input.budget, cap, nodes_left);
    nodes_left -= outcome.nodes;
    lower = std::max(lower, outcome.lower_bound);
    if (outcome.found) {
      output.lower_bound = sequence_cost(input.graph, outcome.sequence);
      output.sequences.push_back(std::move(outcome.sequence));
      return output;
    }
    if (outcome.exhausted && cap == kUnlimited) output.infeasible = true;
    if (!outcome.exhausted || cap == kUnlimited || nodes_left <= 0) break;
  }
  output.lower_bound = lower;
  return output;
}

// Where the whole goal is too far, one op that has to run may be near enough to show that it cannot: those that need
// most first.
bool has_op_that_never_runs(const SolverInput& input) {
  if (input.graph.has_alternatives) return false;
  std::vector<std::int32_t> ops = input.graph.order;
  std::stable_sort(ops.begin(), ops.end(), [&](std::int32_t a, std::int32_t b) {
    return input.graph.need[static_cast<std::size_t>(a)] > input.graph.need[static_cast<std::size_t>(b)];
  });
  if (ops.size() > kMostSingleOps) ops.resize(kMostSingleOps);
  for (std::int32_t op : ops) {
    const SearchOutcome outcome = search_one_run(input.graph, input.budget, op, kNodesPerOp);
    if (outcome.exhausted && !outcome.found) return true;
  }
  return false;
}

}  // namespace

SolverOutput solve_backwards(const SolverInput& input) {
  SolverOutput output;
  if (input.graph.tensors() > kLargestFeasibility) return output;
  SearchOutcome outcome = search_feasible(input.graph, input.budget, input.node_limit > 0 ? input.node_limit : 20'000);
  output.infeasible = outcome.exhausted && !outcome.found;
  if (outcome.found)
    output.sequences.push_back(std::move(outcome.sequence));
  else if (!output.infeasible)
    output.infeasible = has_op_that_never_runs(input);
  return output;
}

// Forwards first; what that leaves open, backwards.
SolverOutput solve_exactly(const SolverInput& input) {
  if (input.graph.tensors() > kLargestSearch) return {};
  SolverOutput output = solve_forwards(input);
  if (!output.sequences.empty() || output.infeasible || output.lower_bound >= input.known.best) return output;
  const Cost cap = input.known.best == INT64_MAX ? kUnlimited : input.known.best - 1;
  const std::int64_t limit = share_of(input.node_limit, input.graph) / 8;
  SearchOutcome outcome = search_backwards(input.graph, input.budget, cap, limit);
  output.lower_bound = std::max(output.lower_bound, outcome.lower_bound);
  output.infeasible = outcome.exhausted && cap == kUnlimited;
  if (!outcome.found) return output;
  output.lower_bound = sequence_cost(input.graph, outcome.sequence);
  output.sequences.push_back(std::move(outcome.sequence));
  return output;
}

SolverOutput solve_by_beam(const SolverInput& input) {
  SolverOutput output;
  if (input.graph.tensors() > kLargestSearch) return output;
  const auto n = static_cast<std::int64_t>(std::max(input.graph.tensors(), 1));
  const auto width = static_cast<std::int32_t>(std::clamp<std::int64_t>(4'000'000 / (n * n * n), 4, 200));
  const Cost cap = input.known.best == INT64_MAX ? kUnlimited : input.known.best - 1;
  const std::int64_t limit = share_of(input.node_limit, input.graph);
  if (auto sequence = search_beam(input.graph, input.budget, cap, width, limit))
    output.sequences.push_back(std::move(*sequence));
  return output;
}

}  // namespace thimble::remat
