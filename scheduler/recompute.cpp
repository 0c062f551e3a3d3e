#include "thimble/recompute.h"

#include <algorithm>

#include "recompute_sequence.h"

namespace thimble {
namespace {

// Ops that may run again, and whose inputs are still what they were: a version made by anything but an update (running
// statistics) is there before the backward pass.
IdVector<OpId, char> repeatable_ops(const Graph& graph, const OpRegistry& registry) {
  IdVector<TensorId, char> is_replaced(graph.tensors.size(), 0);
  for (const Tensor& tensor : graph.tensors)
    if (tensor.version_of != kNoTensor && graph.ops[tensor.producer].phase != Phase::update)
      is_replaced[tensor.version_of] = 1;
  IdVector<OpId, char> repeatable(graph.ops.size(), 0);
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    const Op& op = graph.ops[static_cast<OpId>(i)];
    const OpDefinition& definition = registry.at(op.kind);
    if (op.phase != Phase::forward || definition.once || definition.accumulates) continue;
    repeatable[static_cast<OpId>(i)] =
        std::none_of(
            op.outputs.begin(), op.outputs.end(),
            [&](TensorId t) { return graph.tensors[t].version_of != kNoTensor || graph.tensors[t].is_output; }) &&
        std::none_of(op.inputs.begin(), op.inputs.end(), [&](TensorId t) { return is_replaced[t] != 0; });
  }
  return repeatable;
}

}  // namespace

RecomputeRanks keep_everything(const Graph& graph) { return RecomputeRanks(graph.tensors.size(), 0); }

RecomputeBasis recompute_basis(const Graph& graph, const OpRegistry& registry) {
  RecomputeBasis basis{topological_order(graph), {}, {}, {}, repeatable_ops(graph, registry), {}, {}};
  for (const Op& op : graph.ops) {
    basis.is_view.push_back(registry.at(op.kind).view ? 1 : 0);
    basis.is_sum.push_back(registry.accumulates(op) ? 1 : 0);
  }
  IdVector<TensorId, char> counts(graph.tensors.size(), 0);
  for (std::size_t i = basis.order.size(); i-- > 0;) {
    const OpId id = basis.order[i];
    const Op& op = graph.ops[id];
    for (TensorId output : op.outputs) {
      for (OpId reader : graph.tensors[output].consumers) {
        if (graph.ops[reader].phase == Phase::backward) counts[output] = 1;
        for (TensorId made : graph.ops[reader].outputs)
          if (graph.ops[reader].phase == Phase::forward && counts[made] != 0) counts[output] = 1;
      }
      if (counts[output] != 0 && basis.may_repeat[id] != 0 && basis.is_view[id] == 0) basis.values.push_back(output);
    }
  }
  std::sort(basis.values.begin(), basis.values.end());
  BlockBorders borders = borders_of_blocks(graph);
  basis.side = std::move(borders.side);
  for (TensorId t : borders.between)
    if (std::binary_search(basis.values.begin(), basis.values.end(), t)) basis.between.push_back(t);
  return basis;
}

std::vector<OpId> recompute_sequence(const Graph& graph, const RecomputeBasis& basis, const RecomputeRanks& ranks) {
  return SequenceBuilder(graph, basis, nullptr).build(ranks).ops;
}

}  // namespace thimble
