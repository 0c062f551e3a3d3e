#include "thimble/schedule.h"

#include <algorithm>

#include "op_prices.h"
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
    for (const Op& op : graph.ops) accumulates_.push_back(registry.accumulates(op) ? 1 : 0);
    order_ops(options.barrier_before_update);
    find_last_uses();
    find_whole_batches();
    find_sizes();
  }

  Schedule build() {
    ran_ = IdVector<OpId, char>(graph_.ops.size(), 0);
    schedule_.steps.reserve(order_.size());
    schedule_.instances.reserve(last_use_.size());
    schedule_.storages.reserve(last_use_.size() + order_.size());
    users_end_.reserve(last_use_.size() + order_.size());
    add_given_tensors();
    for (std::size_t i = 0; i < order_.size(); ++i) add_step(static_cast<std::int32_t>(i));
    close_lifetimes();
    return std::move(schedule_);
  }

 private:
  static IdVector<OpId, const OpDefinition*> definitions_of(const Graph& graph, const OpRegistry& registry) {
    IdVector<OpId, const OpDefinition*> all;
    for (const Op& op : graph.ops) all.push_back(&registry.at(op.kind));
    return all;
  }

  bool is_cut() const { return cut_.size() > 1; }
  std::int32_t step_count() const { return static_cast<std::int32_t>(order_.size()); }
  bool in_body(std::int32_t step) const { return step < body_end_; }

  // With one microbatch updates run as soon as they may; with several, or before a barrier, after all the rest.
  void order_ops(bool barrier) {
    const auto is_update = [&](OpId op) { return graph_.ops[op].phase == Phase::update; };
    const bool split = is_cut() || barrier;
    if (split) std::stable_partition(order_.begin(), order_.end(), [&](OpId op) { return !is_update(op); });
    const auto first_update = std::find_if(order_.begin(), order_.end(), is_update) - order_.begin();
    const auto split_at = static_cast<std::int32_t>(split ? first_update : 0);
    std::vector<ScheduleNode> steps;
    for (std::int32_t i = 0; i < step_count(); ++i) steps.push_back({.step = Step{i}});
    if (is_cut()) {
      body_end_ = split_at;
      ScheduleNode repeat{.kind = ScheduleNode::Kind::repeat};
      std::int64_t begin = 0;
      for (std::int64_t size : cut_) {
        repeat.ranges.push_back({begin, begin + size});
        begin += size;
      }
      repeat.body.assign(steps.begin(), steps.begin() + split_at);
      steps.erase(steps.begin(), steps.begin() + split_at);
      steps.insert(steps.begin(), repeat);
    }
    if (barrier) steps.insert(steps.begin() + (is_cut() ? 1 : split_at), {.kind = ScheduleNode::Kind::barrier});
    schedule_.order = std::move(steps);
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

  // Values that hold every sample of the step: batched outputs, what is read outside the repeat, and whatever shares
  // bytes with them as a view. Without a repeat, inputs too.
  void find_whole_batches() {
    whole_batch_ = IdVector<TensorId, char>(graph_.tensors.size(), 0);
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const Tensor& tensor = graph_.tensors[static_cast<TensorId>(i)];
      const bool is_given = tensor.producer == kNoOp && (!is_cut() || is_persistent(tensor));
      whole_batch_[static_cast<TensorId>(i)] = tensor.type.batched && (is_given || tensor.is_output);
    }
    for (std::int32_t step = body_end_; is_cut() && step < step_count(); ++step)
      for (TensorId input : graph_.ops[order_[static_cast<std::size_t>(step)]].inputs)
        if (graph_.tensors[input].type.batched) whole_batch_[input] = 1;
    const auto share = [&](OpId id, bool backwards) {
      const Op& op = graph_.ops[id];
      if (!definitions_[id]->view) return;
      const TensorId from = backwards ? op.outputs.at(0) : op.inputs.at(0);
      const TensorId to = backwards ? op.inputs.at(0) : op.outputs.at(0);
      if (graph_.tensors[to].type.batched && whole_batch_[from] != 0) whole_batch_[to] = 1;
    };
    for (std::size_t i = order_.size(); i-- > 0;) share(order_[i], true);
    for (OpId op : order_) share(op, false);
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
      if (graph_.tensors[static_cast<TensorId>(i)].producer == kNoOp) add(static_cast<TensorId>(i), kNone, kNone);
    for (std::int32_t step = 0; step < step_count(); ++step) {
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

  void find_sizes() {
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      const TensorType& type = graph_.tensors[id].type;
      Bytes size = bytes_of(type);
      if (type.batched && whole_batch_[id] == 0) size = Bytes{size.value / type.shape[0] * largest_part()};
      sizes_.push_back(align_up(size, kAlignment));
    }
  }

  StorageId new_storage(const std::string& name, Role role, Bytes size, std::int32_t begin) {
    users_end_.push_back(begin + 1);
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

  // The caller makes them before step 0: of a cut program, in every iteration, for its samples only.
  void add_given_tensors() {
    instance_of_ = IdVector<TensorId, InstanceId>(graph_.tensors.size(), InstanceId{-1});
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      const Tensor& tensor = graph_.tensors[id];
      if (tensor.producer != kNoOp) continue;
      const bool whole_batch = whole_batch_[id] != 0;
      const StorageId storage = new_storage(tensor.name, tensor.role, sizes_[id], 0);
      schedule_.storages[storage].persistent = is_persistent(tensor);
      if (is_cut() && (whole_batch || !tensor.type.batched)) keep_through_loop(storage);
      new_instance(id, storage, whole_batch);
    }
  }

  // The storage an output may take over from an input that dies at this step, or kNoStorage.
  StorageId inherited_storage(OpId id, std::size_t output, std::int32_t step, Bytes size,
                              const std::vector<StorageId>& taken) const {
    const Op& op = graph_.ops[id];
    const OpDefinition& definition = *definitions_[id];
    const Tensor& tensor = graph_.tensors[op.outputs[output]];
    if (tensor.version_of != kNoTensor) return schedule_.instances[instance_of_[tensor.version_of]].storage;
    if (definition.view && output == 0) return schedule_.instances[instance_of_[op.inputs.at(0)]].storage;
    if (is_cut() && whole_batch_[op.outputs[output]] != 0) return kNoStorage;
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
      const bool survives_iteration = in_body(step) && (instance.whole_batch || outlives_iteration(instance.storage));
      const bool as_large = storage.size == size && bytes_of(graph_.tensors[input].type) == bytes_of(tensor.type);
      if (dies_here && read_once && free && !storage.persistent && !survives_iteration && as_large &&
          accumulates_[id] == 0)
        return instance.storage;
    }
    return kNoStorage;
  }

  bool outlives_iteration(StorageId id) const {
    return is_cut() && (begins_before_loop_.contains(id) ? begins_before_loop_[id] != 0 : false);
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
      const bool whole_batch = whole_batch_[output] != 0;
      const Bytes size = sizes_[output];
      StorageId storage = inherited_storage(op_id, i, step, size, taken);
      if (storage == kNoStorage)
        storage = new_storage(graph_.tensors[output].name, graph_.tensors[output].role, size, step);
      taken.push_back(storage);
      scheduled.outputs.push_back(new_instance(output, storage, whole_batch));
      if (accumulates_[op_id] != 0 || (whole_batch && in_body(step))) keep_through_loop(storage);
    }
    if (const Bytes workspace = workspaces_[op_id]; workspace > Bytes{0})
      scheduled.workspace = new_storage(op.name + ".workspace", Role::workspace, align_up(workspace, kAlignment), step);
    schedule_.steps.push_back(std::move(scheduled));
  }

  void keep_through_loop(StorageId storage) {
    while (begins_before_loop_.size() < schedule_.storages.size()) begins_before_loop_.push_back(0);
    begins_before_loop_[storage] = 1;
  }

  void close_lifetimes() {
    for (std::size_t i = 0; i < schedule_.storages.size(); ++i) {
      const auto id = static_cast<StorageId>(i);
      Storage& storage = schedule_.storages[id];
      std::int32_t begin = storage.persistent ? 0 : index(storage.lifetime.begin);
      std::int32_t end = storage.persistent ? step_count() : std::min(users_end_[id], step_count());
      if (is_cut() && begin < body_end_) {
        if (end > body_end_ || outlives_iteration(id)) begin = 0;
        if (outlives_iteration(id)) end = std::max(end, body_end_);
      }
      storage.lifetime = {Step{begin}, Step{end}};
    }
  }

  const Graph& graph_;
  IdVector<OpId, const OpDefinition*> definitions_;
  IdVector<OpId, char> accumulates_;
  std::vector<std::int64_t> cut_;
  IdVector<OpId, Bytes> workspaces_;
  std::vector<OpId> order_;
  std::int32_t body_end_ = 0;
  std::vector<std::int32_t> last_use_;  // of each instance, in the order in which they are made
  IdVector<TensorId, char> whole_batch_;
  IdVector<TensorId, Bytes> sizes_;  // of a storage for it
  IdVector<TensorId, InstanceId> instance_of_;
  IdVector<OpId, char> ran_;
  IdVector<StorageId, std::int32_t> users_end_;   // static step after the last use so far
  IdVector<StorageId, char> begins_before_loop_;  // their bytes outlive an iteration: sums, whole batches
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

Bytes live_bytes(const Schedule& schedule) {
  std::vector<Bytes> change(schedule.steps.size() + 1);
  for (const Storage& storage : schedule.storages) {
    change[static_cast<std::size_t>(index(storage.lifetime.begin))] += storage.size;
    change[static_cast<std::size_t>(index(storage.lifetime.end))] -= storage.size;
  }
  Bytes live, most;
  for (Bytes bytes : change) most = std::max(most, live += bytes);
  return most;
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
