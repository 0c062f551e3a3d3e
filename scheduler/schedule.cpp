#include "thimble/schedule.h"

#include <algorithm>

#include "op_prices.h"
#include "schedule_loops.h"
#include "thimble/error.h"

namespace thimble {
namespace {

// Turns an ordered graph into steps, instances and storages.
constexpr std::int32_t kNone = -1;

class ScheduleBuilder {
 public:
  ScheduleBuilder(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                  const ScheduleOptions& options)
      : graph_(graph),
        definitions_(definitions_of(graph, registry)),
        cut_(options.microbatches),
        workspaces_(options.workspaces),
        order_(options.sequence.empty() ? topological_order(with_readers_of_views()) : options.sequence) {
    if (workspaces_.empty())
      for (const OpPrice& price : price_ops(graph, registry, device, cut_)) workspaces_.push_back(price.workspace);
    for (const Op& op : graph.ops)
      summed_output_.push_back(registry.accumulates(op) ? registry.at(op.kind).accumulated_output : kNone);
    loops_ = order_steps(graph, options, order_);
    schedule_.order = order_tree(graph, options, order_, loops_);
    whole_batch_ = find_whole_batches(graph, definitions_, order_, loops_);
    given_ = find_given(graph, order_, loops_, whole_batch_.given);
    find_last_uses();
  }

  Schedule build() {
    ran_ = IdVector<OpId, char>(graph_.ops.size(), 0);
    schedule_.steps.reserve(order_.size());
    schedule_.instances.reserve(last_use_.size());
    schedule_.storages.reserve(last_use_.size() + order_.size());
    users_end_.reserve(last_use_.size() + order_.size());
    add_given_tensors();
    for (std::int32_t step = 0; step < step_count(); ++step) {
      if (begins_later_repeat(step)) add_given_in_parts(step);
      add_step(step);
    }
    close_lifetimes();
    return std::move(schedule_);
  }

 private:
  static IdVector<OpId, const OpDefinition*> definitions_of(const Graph& graph, const OpRegistry& registry) {
    IdVector<OpId, const OpDefinition*> all;
    for (const Op& op : graph.ops) all.push_back(&registry.at(op.kind));
    return all;
  }

  bool is_batched(TensorId id) const { return graph_.tensors[id].type.batched; }
  bool has_repeat() const { return !loops_.repeats.empty(); }
  std::int32_t step_count() const { return static_cast<std::int32_t>(order_.size()); }
  bool begins_later_repeat(std::int32_t step) const {
    const HalfOpen* repeat = loops_.around(step);
    return step > 0 && repeat != nullptr && repeat->begin == step;
  }
  const std::vector<TensorId>& given_at(std::int32_t step) const {
    return given_[static_cast<std::size_t>(loops_.repeat_of[static_cast<std::size_t>(step)])];
  }

  // Who reads a view reads what it looks at: such a reader too has to run before a new version.
  Graph with_readers_of_views() const {
    Graph graph = graph_;
    for (std::size_t i = graph.ops.size(); i-- > 0;) {
      const Op& op = graph.ops[static_cast<OpId>(i)];
      if (!definitions_[static_cast<OpId>(i)]->view) continue;
      const std::vector<OpId> readers = graph.tensors[op.outputs.at(0)].consumers;
      std::vector<OpId>& all = graph.tensors[op.inputs.at(0)].consumers;
      all.insert(all.end(), readers.begin(), readers.end());
    }
    return graph;
  }

  // Given before step 0, or at the first iteration's begin.
  bool is_given_first(TensorId id) const {
    const Tensor& tensor = graph_.tensors[id];
    if (tensor.producer != kNoOp) return false;
    if (!has_repeat() || !tensor.type.batched || whole_batch_.given[id] != 0) return true;
    return std::binary_search(given_[0].begin(), given_[0].end(), id);
  }

