// Every id names something that is there and every size is possible: what the other parts follow without looking.
#include <algorithm>

#include "program_check.h"

namespace thimble {
namespace {

constexpr std::int64_t kMostBytes = std::int64_t{1} << 46;  // of anything
constexpr std::int64_t kMostSamples = std::int64_t{1} << 30;

template <class Id, class T>
bool has_all(const IdVector<Id, T>& table, const std::vector<Id>& ids) {
  return std::all_of(ids.begin(), ids.end(), [&](Id id) { return table.contains(id); });
}

void check_graph_ids(ProgramCheck& check) {
  const Graph& graph = check.graph;
  if (graph.batch < 0 || graph.batch > kMostSamples) check.report("has a batch of " + std::to_string(graph.batch));
  for (const Tensor& tensor : graph.tensors)
    if (!has_sane_shape(tensor.type) || (tensor.version_of != kNoTensor && !graph.tensors.contains(tensor.version_of)))
      check.report("tensor '" + tensor.name + "' has an impossible shape or version");
  for (const Op& op : graph.ops)
    if (!has_all(graph.tensors, op.inputs) || !has_all(graph.tensors, op.outputs))
      check.report("op '" + op.name + "' names a tensor that is not there");
}

void check_storage_numbers(ProgramCheck& check, const Storage& storage) {
  if (!has_sane_size(storage.size) || !has_sane_offset(storage.offset))
    check.report("storage '" + storage.name + "' has an impossible size or offset");
  const auto [begin, end] = storage.lifetime;
  if (begin < Step{0} || begin > end || index(end) > check.step_count())
    check.report("storage '" + storage.name + "' has an impossible lifetime");
}

void check_step_ids(ProgramCheck& check, std::int32_t i) {
  const Schedule& schedule = check.schedule;
  const ScheduledStep& step = check.step(i);
  if (!check.graph.ops.contains(step.op) || !has_all(schedule.instances, step.inputs) ||
      !has_all(schedule.instances, step.outputs) ||
      (step.workspace != kNoStorage && !schedule.storages.contains(step.workspace)))
    check.report("step " + std::to_string(i) + " names an op, instance or storage that is not there");
}

}  // namespace

bool has_sane_shape(const TensorType& type) {
  std::int64_t elements = 1;
  for (std::int64_t extent : type.shape) {
    if (extent < 1 || extent > kMostBytes / 8 / elements) return false;
    elements *= extent;
  }
  return !type.batched || !type.shape.empty();
}

bool has_sane_size(Bytes size) { return size >= Bytes{} && size <= Bytes{kMostBytes}; }
bool has_sane_offset(Offset offset) { return has_sane_size(offset - Offset{}); }

void check_ids(ProgramCheck& check) {
  check_graph_ids(check);
  for (const Instance& instance : check.schedule.instances)
    if (!check.graph.tensors.contains(instance.tensor) || !check.schedule.storages.contains(instance.storage))
      check.report("an instance names a tensor or storage that is not there");
  for (const Storage& storage : check.schedule.storages) check_storage_numbers(check, storage);
  for (std::int32_t i = 0; i < check.step_count(); ++i) check_step_ids(check, i);
}

}  // namespace thimble
