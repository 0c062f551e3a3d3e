// What passes between the iterations of a repeat and the steps outside: whole batches, sums and new versions only.
#include "program_check.h"

namespace thimble {
namespace {

void find_makers(ProgramCheck& check) {
  check.made_at = IdVector<InstanceId, std::int32_t>(check.schedule.instances.size(), -1);
  check.last_read = check.made_at;
  for (std::int32_t i = 0; i < check.step_count(); ++i) {
    for (InstanceId input : check.step(i).inputs) check.last_read[input] = i;
    for (InstanceId output : check.step(i).outputs) {
      if (const std::int32_t before = check.made_at[output]; before >= 0)
        check.report("one instance of '" + check.tensor_of(output).name + "' is made twice, at step " +
                     std::to_string(before) + " and " + std::to_string(i));
      check.made_at[output] = i;
    }
  }
}

void check_given_once(ProgramCheck& check) {
  std::set<TensorId> given;
  for (InstanceId id : ids_of(check.schedule.instances))
    if (check.is_given(id) && !given.insert(check.schedule.instances[id].tensor).second)
      check.report("'" + check.tensor_of(id).name + "' is given in two places");
}

bool is_made_inside(const ProgramCheck& check, InstanceId id) {
  return check.is_given_in_parts(id) || (check.made_at[id] >= 0 && check.in_loop(check.made_at[id]));
}

bool is_sum(const ProgramCheck& check, InstanceId id) {
  return !check.is_given(id) && check.registry.accumulates(check.graph.ops[check.tensor_of(id).producer]);
}

// Made inside the repeat, and of the last iteration only once that has ended.
bool is_partial(const ProgramCheck& check, InstanceId id) {
  return is_made_inside(check, id) && !check.is_whole(id) && !is_sum(check, id) &&
         check.tensor_of(id).version_of == kNoTensor;
}

void check_crossing(ProgramCheck& check, std::int32_t step, InstanceId input) {
  const auto report = [&](const char* why) {
    check.report("step " + std::to_string(step) + " reads '" + check.tensor_of(input).name + "'" + why);
  };
  if (!check.in_loop(step) && is_partial(check, input))
    report(" outside the repeat, where it is the last microbatch's");
  if (check.in_loop(step) && is_made_inside(check, input) && is_sum(check, input))
    report(" inside the repeat, where the sum is not complete");
}

// What persists, or is read by the caller after the last step.
void check_outside(ProgramCheck& check, InstanceId id) {
  const Tensor& tensor = check.tensor_of(id);
  if (!tensor.is_output && !(check.is_given(id) && is_persistent(tensor))) return;
  if (check.is_cut(id)) check.report("'" + tensor.name + "' lasts beyond the repeat, but holds one microbatch only");
  if (!check.is_given(id) && is_partial(check, id))
    check.report("output '" + tensor.name + "' holds the last microbatch's value, not the sum");
}

}  // namespace

void check_borders(ProgramCheck& check) {
  check_given_once(check);
  find_makers(check);
  for (std::int32_t i = 0; i < check.step_count(); ++i)
    for (InstanceId input : check.step(i).inputs) check_crossing(check, i, input);
  if (!check.has_repeat) return;
  for (InstanceId id : ids_of(check.schedule.instances)) check_outside(check, id);
}

}  // namespace thimble