  // The last static step that reads each value made or given, its views included; step_count() for what the caller
  // reads. A tensor that is made again is another value from there on.
  void find_last_uses() {
    IdVector<TensorId, std::int32_t> value_of(graph_.tensors.size(), kNone);
    std::vector<std::int32_t> looks_at;  // of a view: the value whose bytes it is
    const auto add = [&](TensorId id, std::int32_t step, std::int32_t viewed) {
      value_of[id] = static_cast<std::int32_t>(last_use_.size());
      last_use_.push_back(step);
      looks_at.push_back(viewed);
    };
    const auto use = [&](std::int32_t value, std::int32_t step) {
      for (; value != kNone; value = looks_at[static_cast<std::size_t>(value)]) {
        std::int32_t& last = last_use_[static_cast<std::size_t>(value)];
        last = std::max(last, step);
      }
    };
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i)
      if (is_given_first(static_cast<TensorId>(i))) add(static_cast<TensorId>(i), kNone, kNone);
    for (std::int32_t step = 0; step < step_count(); ++step) {
      if (begins_later_repeat(step))
        for (TensorId given : given_at(step)) add(given, step, kNone);
      const Op& op = graph_.ops[order_[static_cast<std::size_t>(step)]];
      for (TensorId input : op.inputs) {
        if (value_of[input] == kNone)
          throw InvalidArgument("schedule: step " + std::to_string(step) + " ('" + op.name + "') reads '" +
                                graph_.tensors[input].name + "' before it is made");
        use(value_of[input], step);
      }
      const bool view = definitions_[order_[static_cast<std::size_t>(step)]]->view;
      for (std::size_t k = 0; k < op.outputs.size(); ++k)
        add(op.outputs[k], step, view && k == 0 ? value_of[op.inputs.at(0)] : kNone);
    }
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      const Tensor& tensor = graph_.tensors[id];
      if (value_of[id] == kNone) throw InvalidArgument("schedule: the sequence does not make '" + tensor.name + "'");
      if (tensor.is_output || is_persistent(tensor)) use(value_of[id], step_count());
    }
  }

  std::int64_t largest_part() const { return cut_.empty() ? 0 : *std::max_element(cut_.begin(), cut_.end()); }

  Bytes size_of(TensorId id, bool whole_batch) const {
    const TensorType& type = graph_.tensors[id].type;
    Bytes size = bytes_of(type);
    if (type.batched && !whole_batch) size = Bytes{size.value / type.shape[0] * largest_part()};
    return align_up(size, kAlignment);
  }

  StorageId new_storage(const std::string& name, Role role, Bytes size, std::int32_t begin) {
    users_end_.push_back(begin + 1);
    least_end_.push_back(kNone);
    return schedule_.storages.push_back(
        {.name = name, .role = role, .size = size, .lifetime = {Step{begin}, Step{begin + 1}}});
  }

  // Called in the order in which find_last_uses met the values.
  InstanceId new_instance(TensorId id, StorageId storage, bool whole_batch) {
    users_end_[storage] = std::max(users_end_[storage], last_use_[schedule_.instances.size()] + 1);
    const InstanceId instance = schedule_.instances.push_back({id, storage, whole_batch});
    instance_of_[id] = instance;
    return instance;
  }

