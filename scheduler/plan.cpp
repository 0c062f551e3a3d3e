#include "thimble/plan.h"

#include <algorithm>

#include "paces.h"
#include "thimble/calibration.h"
#include "thimble/error.h"
#include "thimble/placement.h"

namespace thimble {
namespace {

Bytes padded(const TensorType& type) { return align_up(bytes_of(type), kAlignment); }

// In order of first appearance, one after the other from the bottom of the arena.
std::vector<PersistentTensor> lay_out_persistent(const std::vector<ProgramRequest>& programs) {
  std::vector<PersistentTensor> laid_out;
  std::map<std::string, std::size_t> known;
  Offset end;
  for (const ProgramRequest& program : programs)
    for (const Tensor& tensor : program.graph.tensors) {
      if (tensor.producer != kNoOp || !is_persistent(tensor)) continue;
      const auto [found, added] = known.emplace(tensor.name, laid_out.size());
      if (!added) {
        if (laid_out[found->second].type != tensor.type || laid_out[found->second].role != tensor.role)
          throw InvalidArgument("plan: persistent tensor '" + tensor.name + "' has two types; program '" +
                                program.name + "' disagrees with an earlier one");
        continue;
      }
      laid_out.push_back({tensor.name, tensor.type, tensor.role, end});
      end = end + padded(tensor.type);
    }
  return laid_out;
}

Bytes persistent_bytes(const std::vector<PersistentTensor>& persistent) {
  return persistent.empty() ? Bytes{} : persistent.back().offset + padded(persistent.back().type) - Offset{};
}

void place_program(Program& program, const std::vector<PersistentTensor>& persistent) {
  const Bytes base = persistent_bytes(persistent);
  std::map<std::string, Offset> offset_of;
  for (const PersistentTensor& tensor : persistent) offset_of[tensor.name] = tensor.offset;
  PlacementProblem problem{.buffers = {}, .alignment = kAlignment};
  std::vector<StorageId> placed;
  for (std::size_t i = 0; i < program.schedule.storages.size(); ++i) {
    Storage& storage = program.schedule.storages[static_cast<StorageId>(i)];
    if (storage.persistent) {
      storage.offset = offset_of.at(storage.name);
      continue;
    }
    problem.buffers.push_back({storage.name, storage.lifetime, storage.size});
    placed.push_back(static_cast<StorageId>(i));
  }
  const Placement placement = place_buffers(problem);
  for (std::size_t i = 0; i < placed.size(); ++i)
    program.schedule.storages[placed[i]].offset = placement.offsets[i] + base;
  program.planned = base + placement.peak;
  program.lower_bound = base + placement.lower_bound;
  program.peak_step = max_live_step(problem);
  program.made_by = placement.made_by;
}

// Adds the cost of one step, run once per part of the cut where it is inside the repeat.
void add_cost(const Program& program, const OpRegistry& registry, const DeviceDescription& device,
              const CalibrationTable* calibration, const ScheduledStep& step, std::int64_t samples,
              ProgramCost& total) {
  const Op& op = program.graph.ops[step.op];
  const OpShape shape = shape_of(program.graph, step.op, samples, device);
  (step.is_recomputation ? total.recompute_flops : total.flops) += registry.cost(op.kind, shape).flops;
  total.milliseconds += 1e3 * op_seconds(op.kind, shape, registry, calibration);
}

void add_costs(const Program& program, const OpRegistry& registry, const DeviceDescription& device,
               const CalibrationTable* calibration, const std::vector<ScheduleNode>& nodes, std::int64_t samples,
               ProgramCost& total) {
  for (const ScheduleNode& node : nodes) {
    if (node.kind == ScheduleNode::Kind::step)
      add_cost(program, registry, device, calibration,
               program.schedule.steps[static_cast<std::size_t>(index(node.step))], samples, total);
    for (HalfOpen range : node.ranges)
      add_costs(program, registry, device, calibration, node.body, range.size(), total);
  }
}

}  // namespace

const Program& Plan::program(const std::string& name) const {
  std::string known;
  for (const Program& program : programs) {
    if (program.name == name) return program;
    known += (known.empty() ? "'" : ", '") + program.name + "'";
  }
  throw InvalidArgument("plan: there is no program '" + name + "'; it has " + known);
}

ScheduledProgram schedule_program(const PlanRequest& request, const ProgramRequest& asked, const OpRegistry& registry) {
  ScheduledProgram made;
  made.graph = asked.microbatches.size() > 1 ? accumulate_over_microbatches(asked.graph, registry) : asked.graph;
  ScheduleOptions options{.microbatches = asked.microbatches, .barrier_before_update = asked.barrier_before_update};
  const bool is_split = !asked.splits.empty() && asked.microbatches.size() > 1;
  if (!asked.ranks.empty() || is_split) {
    const RecomputeBasis basis = recompute_basis(made.graph, registry);
    RecomputeRanks ranks = asked.ranks;
    while (ranks.size() < made.graph.tensors.size()) ranks.push_back(0);  // sums over microbatches
    LoopSequence sequence{{}, {}};
    if (is_split)
      sequence = block_major_sequence(made.graph, basis, ranks, asked.splits, asked.barrier_before_update);
    else
      sequence.ops = recompute_sequence(made.graph, basis, ranks);
    options.sequence = std::move(sequence.ops);
    options.repeats = std::move(sequence.repeats);
  }
  made.schedule = make_schedule(made.graph, registry, request.device, options);
  if (asked.spend_slack) {
    const Paces paces = paces_of(made.graph, registry, request.device, asked.microbatches, request.calibration.get());
    std::vector<OpId> steps;
    for (const ScheduledStep& step : made.schedule.steps) steps.push_back(step.op);
    const Slack slack(steps, live_by_step(made.schedule), paces);
    set_paces(slack.spend(asked.room), made.graph, made.schedule);
  }
  return made;
}

Plan place_plan(const PlanRequest& request, const OpRegistry& registry) {
  Plan plan{.model = request.model,
            .options = request.options,
            .batch = request.batch,
            .device = request.device,
            .planner_seed = request.planner_seed,
            .budget = request.budget,
            .engines = registry.engines(request.device),
            .calibration = {},
            .persistent = lay_out_persistent(request.programs),
            .programs = {},
            .arena = {},
            .arithmetic_hash = {}};
  if (request.calibration) plan.calibration = request.calibration->hash();
  for (const ProgramRequest& asked : request.programs) {
    Program program;
    program.name = asked.name;
    program.microbatches = asked.microbatches;
    ScheduledProgram made = schedule_program(request, asked, registry);
    program.graph = std::move(made.graph);
    program.schedule = std::move(made.schedule);
    place_program(program, plan.persistent);
    plan.arena = std::max(plan.arena, program.planned);
    plan.programs.push_back(std::move(program));
  }
  return plan;
}

Plan make_plan(const PlanRequest& request, const OpRegistry& registry) {
  Plan plan = place_plan(request, registry);
  plan.arithmetic_hash = arithmetic_hash(plan);
  return plan;
}

std::vector<Bytes> bytes_by_role(const Plan& plan, const Program& program, Step step) {
  std::vector<Bytes> bytes(kRoleCount);
  for (const PersistentTensor& tensor : plan.persistent)
    bytes[static_cast<std::size_t>(tensor.role)] += padded(tensor.type);
  for (const Storage& storage : program.schedule.storages)
    if (!storage.persistent && storage.lifetime.begin <= step && step < storage.lifetime.end)
      bytes[static_cast<std::size_t>(storage.role)] += storage.size;
  return bytes;
}

const Program& peak_program(const Plan& plan) {
  for (const Program& program : plan.programs)
    if (program.planned == plan.arena) return program;
  throw InvalidArgument("plan: no program reaches the arena's " + to_string(plan.arena));
}

ProgramCost program_cost(const Program& program, const OpRegistry& registry, const DeviceDescription& device,
                         const CalibrationTable* calibration) {
  ProgramCost total;
  add_costs(program, registry, device, calibration, program.schedule.order, program.graph.batch, total);
  return total;
}

}  // namespace thimble
