#include "schedule_loops.h"

#include <algorithm>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::int32_t kNowhere = -1;

bool is_update(const Graph& graph, OpId op) { return graph.ops[op].phase == Phase::update; }

void check_repeats(const Graph& graph, const ScheduleOptions& options, const std::vector<OpId>& order) {
  const auto refuse = [](HalfOpen repeat, const std::string& why) {
    throw InvalidArgument("schedule: the repeat of steps [" + std::to_string(repeat.begin) + ", " +
                          std::to_string(repeat.end) + ") " + why);
  };
  std::int64_t end = 0;
  for (HalfOpen repeat : options.repeats) {
    if (repeat.begin < end || repeat.end <= repeat.begin || repeat.end > static_cast<std::int64_t>(order.size()))
      refuse(repeat, "is none of the sequence's " + std::to_string(order.size()) + " steps");
    if (end == 0 && repeat.begin > 0) refuse(repeat, "does not begin the sequence");
    end = repeat.end;
    for (std::int64_t i = repeat.begin; i < repeat.end; ++i)
      if (is_update(graph, order[static_cast<std::size_t>(i)]))
        refuse(repeat, "holds update '" + graph.ops[order[static_cast<std::size_t>(i)]].name + "'");
  }
}

}  // namespace

StepLoops order_steps(const Graph& graph, const ScheduleOptions& options, std::vector<OpId>& order) {
  StepLoops loops;
  const bool is_cut = options.microbatches.size() > 1;
  if (!options.repeats.empty()) {
    check_repeats(graph, options, order);
    if (is_cut) loops.repeats = options.repeats;
  } else if (is_cut || options.barrier_before_update) {
    std::stable_partition(order.begin(), order.end(), [&](OpId op) { return !is_update(graph, op); });
    const auto first = std::find_if(order.begin(), order.end(), [&](OpId op) { return is_update(graph, op); });
    if (is_cut && first != order.begin()) loops.repeats = {{0, first - order.begin()}};
  }
  loops.repeat_of.assign(order.size(), kNowhere);
  for (std::size_t k = 0; k < loops.repeats.size(); ++k)
    for (std::int64_t i = loops.repeats[k].begin; i < loops.repeats[k].end; ++i)
      loops.repeat_of[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(k);
  return loops;
}

std::vector<ScheduleNode> order_tree(const Graph& graph, const ScheduleOptions& options, const std::vector<OpId>& order,
                                     const StepLoops& loops) {
  std::vector<HalfOpen> ranges;
  std::int64_t begin = 0;
  for (std::int64_t size : options.microbatches) {
    ranges.push_back({begin, begin + size});
    begin += size;
  }
  bool has_barrier = false;
  std::vector<ScheduleNode> tree;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const ScheduleNode step{.step = Step{static_cast<std::int32_t>(i)}};
    if (options.barrier_before_update && !has_barrier && is_update(graph, order[i])) {
      tree.push_back({.kind = ScheduleNode::Kind::barrier});
      has_barrier = true;
    }
    const HalfOpen* repeat = loops.around(static_cast<std::int32_t>(i));
    if (repeat == nullptr) {
      tree.push_back(step);
      continue;
    }
    if (repeat->begin == static_cast<std::int64_t>(i))
      tree.push_back({.kind = ScheduleNode::Kind::repeat, .step = {}, .ranges = ranges, .body = {}});
    tree.back().body.push_back(step);
  }
  if (options.barrier_before_update && !has_barrier) tree.push_back({.kind = ScheduleNode::Kind::barrier});
  return tree;
}

IdVector<TensorId, char> find_whole_batches(const Graph& graph, const IdVector<OpId, const OpDefinition*>& definitions,
                                            const std::vector<OpId>& order, const StepLoops& loops) {
  IdVector<TensorId, char> whole(graph.tensors.size(), 0);
  IdVector<TensorId, std::int32_t> made_in(graph.tensors.size(), kNowhere);  // the repeat of its latest making
  const bool has_repeat = !loops.repeats.empty();
  for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
    const auto id = static_cast<TensorId>(i);
    const Tensor& tensor = graph.tensors[id];
    const bool is_given = tensor.producer == kNoOp && (!has_repeat || is_persistent(tensor));
    whole[id] = tensor.type.batched && (is_given || tensor.is_output);
  }
  for (std::size_t i = 0; has_repeat && i < order.size(); ++i) {
    const std::int32_t here = loops.repeat_of[i];
    for (TensorId input : graph.ops[order[i]].inputs) {
      const Tensor& tensor = graph.tensors[input];
      const bool passes = tensor.producer == kNoOp ? here == kNowhere : made_in[input] != here || here == kNowhere;
      if (passes && tensor.type.batched) whole[input] = 1;
    }
    for (TensorId output : graph.ops[order[i]].outputs) {
      made_in[output] = here;
      if (here == kNowhere && graph.tensors[output].type.batched) whole[output] = 1;
    }
  }
  const auto share = [&](OpId id, bool backwards) {
    const Op& op = graph.ops[id];
    if (!definitions[id]->view) return;
    const TensorId from = backwards ? op.outputs.at(0) : op.inputs.at(0);
    const TensorId to = backwards ? op.inputs.at(0) : op.outputs.at(0);
    if (graph.tensors[to].type.batched && whole[from] != 0) whole[to] = 1;
  };
  for (std::size_t i = order.size(); i-- > 0;) share(order[i], true);
  for (OpId op : order) share(op, false);
  return whole;
}

std::vector<std::vector<TensorId>> find_given(const Graph& graph, const std::vector<OpId>& order,
                                              const StepLoops& loops, const IdVector<TensorId, char>& whole_batch) {
  std::vector<std::vector<TensorId>> given(loops.repeats.size());
  if (given.empty()) return given;
  IdVector<TensorId, char> is_read(graph.tensors.size(), 0);
  const auto is_given_in_parts = [&](TensorId id) {
    const Tensor& tensor = graph.tensors[id];
    return tensor.producer == kNoOp && tensor.type.batched && whole_batch[id] == 0 && !is_persistent(tensor);
  };
  for (std::size_t i = 0; i < order.size(); ++i)
    for (TensorId input : graph.ops[order[i]].inputs)
      if (loops.repeat_of[i] != kNowhere && is_given_in_parts(input)) {
        given[static_cast<std::size_t>(loops.repeat_of[i])].push_back(input);
        is_read[input] = 1;
      }
  for (std::size_t i = 0; i < graph.tensors.size(); ++i)
    if (const auto id = static_cast<TensorId>(i); is_read[id] == 0 && is_given_in_parts(id)) given[0].push_back(id);
  for (std::vector<TensorId>& tensors : given) {
    std::sort(tensors.begin(), tensors.end());
    tensors.erase(std::unique(tensors.begin(), tensors.end()), tensors.end());
  }
  return given;
}

}  // namespace thimble