  // The caller makes them before step 0: of a cut program, in every iteration of the first repeat.
  void add_given_tensors() {
    instance_of_ = IdVector<TensorId, InstanceId>(graph_.tensors.size(), InstanceId{-1});
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      if (!is_given_first(id)) continue;
      const Tensor& tensor = graph_.tensors[id];
      const bool whole_batch = whole_batch_.given[id] != 0;
      const StorageId storage = new_storage(tensor.name, tensor.role, size_of(id, whole_batch), 0);
      schedule_.storages[storage].persistent = is_persistent(tensor);
      if (has_repeat() && (whole_batch || !tensor.type.batched)) keep_through(storage, loops_.repeats[0]);
      new_instance(id, storage, whole_batch);
    }
  }

  // One microbatch, made again for a later repeat.
  void add_given_in_parts(std::int32_t step) {
    for (TensorId id : given_at(step)) {
      const Tensor& tensor = graph_.tensors[id];
      new_instance(id, new_storage(tensor.name, tensor.role, size_of(id, false), step), /*whole_batch=*/false);
    }
  }

  // The storage an output may take over from an input that dies at this step, or kNoStorage.
  StorageId inherited_storage(OpId id, std::size_t output, std::int32_t step, bool whole_batch,
                              const std::vector<StorageId>& taken) const {
    const Op& op = graph_.ops[id];
    const OpDefinition& definition = *definitions_[id];
    const Tensor& tensor = graph_.tensors[op.outputs[output]];
    if (tensor.version_of != kNoTensor) return schedule_.instances[instance_of_[tensor.version_of]].storage;
    if (definition.view && output == 0) return schedule_.instances[instance_of_[op.inputs.at(0)]].storage;
    for (InPlacePair pair : definition.in_place) {
      if (static_cast<std::size_t>(pair.output) != output) continue;
      const auto input_index = static_cast<std::size_t>(pair.input);
      if (input_index >= op.inputs.size()) continue;
      const TensorId input = op.inputs[input_index];
      const Instance& instance = schedule_.instances[instance_of_[input]];
      const Storage& storage = schedule_.storages[instance.storage];
      const bool dies_here = users_end_[instance.storage] == step + 1;
      const bool read_once = std::count_if(op.inputs.begin(), op.inputs.end(), [&](TensorId other) {
                               return schedule_.instances[instance_of_[other]].storage == instance.storage;
                             }) == 1;  // views of it count too
      const bool free = std::count(taken.begin(), taken.end(), instance.storage) == 0;
      const bool as_large = storage.size == size_of(op.outputs[output], whole_batch) &&
                            bytes_of(graph_.tensors[input].type) == bytes_of(tensor.type);
      if (dies_here && read_once && free && !storage.persistent && may_overwrite(instance, whole_batch, step) &&
          as_large && summed_output_[id] != static_cast<std::int32_t>(output))
        return instance.storage;
    }
    return kNoStorage;
  }

  // In a repeat an iteration touches nothing but its own samples of a whole batch, and reads that once more in no other
  // one: so a whole batch may be made over another, sample by sample. What is given is given again in every iteration.
  bool may_overwrite(const Instance& instance, bool whole_batch, std::int32_t step) const {
    const HalfOpen* repeat = loops_.around(step);
    if (repeat == nullptr) return true;
    if (whole_batch) return instance.whole_batch && !is_given(instance.tensor);
    const bool is_of_iteration = index(schedule_.storages[instance.storage].lifetime.begin) >= repeat->begin;
    return !instance.whole_batch && is_of_iteration && least_end_[instance.storage] == kNone;
  }

  // Or looks at what is.
  bool is_given(TensorId id) const {
    const OpId producer = graph_.tensors[id].producer;
    return producer == kNoOp || (definitions_[producer]->view && is_given(graph_.ops[producer].inputs.at(0)));
  }

  void add_step(std::int32_t step) {
    const OpId op_id = order_[static_cast<std::size_t>(step)];
    const Op& op = graph_.ops[op_id];
    ScheduledStep scheduled;
    scheduled.op = op_id;
    scheduled.is_recomputation = ran_[op_id] != 0;
    ran_[op_id] = 1;
    scheduled.inputs.reserve(op.inputs.size());
    scheduled.outputs.reserve(op.outputs.size());
    for (TensorId input : op.inputs) scheduled.inputs.push_back(instance_of_[input]);
    std::vector<StorageId> taken;
    for (std::size_t i = 0; i < op.outputs.size(); ++i) {
      const TensorId output = op.outputs[i];
      bool whole_batch = whole_batch_.made[static_cast<std::size_t>(step)][i] != 0;
      if (definitions_[op_id]->view && i == 0)
        whole_batch = schedule_.instances[instance_of_[op.inputs.at(0)]].whole_batch && is_batched(output);
      const bool may_lead = whole_batch_.leads[static_cast<std::size_t>(step)][i] != 0 && is_batched(output) &&
                            graph_.tensors[output].version_of == kNoTensor && !definitions_[op_id]->view;
      StorageId storage = kNoStorage;
      if (!whole_batch && may_lead) storage = inherited_storage(op_id, i, step, /*whole_batch=*/true, taken);
      whole_batch = whole_batch || storage != kNoStorage;
      if (storage == kNoStorage) storage = inherited_storage(op_id, i, step, whole_batch, taken);
      if (storage == kNoStorage)
        storage =
            new_storage(graph_.tensors[output].name, graph_.tensors[output].role, size_of(output, whole_batch), step);
      taken.push_back(storage);
      scheduled.outputs.push_back(new_instance(output, storage, whole_batch));
      const HalfOpen* repeat = loops_.around(step);
      if (repeat != nullptr && (summed_output_[op_id] == static_cast<std::int32_t>(i) || whole_batch))
        keep_through(storage, *repeat);
    }
    if (const Bytes workspace = workspaces_[op_id]; workspace > Bytes{0})
      scheduled.workspace = new_storage(op.name + ".workspace", Role::workspace, align_up(workspace, kAlignment), step);
    schedule_.steps.push_back(std::move(scheduled));
  }

  // Its bytes outlive an iteration: sums, whole batches, what is given once.
  void keep_through(StorageId storage, HalfOpen repeat) {
    least_end_[storage] = std::max(least_end_[storage], static_cast<std::int32_t>(repeat.end));
  }

  // Within one iteration, or around every repeat that it begins or ends in.
  void close_lifetimes() {
    for (std::size_t i = 0; i < schedule_.storages.size(); ++i) {
      const auto id = static_cast<StorageId>(i);
      Storage& storage = schedule_.storages[id];
      std::int32_t begin = storage.persistent ? 0 : index(storage.lifetime.begin);
      std::int32_t end = storage.persistent ? step_count() : std::min(users_end_[id], step_count());
      end = std::max(end, least_end_[id]);
      if (const HalfOpen* first = begin < step_count() ? loops_.around(begin) : nullptr)
        if (end > first->end || least_end_[id] != kNone) begin = static_cast<std::int32_t>(first->begin);
      if (const HalfOpen* last = end > 0 ? loops_.around(end - 1) : nullptr)
        if (begin < last->begin) end = static_cast<std::int32_t>(last->end);
      storage.lifetime = {Step{begin}, Step{end}};
    }
  }

  const Graph& graph_;
  IdVector<OpId, const OpDefinition*> definitions_;
  IdVector<OpId, std::int32_t> summed_output_;  // kNone: no sum over microbatches
  std::vector<std::int64_t> cut_;
  IdVector<OpId, Bytes> workspaces_;
  std::vector<OpId> order_;
  StepLoops loops_;
  std::vector<std::vector<TensorId>> given_;  // at the beginning of each repeat's iterations, one microbatch of each
  std::vector<std::int32_t> last_use_;        // of each instance, in the order in which they are made
  WholeBatches whole_batch_;
  IdVector<TensorId, InstanceId> instance_of_;
  IdVector<OpId, char> ran_;
  IdVector<StorageId, std::int32_t> users_end_;  // static step after the last use so far
  IdVector<StorageId, std::int32_t> least_end_;  // of the last repeat that its bytes outlive iterations of, or kNone
  Schedule schedule_;
};

}  // namespace

