// The portfolio: every member in turn, each knowing what those before it found, until the cheapest meets the bound.
#include "thimble/remat.h"

#include <algorithm>

#include "remat_solver.h"
#include "thimble/error.h"

namespace thimble {
namespace remat {

const std::vector<Solver>& solvers() {
  static const std::vector<Solver> all{{"order", solve_by_order},
                                       {"backwards", solve_backwards},
                                       {"segments", solve_by_segments},
                                       {"eviction", solve_by_eviction},
                                       {"regression", solve_by_regression},
                                       {"unwinding", solve_by_unwinding},
                                       {"moves", solve_by_moves},
                                       {"exact", solve_exactly},
                                       {"beam", solve_by_beam},
                                       {"restarts", solve_by_restarts}};
  return all;
}

namespace {

// Seconds up to 1000 ops; longer sequences take less time per step looked at.
std::int64_t default_moves(const Graph& graph) { return graph.order.size() <= 1000 ? 1'500'000'000 : 4'000'000'000; }

struct Best {
  Known known;
  std::string made_by;

  void take(const SolverInput& input, const Solver& solver, SolverOutput output) {
    known.lower_bound = std::max(known.lower_bound, output.lower_bound);
    known.infeasible |= output.infeasible;
    for (Sequence& order : output.orders) known.orders.push_back(std::move(order));
    for (Sequence& sequence : output.sequences) {
      const Cost cost = sequence_cost(input.graph, sequence);
      if (cost < known.best) {
        known.best = cost;
        made_by = solver.name;
      }
      known.sequences.push_back(std::move(sequence));
    }
    std::stable_sort(known.sequences.begin(), known.sequences.end(), [&](const Sequence& a, const Sequence& b) {
      return sequence_cost(input.graph, a) < sequence_cost(input.graph, b);
    });
    if (known.sequences.size() > kMostKnown) known.sequences.resize(kMostKnown);
  }
};

RematResult result_of(const RematProblem& problem, const Graph& graph, Bytes budget, const Best& best) {
  RematResult result;
  result.cost_lower_bound = best.known.lower_bound;
  result.budget_lower_bound = Bytes{budget_bound(graph)};
  if (best.known.sequences.empty()) {
    if (best.known.infeasible) result.status = RematStatus::infeasible;
    return result;
  }
  result.schedule = with_frees(graph, best.known.sequences.front());
  result.made_by = best.made_by;
  const RematReplay replay = replay_remat(problem, budget, result.schedule);
  if (!replay.findings.empty())
    throw Error("remat: the independent replay refuses the schedule: " + replay.findings.front());
  result.cost = replay.cost;
  result.peak = replay.peak;
  result.status = replay.cost <= result.cost_lower_bound ? RematStatus::optimal : RematStatus::feasible;
  return result;
}

}  // namespace
}  // namespace remat

const char* to_string(RematStatus status) {
  switch (status) {
    case RematStatus::optimal:
      return "optimal";
    case RematStatus::feasible:
      return "feasible";
    case RematStatus::infeasible:
      return "infeasible";
    case RematStatus::not_found:
      return "not_found";
  }
  return "";
}

std::vector<std::string> remat_solver_names() {
  std::vector<std::string> names;
  for (const remat::Solver& solver : remat::solvers()) names.emplace_back(solver.name);
  return names;
}

RematResult solve_remat(const RematProblem& problem, Bytes budget, const RematOptions& options) {
  if (const auto findings = check_remat_problem(problem); !findings.empty())
    throw InvalidArgument("remat: " + findings.front());
  if (budget < Bytes{})
    throw InvalidArgument("remat: the budget is negative: " + std::to_string(budget.value) + " bytes");
  const auto names = remat_solver_names();
  if (!options.solver.empty() && std::find(names.begin(), names.end(), options.solver) == names.end())
    throw InvalidArgument("remat: there is no solver '" + options.solver + "'");
  const remat::Graph graph = remat::make_graph(problem);
  remat::Best best;
  best.known.infeasible = !graph.can_make_goal || remat::budget_bound(graph) > budget.value;
  if (!best.known.infeasible) best.known.lower_bound = remat::cost_bound(graph, budget.value);
  const std::int64_t move_limit = options.move_limit > 0 ? options.move_limit : remat::default_moves(graph);
  for (const remat::Solver& solver : remat::solvers()) {
    if (best.known.infeasible || best.known.best <= best.known.lower_bound) break;
    if (!options.solver.empty() && options.solver != solver.name) continue;
    const remat::SolverInput input{graph, budget.value, best.known, options.node_limit, move_limit};
    best.take(input, solver, solver.solve(input));
  }
  return remat::result_of(problem, graph, budget, best);
}

}  // namespace thimble
