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

WholeBatches find_whole_batches(const Graph& graph, const IdVector<OpId, const OpDefinition*>& definitions,
                                const std::vector<OpId>& order, const StepLoops& loops) {
  WholeBatches whole;
  whole.given = IdVector<TensorId, char>(graph.tensors.size(), 0);
  const bool has_repeat = !loops.repeats.empty();
  struct Making {
    std::int32_t step = kNowhere, repeat = kNowhere;
    std::size_t output = 0;
  };
  IdVector<TensorId, Making> latest(graph.tensors.size());
  const auto flag_of = [&](TensorId t) -> char& {
    const Making& making = latest[t];
    return making.step == kNowhere ? whole.given[t] : whole.made[static_cast<std::size_t>(making.step)][making.output];
  };
  const auto mark = [&](TensorId t) {
    if (graph.tensors[t].type.batched) flag_of(t) = 1;
  };
  for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
    const auto id = static_cast<TensorId>(i);
    const Tensor& tensor = graph.tensors[id];
    if (tensor.producer == kNoOp && (!has_repeat || is_persistent(tensor) || tensor.is_output)) mark(id);
  }
  std::vector<char*> looked_at;           // by each step that is a view: the flag of what it looks at
  std::vector<std::vector<Making>> read;  // by each step
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::int32_t here = loops.repeat_of[i];
    const Op& op = graph.ops[order[i]];
    read.emplace_back();
    for (TensorId input : op.inputs) {
      read.back().push_back(latest[input]);
      const bool is_given = graph.tensors[input].producer == kNoOp;
      const bool passes = is_given ? here == kNowhere : latest[input].repeat != here || here == kNowhere;
      if (has_repeat && passes) mark(input);
    }
    looked_at.push_back(definitions[order[i]]->view ? &flag_of(op.inputs.at(0)) : nullptr);
    whole.made.emplace_back(op.outputs.size(), 0);
    for (std::size_t k = 0; k < op.outputs.size(); ++k) {
      latest[op.outputs[k]] = {static_cast<std::int32_t>(i), here, k};
      if (graph.tensors[op.outputs[k]].is_output || (has_repeat && here == kNowhere)) mark(op.outputs[k]);
    }
  }
  const auto is_batched = [&](TensorId t) { return graph.tensors[t].type.batched; };
  for (std::size_t i = order.size(); i-- > 0;)
    if (looked_at[i] != nullptr && whole.made[i][0] != 0 && is_batched(graph.ops[order[i]].inputs.at(0)))
      *looked_at[i] = 1;
  for (std::size_t i = 0; i < order.size(); ++i)
    if (looked_at[i] != nullptr && *looked_at[i] != 0 && is_batched(graph.ops[order[i]].outputs.at(0)))
      whole.made[i][0] = 1;
  for (const std::vector<char>& outputs : whole.made) whole.leads.emplace_back(outputs.size(), 0);
  for (std::size_t i = order.size(); i-- > 0;)
    for (InPlacePair pair : definitions[order[i]]->in_place) {
      const auto input = static_cast<std::size_t>(pair.input), output = static_cast<std::size_t>(pair.output);
      if (input >= read[i].size() || output >= whole.made[i].size()) continue;
      const Making& from = read[i][input];
      const bool leads = whole.made[i][output] != 0 || whole.leads[i][output] != 0;
      if (leads && from.step != kNowhere && from.repeat == loops.repeat_of[i])
        whole.leads[static_cast<std::size_t>(from.step)][from.output] = 1;
    }
  return whole;
}

std::vector<std::vector<TensorId>> find_given(const Graph& graph, const std::vector<OpId>& order,
                                              const StepLoops& loops, const IdVector<TensorId, char>& whole_given) {
  std::vector<std::vector<TensorId>> given(loops.repeats.size());
  if (given.empty()) return given;
  IdVector<TensorId, char> is_read(graph.tensors.size(), 0);
  const auto is_given_in_parts = [&](TensorId id) {
    const Tensor& tensor = graph.tensors[id];
    return tensor.producer == kNoOp && tensor.type.batched && whole_given[id] == 0 && !is_persistent(tensor);
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
