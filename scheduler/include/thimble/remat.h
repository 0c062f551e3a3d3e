// Rematerialization of anybody's graph: in which order to run ops, some more than once, so that a byte budget holds at
// the least cost.
//
//   RematProblem problem = read_remat_problem(text, "graph.json");
//   RematResult result = solve_remat(problem, 640_MB);
//   if (result.cost) assert(replay_remat(problem, 640_MB, result.schedule).findings.empty());
//
// Memory model M0. Nothing is resident at the start; constants always are and count nothing. An op may run when its
// inputs are resident and at least one output is not; while it runs, everything resident + its absent outputs + its
// workspace fit the budget, nothing is freed and nothing is in place; then all its outputs are resident. Between ops
// any tensor may be freed for nothing. At the end every `keep` tensor is resident. Several ops may make the same
// tensor.
//
// Same problem, budget and options, same schedule: searches stop after counted nodes and moves, never after a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "thimble/units.h"

namespace thimble {

struct RematTensor {
  Bytes size;             ///< >= 0
  bool keep = false;      ///< resident at the end
  bool constant = false;  ///< always resident, made by nothing, not counted
};

struct RematOp {
  std::int64_t cost = 0;  ///< >= 0, in the unit of the file
  Bytes workspace;        ///< >= 0, only while it runs
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> outputs;
};

/// Tensors and ops are named by their index. Where every tensor has one producer, ops come in an executable order.
struct RematProblem {
  std::vector<RematTensor> tensors;
  std::vector<RematOp> ops;
};

struct RematStep {
  enum class Kind : std::uint8_t { compute, free };
  Kind kind = Kind::compute;
  std::int32_t id = 0;  ///< of the op that runs, or of the tensor that is freed
  bool operator==(const RematStep&) const = default;
};

enum class RematStatus : std::uint8_t {
  optimal,     ///< proven: nothing is cheaper
  feasible,    ///< a schedule, perhaps not the cheapest
  infeasible,  ///< proven: nothing fits the budget
  not_found    ///< no schedule found, no proof that there is none
};
const char* to_string(RematStatus status);

struct RematResult {
  RematStatus status = RematStatus::not_found;
  std::optional<std::int64_t> cost;   ///< of the schedule; empty where there is none
  Bytes peak;                         ///< of the schedule
  std::int64_t cost_lower_bound = 0;  ///< no schedule within the budget costs less
  Bytes budget_lower_bound;           ///< no schedule fits fewer bytes
  std::vector<RematStep> schedule;
  std::string made_by;  ///< the solver whose schedule this is
};

struct RematOptions {
  std::string solver = {};      ///< one of remat_solver_names(); empty: the portfolio
  std::int64_t node_limit = 0;  ///< states a search may look at; 0: chosen by the size of the problem
  std::int64_t move_limit = 0;  ///< candidate moves the local search may weigh; 0: chosen by the size
};

/// Names of the portfolio's members, in the order in which they run.
std::vector<std::string> remat_solver_names();

/// Throws InvalidArgument where check_remat_problem finds something, the budget is negative or the solver is unknown.
RematResult solve_remat(const RematProblem& problem, Bytes budget, const RematOptions& options = {});

/// What is wrong with a problem (ids out of range, negative sizes, sums that overflow, an op that reads its own
/// output, ...), at most 20 messages; empty is good.
std::vector<std::string> check_remat_problem(const RematProblem& problem);

struct RematReplay {
  std::int64_t cost = 0;
  Bytes peak;
  std::vector<std::string> findings;  ///< one message per broken rule of M0, at most 20; empty is good
};

/// Runs a schedule under M0. Shares no code with the solvers. Ids out of range are findings.
RematReplay replay_remat(const RematProblem& problem, Bytes budget, const std::vector<RematStep>& schedule);

/// Reads `remat-exact/1` and `remat-graph/1`. `name` stands in messages. Throws BadInput.
RematProblem read_remat_problem(std::string_view text, const std::string& name);

/// `{status, cost, peak_bytes, cost_lower_bound, ..., schedule: ["c12", "e3"]}`; cost and peak are null without a
/// schedule.
std::string write_remat_result(const RematResult& result, Bytes budget);

}  // namespace thimble
