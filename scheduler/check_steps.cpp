// Steps against ops: each takes its op's tensors, each op runs once, and what changes state is neither recomputed nor
// run before it may.
#include <algorithm>

#include "program_check.h"

namespace thimble {
namespace {

bool same_tensors(const ProgramCheck& check, const std::vector<TensorId>& tensors,
                  const std::vector<InstanceId>& instances) {
  return std::equal(tensors.begin(), tensors.end(), instances.begin(), instances.end(),
                    [&](TensorId t, InstanceId i) { return check.schedule.instances[i].tensor == t; });
}

bool makes_version(const ProgramCheck& check, const Op& op) {
  return std::any_of(op.outputs.begin(), op.outputs.end(),
                     [&](TensorId id) { return check.graph.tensors[id].version_of != kNoTensor; });
}

void check_step(ProgramCheck& check, std::int32_t i) {
  const ScheduledStep& step = check.step(i);
  const Op& op = check.op_of(i);
  if (!same_tensors(check, op.inputs, step.inputs) || !same_tensors(check, op.outputs, step.outputs))
    check.report("step " + std::to_string(i) + " does not take the tensors of op '" + op.name + "'");
  if (op.phase == Phase::update && check.in_loop(i)) check.report("update '" + op.name + "' stands inside a repeat");
  if (step.is_recomputation && (check.definition_of(i).once || makes_version(check, op)))
    check.report("op '" + op.name + "' changes state and is recomputed");
}

void check_runs(ProgramCheck& check) {
  IdVector<OpId, int> runs(check.graph.ops.size(), 0);
  for (const ScheduledStep& step : check.schedule.steps)
    if (!step.is_recomputation) ++runs[step.op];
  for (OpId id : ids_of(check.graph.ops))
    if (runs[id] != 1)
      check.report("op '" + check.graph.ops[id].name + "' runs " + std::to_string(runs[id]) +
                   " times (recomputations apart), not once");
}

}  // namespace

void check_steps(ProgramCheck& check) {
  for (std::int32_t i = 0; i < check.step_count(); ++i) check_step(check, i);
  check_runs(check);
  for (std::int32_t i = 0; i < check.barrier_at; ++i)
    if (const Op& op = check.op_of(i); op.phase == Phase::update)
      check.report("update '" + op.name + "' stands before the barrier");
}

}  // namespace thimble
