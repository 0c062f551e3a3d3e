// A plan: every program of one arena, each with its graph, its schedule, an offset for every byte, and the proof.
//
//   PlanRequest request{.model = "wrn-28-2", .batch = 100, .microbatches = {100}};
//   request.programs = {{"train", step_graph, {100}}, {"evaluate", forward_graph, {100}}};
//   Plan plan = make_plan(request, registry);
//   plan.arena;                          // decided before the first step, to the byte
//
// Persistent tensors (weights, optimizer state, running statistics, state) lie at the same offsets in every program, at
// the bottom of the arena; the rest is placed per program above them, and the arena is as large as the largest needs.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "thimble/recompute.h"
#include "thimble/schedule.h"

namespace thimble {

class CalibrationTable;

struct PersistentTensor {
  std::string name;
  TensorType type;
  Role role = Role::weight;
  Offset offset;
  bool operator==(const PersistentTensor&) const = default;
};

struct Program {
  std::string name;
  Graph graph;
  std::vector<std::int64_t> microbatches;
  Schedule schedule;
  Bytes planned;        ///< the end of its highest byte: what the high water has to show
  Bytes lower_bound;    ///< persistent bytes + max live of this schedule
  Step peak_step{};     ///< first step at which the lower bound is reached
  std::string made_by;  ///< of the placement
  bool operator==(const Program&) const = default;
};

struct Plan {
  static constexpr int kVersion = 5;
  std::string model;
  std::map<std::string, std::string> options;  ///< how the model was built; the model's business
  std::int64_t batch = 0;
  DeviceDescription device;
  std::uint64_t planner_seed = 0;
  std::optional<Bytes> budget;
  std::map<std::string, std::string> engines;
  std::optional<std::string> calibration{};  ///< hash of the table of measured times it was chosen by, if any
  std::vector<PersistentTensor> persistent;
  std::vector<Program> programs;
  Bytes arena;
  std::string arithmetic_hash;
  bool operator==(const Plan&) const = default;

  /// Throws InvalidArgument that names the programs there are.
  const Program& program(const std::string& name) const;
};

struct ProgramRequest {
  std::string name;
  Graph graph;
  std::vector<std::int64_t> microbatches;
  bool barrier_before_update = false;
  RecomputeRanks ranks{};           ///< of the graph's tensors; empty: everything is kept
  std::vector<LoopSplit> splits{};  ///< at values of `loop_splits`: block-major order where the batch is cut
  bool spend_slack = true;          ///< ops that can be faster with more workspace get it where that is no new peak
  Bytes room{};                     ///< ... or where live bytes stay within this
};

struct PlanRequest {
  std::string model;
  std::map<std::string, std::string> options;
  std::int64_t batch = 0;
  DeviceDescription device;
  std::uint64_t planner_seed = 0;
  std::optional<Bytes> budget;
  std::vector<ProgramRequest> programs;
  std::shared_ptr<const CalibrationTable> calibration = nullptr;  ///< calibration.h; null: times are the roofline's
};

/// Schedules and places every program. The budget is recorded, not enforced. Throws InvalidArgument where persistent
/// tensors of two programs share a name but not a type.
Plan make_plan(const PlanRequest& request, const OpRegistry& registry);
/// The same but for the arithmetic hash, which takes as long as the rest: for who compares many.
Plan place_plan(const PlanRequest& request, const OpRegistry& registry);

/// Bytes of the whole arena's tensors at one step of a program, by role, padding included. Persistent tensors count
/// at every step, those that the program does not use too.
std::vector<Bytes> bytes_by_role(const Plan& plan, const Program& program, Step step);

/// The schedule that make_plan makes of a program of the request; nothing is placed. Throws as make_schedule.
struct ScheduledProgram {
  Graph graph;
  Schedule schedule;
};
ScheduledProgram schedule_program(const PlanRequest& request, const ProgramRequest& program,
                                  const OpRegistry& registry);

/// The program whose planned bytes are the arena's (the first of them).
const Program& peak_program(const Plan& plan);

/// Everything that decides bits: graphs, cuts, order of sums, engines; not offsets, thread count or calibration.
/// 32 hexadecimal digits (a version 5 UUID of the section's canonical text).
std::string arithmetic_hash(const Plan& plan);

/// FLOPs of one run of a program (2 per multiply-add, recomputations apart) and the time predicted for it: of each op
/// what `calibration` measured, else a roofline's.
struct ProgramCost {
  double flops = 0;
  double recompute_flops = 0;
  double milliseconds = 0;
};
ProgramCost program_cost(const Program& program, const OpRegistry& registry, const DeviceDescription& device,
                         const CalibrationTable* calibration = nullptr);

/// JSON, versioned, with everything needed to run. `read_plan` takes hostile text: it throws BadInput that names the
/// thing, its value and the limit, and never returns a plan that refers outside itself.
std::string write_plan(const Plan& plan);
Plan read_plan(std::string_view text, std::string_view name);

/// The independent checker: shares no code with the planners. Returns one message per violation, at most 20; a plan
/// without any is safe to run. Also compares each workspace with what this machine's engines need.
std::vector<std::string> check_plan(const Plan& plan, const OpRegistry& registry);

}  // namespace thimble
