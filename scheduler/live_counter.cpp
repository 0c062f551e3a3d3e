#include "thimble/live_counter.h"

#include <algorithm>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::int32_t kNever = -1;
constexpr InstanceId kNoValue{-1};

}  // namespace

LiveCounter::LiveCounter(const Graph& graph, const OpRegistry& registry, const ScheduleOptions& options)
    : op_tensors_(graph),
      is_cut_(options.microbatches.size() > 1),
      updates_last_(is_cut_ || options.barrier_before_update) {
  if (options.workspaces.size() != graph.ops.size() || options.microbatches.empty())
    throw InvalidArgument("live counter: " + std::to_string(options.workspaces.size()) + " workspaces of " +
                          std::to_string(graph.ops.size()) + " ops, cut into " +
                          std::to_string(options.microbatches.size()) + " parts");
  for (const Tensor& tensor : graph.tensors) {
    const bool is_given = tensor.producer == kNoOp, persistent = is_persistent(tensor);
    const bool is_whole = tensor.type.batched && ((is_given && (!is_cut_ || persistent)) || tensor.is_output);
    tensors_.push_back({.size = {},
                        .version_of = tensor.version_of,
                        .given = is_given,
                        .is_callers = is_given,
                        .in_persistent = is_given && persistent,
                        .batched = tensor.type.batched,
                        .lasts = tensor.is_output || persistent,
                        .whole_batch = is_whole});
  }
  value_of_ = IdVector<TensorId, InstanceId>(tensors_.size(), kNoValue);
  for (std::size_t i = 0; i < graph.ops.size(); ++i)
    add_op(graph, registry, static_cast<OpId>(i), options.workspaces[static_cast<OpId>(i)]);
  find_whole_batches();
  find_persistent(graph);
  const std::int64_t largest = *std::max_element(options.microbatches.begin(), options.microbatches.end());
  for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
    const auto id = static_cast<TensorId>(i);
    TensorFacts& tensor = tensors_[id];
    const TensorType& type = graph.tensors[id].type;
    const bool in_parts = type.batched && !tensor.whole_batch;
    tensor.size = align_up(bytes_of(in_parts ? with_samples(type, largest) : type), kAlignment);
    if (tensor.in_persistent && tensor.given) persistent_ += tensor.size;
    if (tensor.in_persistent) continue;
    if (tensor.given) given_.push_back(id);
    if (tensor.lasts) lasting_.push_back(id);
  }
}

// New versions and views of what persists lie in its bytes. An op that sums over microbatches may have a later id than
// who reads the sum.
void LiveCounter::find_persistent(const Graph& graph) {
  const auto follow = [&](TensorId t, TensorId from) {
    const bool is_found = tensors_[from].in_persistent && !tensors_[t].in_persistent;
    tensors_[t].in_persistent |= is_found;
    return is_found;
  };
  for (bool is_new = true; is_new;) {
    is_new = false;
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      const auto op = static_cast<OpId>(i);
      for (TensorId t : op_tensors_.outputs(op))
        if (graph.tensors[t].version_of != kNoTensor) is_new |= follow(t, graph.tensors[t].version_of);
      if (ops_[op].view) is_new |= follow(op_tensors_.outputs(op)[0], op_tensors_.inputs(op)[0]);
    }
  }
}

void LiveCounter::add_op(const Graph& graph, const OpRegistry& registry, OpId id, Bytes workspace) {
  const Op& op = graph.ops[id];
  const OpDefinition& definition = registry.at(op.kind);
  OpFacts facts{{},
                align_up(workspace, kAlignment),
                op.phase == Phase::update,
                definition.view,
                registry.accumulates(op) ? static_cast<std::size_t>(definition.accumulated_output) : kNoOutput};
  for (InPlacePair pair : definition.in_place) {
    const auto input = static_cast<std::size_t>(pair.input), output = static_cast<std::size_t>(pair.output);
    if (input < op.inputs.size() && output < op.outputs.size() &&
        bytes_of(graph.tensors[op.inputs[input]].type) == bytes_of(graph.tensors[op.outputs[output]].type))
      facts.in_place.push_back({input, output});
  }
  ops_.push_back(std::move(facts));
}

// Only updates stand outside the repeat; what they read of a batch is the whole of it, and so is what shares its bytes.
void LiveCounter::find_whole_batches() {
  const auto mark = [&](TensorId tensor) { tensors_[tensor].whole_batch |= tensors_[tensor].batched; };
  for (std::size_t i = 0; i < ops_.size(); ++i)
    if (const auto op = static_cast<OpId>(i); is_cut_ && ops_[op].update)
      std::ranges::for_each(op_tensors_.inputs(op), mark);
  for (std::size_t i = ops_.size(); i-- > 0;)
    if (const auto op = static_cast<OpId>(i); ops_[op].view && tensors_[op_tensors_.outputs(op)[0]].whole_batch)
      mark(op_tensors_.inputs(op)[0]);
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    const auto op = static_cast<OpId>(i);
    if (!ops_[op].view) continue;
    const TensorId seen = op_tensors_.inputs(op)[0], view = op_tensors_.outputs(op)[0];
    if (tensors_[seen].whole_batch) mark(view);
    tensors_[view].is_callers = tensors_[seen].is_callers;
  }
}

const std::vector<Bytes>& LiveCounter::count(const std::vector<OpId>& sequence) {
  order_steps(sequence);
  find_last_uses();
  lay_out();
  sum_up();
  return live_;
}