OpShape shape_of(const Graph& graph, OpId op, std::int64_t samples, const DeviceDescription& device) {
  OpShape shape;
  for (TensorId input : graph.ops[op].inputs) shape.inputs.push_back(with_samples(graph.tensors[input].type, samples));
  for (TensorId output : graph.ops[op].outputs)
    shape.outputs.push_back(with_samples(graph.tensors[output].type, samples));
  shape.attributes = graph.ops[op].attributes;
  shape.device = device;
  return shape;
}

std::vector<Bytes> live_by_step(const Schedule& schedule) {
  std::vector<Bytes> live(schedule.steps.size() + 1);
  for (const Storage& storage : schedule.storages) {
    live[static_cast<std::size_t>(index(storage.lifetime.begin))] += storage.size;
    live[static_cast<std::size_t>(index(storage.lifetime.end))] -= storage.size;
  }
  Bytes sum;
  for (Bytes& bytes : live) bytes = sum += bytes;
  live.pop_back();
  return live;
}

Schedule make_schedule(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                       const ScheduleOptions& options) {
  std::int64_t sum = 0;
  for (std::int64_t part : options.microbatches) {
    if (part <= 0)
      throw InvalidArgument("microbatch of " + std::to_string(part) + " samples; each part has at least 1");
    sum += part;
  }
  if (sum != graph.batch)
    throw InvalidArgument("microbatches sum to " + std::to_string(sum) + " samples, the batch has " +
                          std::to_string(graph.batch));
  return ScheduleBuilder(graph, registry, device, options).build();
}

}  // namespace thimble
