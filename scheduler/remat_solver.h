// What every member of the portfolio is: a function from a graph, a budget and what is known already to a sequence.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "remat_graph.h"

namespace thimble::remat {

struct Known {
  Cost lower_bound = 0;             ///< no schedule costs less
  std::vector<Sequence> sequences;  ///< that fit the budget, cheapest first; at most kMostKnown
  std::vector<Sequence> orders;  ///< in which every op runs once, whether they fit or not; none before solve_by_order
  Cost best = INT64_MAX;         ///< cost of the first
  bool infeasible = false;       ///< proven
};
inline constexpr std::size_t kMostKnown = 12;

struct SolverInput {
  const Graph& graph;
  std::int64_t budget;
  const Known& known;
  std::int64_t node_limit;  ///< states a search may look at; 0: by the size of the graph
  std::int64_t move_limit;  ///< steps of sequences a local search may look at
};

struct SolverOutput {
  std::vector<Sequence> sequences;  ///< that fit the budget; perhaps none
  std::vector<Sequence> orders;     ///< in which every op runs once, for others to start from
  Cost lower_bound = 0;             ///< proven
  bool infeasible = false;          ///< proven
};

struct Solver {
  const char* name;
  SolverOutput (*solve)(const SolverInput&);
};

/// In the order in which the portfolio runs them.
const std::vector<Solver>& solvers();

SolverOutput solve_by_order(const SolverInput& input);       // without running anything twice
SolverOutput solve_backwards(const SolverInput& input);      // any schedule, or the proof that there is none
SolverOutput solve_by_segments(const SolverInput& input);    // checkpoints
SolverOutput solve_by_eviction(const SolverInput& input);    // step by step, giving up what is cheap and not read soon
SolverOutput solve_by_regression(const SolverInput& input);  // the same from the end
SolverOutput solve_by_unwinding(const SolverInput& input);   // a beam from the end, where nothing is known yet
SolverOutput solve_by_moves(const SolverInput& input);       // local search
SolverOutput solve_by_restarts(const SolverInput& input);    // local search from elsewhere
SolverOutput solve_by_beam(const SolverInput& input);
SolverOutput solve_exactly(const SolverInput& input);

/// Orders to start from: the known ones, or where there are none the problem's own and a lean one.
std::vector<Sequence> starting_orders(const SolverInput& input);

/// No schedule fits fewer bytes: the largest op that has to run, what is kept at the end.
std::int64_t budget_bound(const Graph& graph);
/// No schedule within the budget costs less: every op the goal needs once, and what the budget forces to run again.
Cost cost_bound(const Graph& graph, std::int64_t budget);

}  // namespace thimble::remat