void LiveCounter::order_steps(const std::vector<OpId>& sequence) {
  steps_ = sequence;
  if (updates_last_) std::stable_partition(steps_.begin(), steps_.end(), [&](OpId op) { return !ops_[op].update; });
  const auto first_update = std::find_if(steps_.begin(), steps_.end(), [&](OpId op) { return ops_[op].update; });
  body_end_ = is_cut_ ? static_cast<std::int32_t>(first_update - steps_.begin()) : 0;
}

void LiveCounter::find_last_uses() {
  values_.clear();
  const auto add = [&](TensorId tensor, std::int32_t step, InstanceId viewed) {
    value_of_[tensor] = values_.push_back({step, viewed, kNoStorage});
  };
  const auto use = [&](InstanceId value, std::int32_t step) {  // steps come in order
    for (; value != kNoValue; value = values_[value].looks_at) values_[value].last_use = step;
  };
  for (TensorId given : given_) add(given, kNever, kNoValue);
  for (std::int32_t step = 0; step < step_count(); ++step) {
    const OpId op = steps_[static_cast<std::size_t>(step)];
    for (TensorId input : op_tensors_.inputs(op)) use(value_of_[input], step);
    InstanceId viewed = ops_[op].view ? value_of_[op_tensors_.inputs(op)[0]] : kNoValue;
    for (TensorId output : op_tensors_.outputs(op)) {
      if (!tensors_[output].in_persistent) add(output, step, viewed);
      viewed = kNoValue;
    }
  }
  for (TensorId lasting : lasting_) use(value_of_[lasting], step_count());
}

StorageId LiveCounter::add_storage(const TensorFacts& tensor, std::int32_t begin, bool outlives_iteration) {
  return storages_.push_back({tensor.size, begin, begin + 1, outlives_iteration});
}

// Called in the order in which find_last_uses met the values.
void LiveCounter::hold(TensorId tensor, StorageId storage) {
  value_of_[tensor] = static_cast<InstanceId>(next_value_++);
  Value& value = values_[value_of_[tensor]];
  value.storage = storage;
  storages_[storage].end = std::max(storages_[storage].end, value.last_use + 1);
}

void LiveCounter::lay_out() {
  storages_.clear();
  next_value_ = 0;
  live_.assign(steps_.size() + 1, Bytes{});
  for (TensorId given : given_) {
    const TensorFacts& tensor = tensors_[given];
    hold(given, add_storage(tensor, 0, is_cut_ && (tensor.whole_batch || !tensor.batched)));
  }
  for (std::int32_t step = 0; step < step_count(); ++step) make_outputs(step);
}

void LiveCounter::make_outputs(std::int32_t step) {
  const auto at = static_cast<std::size_t>(step);
  const OpFacts& op = ops_[steps_[at]];
  const std::span<const TensorId> outputs = op_tensors_.outputs(steps_[at]);
  taken_.clear();
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    const TensorFacts& output = tensors_[outputs[k]];
    if (output.in_persistent) continue;
    StorageId storage = inherited(steps_[at], k, step);
    if (storage == kNoStorage) storage = add_storage(output, step, false);
    taken_.push_back(storage);
    hold(outputs[k], storage);
    storages_[storage].outlives_iteration |= op.sum == k || (output.whole_batch && step < body_end_);
  }
  live_[at] += op.workspace;
  live_[at + 1] -= op.workspace;
}

StorageId LiveCounter::inherited(OpId op, std::size_t output, std::int32_t step) const {
  if (const TensorId old = tensors_[op_tensors_.outputs(op)[output]].version_of; old != kNoTensor)
    return storage_of(old);
  if (ops_[op].view && output == 0) return storage_of(op_tensors_.inputs(op)[0]);
  for (const Place& place : ops_[op].in_place)
    if (place.output == output && may_take(op, place, step)) return storage_of(op_tensors_.inputs(op)[place.input]);
  return kNoStorage;
}

bool LiveCounter::may_take(OpId op, const Place& place, std::int32_t step) const {
  const std::span<const TensorId> inputs = op_tensors_.inputs(op);
  const StorageId storage = storage_of(inputs[place.input]);
  if (storage == kNoStorage) return false;
  const Range& range = storages_[storage];
  const TensorFacts &from = tensors_[inputs[place.input]], &to = tensors_[op_tensors_.outputs(op)[place.output]];
  if (ops_[op].sum == place.output || range.end != step + 1 || range.size != to.size) return false;
  if (step < body_end_ && to.whole_batch && (!from.whole_batch || from.is_callers)) return false;
  if (step < body_end_ && !to.whole_batch && (from.whole_batch || range.outlives_iteration)) return false;
  const auto in_storage = [&](TensorId tensor) { return storage_of(tensor) == storage; };
  return std::count_if(inputs.begin(), inputs.end(), in_storage) == 1 &&
         std::find(taken_.begin(), taken_.end(), storage) == taken_.end();
}

void LiveCounter::sum_up() {
  for (const Range& range : storages_) {
    std::int32_t begin = range.begin, end = std::min(range.end, step_count());
    if (begin < body_end_) {
      if (end > body_end_ || range.outlives_iteration) begin = 0;
      if (range.outlives_iteration) end = std::max(end, body_end_);
    }
    live_[static_cast<std::size_t>(begin)] += range.size;
    live_[static_cast<std::size_t>(end)] -= range.size;
  }
  Bytes sum = persistent_;
  for (Bytes& bytes : live_) bytes = sum += bytes;
  live_.pop_back();
}

}  // namespace thimble
