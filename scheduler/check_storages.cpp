// How large storages are and how long they live: enough for every use, on this machine.
#include <algorithm>

#include "program_check.h"

namespace thimble {
namespace {

// What the program asks of one storage.
struct Demand {
  Bytes size;
  StepRange used{INT32_MAX, 0};
};

class StorageDemands {
 public:
  explicit StorageDemands(const ProgramCheck& check) : check_(check), demands_(check.schedule.storages.size()) {
    for (std::int32_t i = 0; i < check.step_count(); ++i) use_step(i);
    for (InstanceId id : ids_of(check.schedule.instances)) use_from_outside(id);
  }

  const Demand& operator[](StorageId id) const { return demands_[id]; }

 private:
  void use(StorageId id, StepRange steps) {
    StepRange& used = demands_[id].used;
    used = {std::min(used.begin, steps.begin), std::max(used.end, steps.end)};
  }

  void need(InstanceId id, std::int64_t samples) {
    Bytes& size = demands_[check_.storage_of(id)].size;
    if (check_.is_whole(id)) samples = check_.graph.batch;
    size = std::max(size, bytes_of(with_samples(check_.tensor_of(id).type, samples)));
  }

  // A use inside a repeat of something that crosses an iteration's border lasts for the whole repeat.
  void use_step(std::int32_t i) {
    const ScheduledStep& step = check_.step(i);
    const StepRange loop = check_.loop_of(i);
    const bool in_loop = check_.in_loop(i);
    const std::int64_t samples = in_loop ? largest_part() : check_.graph.batch;
    for (InstanceId input : step.inputs) {
      const bool from_outside =
          in_loop && !check_.is_given_in_parts(input) && (check_.made_at[input] < loop.begin || check_.is_whole(input));
      use(check_.storage_of(input), {check_.is_given(input) ? given_at(input) : i, from_outside ? loop.end : i + 1});
      need(input, samples);
    }
    for (std::size_t k = 0; k < step.outputs.size(); ++k) {
      const InstanceId output = step.outputs[k];
      const bool accumulates = check_.registry.accumulates(check_.op_of(i), k);
      const bool lasts = in_loop && (accumulates || check_.is_whole(output) || check_.tensor_of(output).is_output ||
                                     check_.last_read[output] >= loop.end);
      use(check_.storage_of(output), lasts ? loop : StepRange{i, i + 1});
      need(output, samples);
    }
    if (step.workspace != kNoStorage) use(step.workspace, {i, i + 1});
  }

  // Inputs are filled before step 0, a part at a time before the first step of the repeat that they are given for;
  // outputs are read after the last step, as whole batches.
  void use_from_outside(InstanceId id) {
    const StorageId storage = check_.storage_of(id);
    const bool is_given = check_.is_given(id), is_output = check_.tensor_of(id).is_output;
    if (is_given) use(storage, {given_at(id), given_at(id) + 1});
    if (is_given) need(id, largest_part());
    if (is_output) use(storage, {check_.step_count() - 1, check_.step_count()});
    if (is_output) need(id, check_.graph.batch);
  }

  std::int32_t given_at(InstanceId id) const { return check_.is_given_in_parts(id) ? check_.given_in[id].begin : 0; }
  std::int64_t largest_part() const { return check_.has_repeat ? *check_.sizes.rbegin() : check_.graph.batch; }

  const ProgramCheck& check_;
  IdVector<StorageId, Demand> demands_;
};

std::string range_text(StepRange range) {
  return "[" + std::to_string(range.begin) + ", " + std::to_string(range.end) + ")";
}

StepRange lifetime_of(const Storage& storage) { return {index(storage.lifetime.begin), index(storage.lifetime.end)}; }

std::string lives(const Storage& storage) {
  return "storage '" + storage.name + "' lives in " + range_text(lifetime_of(storage)) + ", ";
}

void check_size(ProgramCheck& check, const Storage& storage, Bytes needed) {
  if (storage.size < needed)
    check.report("storage '" + storage.name + "' has " + to_string(storage.size) + ", needs " + to_string(needed) +
                 " on this machine; plan again here");
  if (storage.size.value % kAlignment.value != 0)
    check.report("storage '" + storage.name + "' has a size that is not a multiple of " +
                 std::to_string(kAlignment.value) + " bytes");
}

// A lifetime lies within one iteration, or goes around the whole repeat, or does not touch it.
void check_border(ProgramCheck& check, const Storage& storage, std::int32_t border) {
  if (border <= 0 || border >= check.step_count() || !check.in_loop(border)) return;
  const auto [begin, end] = lifetime_of(storage);
  const StepRange loop = check.loop_of(border);
  const bool is_inside = begin >= loop.begin && end <= loop.end;
  if (!is_inside && (begin > loop.begin || end < loop.end) && end > loop.begin)
    check.report(lives(storage) + "which crosses the border of the repeat " + range_text(loop));
}

void check_lifetime(ProgramCheck& check, const Storage& storage, const Demand& demand) {
  const auto [begin, end] = lifetime_of(storage);
  const StepRange used = demand.used;
  if (used.begin < used.end && (begin > used.begin || end < used.end))
    check.report(lives(storage) + "is used in " + range_text(used));
  if (storage.persistent) return;
  if (begin == end) check.report(lives(storage) + "which is never");
  check_border(check, storage, begin);
  check_border(check, storage, end);
}

// Not the planner's shape_of: what it books is judged here.
OpShape shape_with(const ProgramCheck& check, const Op& op, std::int64_t samples) {
  OpShape shape;
  for (TensorId id : op.inputs) shape.inputs.push_back(with_samples(check.graph.tensors[id].type, samples));
  for (TensorId id : op.outputs) shape.outputs.push_back(with_samples(check.graph.tensors[id].type, samples));
  shape.attributes = op.attributes;
  shape.device = check.plan.device;
  return shape;
}

}  // namespace

void check_storages(ProgramCheck& check) {
  const StorageDemands demands(check);
  for (StorageId id : ids_of(check.schedule.storages)) {
    const Storage& storage = check.schedule.storages[id];
    check_size(check, storage, demands[id].size);
    check_lifetime(check, storage, demands[id]);
  }
}

void check_workspaces(ProgramCheck& check) {
  for (std::int32_t i = 0; i < check.step_count(); ++i) {
    const Op& op = check.op_of(i);
    Bytes most;
    for (std::int64_t samples : check.in_loop(i) ? check.sizes : std::set<std::int64_t>{check.graph.batch})
      most = std::max(most, check.registry.workspace(op.kind, shape_with(check, op, samples)));
    const StorageId storage = check.step(i).workspace;
    const Bytes has = storage == kNoStorage ? Bytes{} : check.schedule.storages[storage].size;
    if (most > has)
      check.report("op '" + op.name + "' has a workspace of " + to_string(has) + ", needs " + to_string(most) +
                   " on this machine; plan again here");
  }
}

}  // namespace thimble
