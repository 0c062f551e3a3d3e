// A step graph for more than one microbatch: who sums what.
#include <algorithm>

#include "thimble/schedule.h"

namespace thimble {
namespace {

// Who makes a gradient that nobody reads but `reader`, if such an op can add to a sum itself.
OpId adder_of(const Graph& graph, const OpRegistry& registry, TensorId gradient, OpId reader) {
  const Tensor& tensor = graph.tensors[gradient];
  if (tensor.producer == kNoOp || tensor.is_output || tensor.consumers != std::vector<OpId>{reader}) return kNoOp;
  const OpDefinition& maker = registry.at(graph.ops[tensor.producer].kind);
  const auto output = static_cast<std::size_t>(maker.accumulated_output);
  const bool is_its =
      output < graph.ops[tensor.producer].outputs.size() && graph.ops[tensor.producer].outputs[output] == gradient;
  return maker.may_accumulate && is_its ? tensor.producer : kNoOp;
}

// `adding` adds a gradient to a state: whoever makes the gradient adds it instead, and what is left of `adding` comes
// before, in the first microbatch. The gradient's tensor becomes the state in between.
void let_maker_add(Graph& cut, OpId adding, OpId maker, std::size_t output, const std::string& first_part) {
  Op &first = cut.ops[adding], &adder = cut.ops[maker];
  const TensorId begun = first.inputs.at(0), sum = first.outputs.at(0);
  first.kind = first_part;
  first.inputs.erase(first.inputs.begin());
  first.outputs = {begun};
  adder.inputs.push_back(begun);
  adder.outputs[output] = sum;
  adder.attributes[kAddsToLast] = std::int64_t{1};
  Tensor between = cut.tensors[sum];
  between.name += ".begun";
  between.consumers = {maker};
  cut.tensors[begun] = between;
  cut.tensors[sum].version_of = begun;
  cut.tensors[sum].producer = maker;
}

}  // namespace

Graph accumulate_over_microbatches(const Graph& graph, const OpRegistry& registry) {
  Graph cut = graph;
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    const auto id = static_cast<OpId>(i);
    const std::string& first_part = registry.at(graph.ops[id].kind).first_part;
    if (first_part.empty()) continue;
    if (const OpId maker = adder_of(graph, registry, graph.ops[id].inputs.at(0), id); maker != kNoOp)
      let_maker_add(cut, id, maker, static_cast<std::size_t>(registry.at(graph.ops[maker].kind).accumulated_output),
                    first_part);
  }
  for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
    const auto id = static_cast<TensorId>(i);
    const Tensor& tensor = graph.tensors[id];
    if (tensor.producer == kNoOp || tensor.type.batched || tensor.version_of != kNoTensor) continue;
    std::vector<OpId> updates, others;
    for (OpId reader : tensor.consumers)
      (graph.ops[reader].phase == Phase::update ? updates : others).push_back(reader);
    const Phase phase = graph.ops[tensor.producer].phase;
    if (phase == Phase::update || (updates.empty() && !tensor.is_output)) continue;
    if (updates.size() == 1 && adder_of(graph, registry, id, updates.front()) == tensor.producer) {
      cut.ops[tensor.producer].attributes[kAccumulates] = std::int64_t{1};
      continue;
    }
    const TensorId sum = cut.add_op(registry, kAccumulateKind, tensor.name + ".sum", {id}, {}, phase).front();
    cut.tensors[sum].role = tensor.role;
    cut.tensors[sum].is_output = tensor.is_output;
    cut.tensors[sum].consumers = updates;
    if (tensor.is_output)
      std::swap(cut.tensors[sum].name, cut.tensors[id].name);  // callers ask for the sum by the old name
    cut.tensors[id].is_output = false;
    others.push_back(cut.tensors[sum].producer);
    cut.tensors[id].consumers = others;
    for (OpId update : updates) std::replace(cut.ops[update].inputs.begin(), cut.ops[update].inputs.end(), id, sum);
  }
  return cut;
}

}  // namespace thimble
