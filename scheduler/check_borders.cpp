// What passes between the iterations of a repeat and the steps outside or in other repeats: whole batches, sums and new
// versions only.
#include <map>

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

// What is given in parts belongs to the repeat that reads it first; the first one where none does.
void find_given(ProgramCheck& check) {
  check.given_in = IdVector<InstanceId, StepRange>(check.schedule.instances.size());
  for (InstanceId id : ids_of(check.schedule.instances))
    if (check.is_given_in_parts(id)) check.given_in[id] = check.first_loop;
  for (std::int32_t i = check.step_count(); i-- > 0;)
    for (InstanceId input : check.step(i).inputs)
      if (check.is_given_in_parts(input) && check.in_loop(i)) check.given_in[input] = check.loop_of(i);
}

// In one place, or one for each repeat.
void check_given_once(ProgramCheck& check) {
  constexpr std::int32_t kInFull = -1;
  std::map<TensorId, std::set<std::int32_t>> given;  // the begins of the repeats
  for (InstanceId id : ids_of(check.schedule.instances)) {
    if (!check.is_given(id)) continue;
    std::set<std::int32_t>& places = given[check.schedule.instances[id].tensor];
    const bool is_new = places.insert(check.is_given_in_parts(id) ? check.given_in[id].begin : kInFull).second;
    if (!is_new || (places.count(kInFull) != 0 && places.size() > 1))
      check.report("'" + check.tensor_of(id).name + "' is given in two places");
  }
}

// The repeat that an instance is made in or given for, if any.
StepRange home_of(const ProgramCheck& check, InstanceId id) {
  if (check.is_given_in_parts(id)) return check.given_in[id];
  return check.made_at[id] >= 0 ? check.loop_of(check.made_at[id]) : StepRange{};
}

bool is_made_inside(const ProgramCheck& check, InstanceId id) { return home_of(check, id).begin >= 0; }

bool is_sum(const ProgramCheck& check, InstanceId id) {
  if (check.is_given(id)) return false;
  const Op& op = check.graph.ops[check.tensor_of(id).producer];
  const TensorId tensor = check.schedule.instances[id].tensor;
  for (std::size_t k = 0; k < op.outputs.size(); ++k)
    if (op.outputs[k] == tensor && check.registry.accumulates(op, k)) return true;
  return false;
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
  const bool is_at_home = check.in_loop(step) && home_of(check, input).begin == check.loop_of(step).begin;
  if (!is_at_home && is_partial(check, input)) report(" outside the repeat, where it is the last microbatch's");
  if (is_at_home && is_sum(check, input)) report(" inside the repeat, where the sum is not complete");
}

// What persists, is made outside of repeats, or is read by the caller after the last step.
void check_outside(ProgramCheck& check, InstanceId id) {
  const Tensor& tensor = check.tensor_of(id);
  if (check.made_at[id] >= 0 && !is_made_inside(check, id) && check.is_cut(id))
    check.report("'" + tensor.name + "' is made outside the repeats, but holds one microbatch only");
  if (!tensor.is_output && !(check.is_given(id) && is_persistent(tensor))) return;
  if (check.is_cut(id)) check.report("'" + tensor.name + "' lasts beyond the repeat, but holds one microbatch only");
  if (!check.is_given(id) && is_partial(check, id))
    check.report("output '" + tensor.name + "' holds the last microbatch's value, not the sum");
}

}  // namespace

void check_borders(ProgramCheck& check) {
  find_makers(check);
  find_given(check);
  check_given_once(check);
  for (std::int32_t i = 0; i < check.step_count(); ++i)
    for (InstanceId input : check.step(i).inputs) check_crossing(check, i, input);
  if (!check.has_repeat) return;
  for (InstanceId id : ids_of(check.schedule.instances)) check_outside(check, id);
}

}  // namespace thimble
