#include "thimble/recompute.h"

#include <algorithm>

#include "thimble/error.h"

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

class SequenceBuilder {
 public:
  SequenceBuilder(const Graph& graph, const RecomputeBasis& basis, const RecomputeRanks& ranks)
      : graph_(graph),
        basis_(basis),
        ranks_(ranks),
        available_(graph.tensors.size(), 1),
        in_pass_(graph.ops.size(), 0),
        place_(graph.ops.size(), 0) {
    for (std::size_t i = 0; i < basis.order.size(); ++i) place_[basis.order[i]] = i;
  }

  std::vector<OpId> build() {
    bool is_backward = false;
    for (OpId op : basis_.order) {
      const Phase phase = graph_.ops[op].phase;
      if (phase == Phase::update) continue;
      if (phase == Phase::backward && !is_backward) {
        is_backward = true;
        drop_unkept();
      }
      if (phase == Phase::backward) make_inputs_of(op);
      sequence_.push_back(op);
    }
    return with_updates();
  }

 private:
  bool is_repeatable(OpId op) const { return op != kNoOp && basis_.may_repeat[op] != 0; }
  bool is_view(TensorId t) const {
    const OpId producer = graph_.tensors[t].producer;
    return producer != kNoOp && basis_.is_view[producer] != 0;
  }

  // A view is there while what it looks at is; by id, so that views of views follow.
  void drop_unkept() {
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      const OpId producer = graph_.tensors[id].producer;
      if (!is_repeatable(producer)) continue;
      available_[id] = is_view(id) ? available_[graph_.ops[producer].inputs[0]] : ranks_[id] == 0;
    }
  }

  // The ops one pass has to run so that `wanted` is there, in topological order.
  std::vector<OpId> pass_for(const std::vector<TensorId>& wanted) {
    std::vector<OpId> pass;
    std::vector<TensorId> open;
    for (TensorId t : wanted)
      if (available_[t] == 0) open.push_back(t);
    while (!open.empty()) {
      const OpId producer = graph_.tensors[open.back()].producer;
      open.pop_back();
      char& seen = in_pass_[producer];
      if (seen != 0) continue;
      seen = 1;
      pass.push_back(producer);
      for (TensorId input : graph_.ops[producer].inputs)
        if (available_[input] == 0) open.push_back(input);
    }
    for (OpId op : pass) in_pass_[op] = 0;
    std::sort(pass.begin(), pass.end(), [&](OpId a, OpId b) { return place_[a] < place_[b]; });
    return pass;
  }

  void make_inputs_of(OpId op) {
    const std::vector<TensorId>& wanted = graph_.ops[op].inputs;
    const std::vector<OpId> pass = pass_for(wanted);
    std::int32_t smallest = kWithinBlock;
    std::size_t block_begin = 0;  // in the pass: where its last value between blocks is made
    for (std::size_t i = 0; i < pass.size(); ++i) {
      sequence_.push_back(pass[i]);
      for (TensorId t : graph_.ops[pass[i]].outputs) {
        smallest = std::min(smallest, ranks_[t]);
        if (std::binary_search(basis_.between.begin(), basis_.between.end(), t)) block_begin = i;
      }
    }
    for (std::size_t i = 0; i < pass.size(); ++i)
      for (TensorId t : graph_.ops[pass[i]].outputs) {
        const bool is_wanted = std::find(wanted.begin(), wanted.end(), t) != wanted.end();
        const bool is_ranked =
            (ranks_[t] < kWithinBlock && ranks_[t] == smallest) || (ranks_[t] != kOnDemand && i >= block_begin);
        available_[t] = is_view(t) ? available_[graph_.ops[pass[i]].inputs[0]] : is_wanted || is_ranked;
      }
  }

  // Each update directly behind the last step that it has to wait for.
  std::vector<OpId> with_updates() const {
    IdVector<TensorId, std::size_t> ready(graph_.tensors.size(), 0);  // steps done when it was made and read last
    for (std::size_t i = 0; i < sequence_.size(); ++i) {
      const Op& op = graph_.ops[sequence_[i]];
      for (TensorId t : op.inputs) touch(ready, t, i + 1);
      for (TensorId t : op.outputs) touch(ready, t, i + 1);
    }
    std::vector<std::vector<OpId>> after(sequence_.size() + 1);
    for (OpId id : basis_.order) {
      const Op& op = graph_.ops[id];
      if (op.phase != Phase::update) continue;
      std::size_t at = 0;
      for (TensorId t : op.inputs) at = std::max(at, ready[t]);
      for (TensorId t : op.outputs) ready[t] = at;
      after[at].push_back(id);
    }
    std::vector<OpId> all = after[0];
    for (std::size_t i = 0; i < sequence_.size(); ++i) {
      all.push_back(sequence_[i]);
      all.insert(all.end(), after[i + 1].begin(), after[i + 1].end());
    }
    return all;
  }

  // Who reads a view reads what it looks at.
  void touch(IdVector<TensorId, std::size_t>& ready, TensorId t, std::size_t at) const {
    ready[t] = std::max(ready[t], at);
    if (is_view(t)) touch(ready, graph_.ops[graph_.tensors[t].producer].inputs[0], at);
  }

  const Graph& graph_;
  const RecomputeBasis& basis_;
  const RecomputeRanks& ranks_;
  IdVector<TensorId, char> available_;
  IdVector<OpId, char> in_pass_;
  IdVector<OpId, std::size_t> place_;  // in the order
  std::vector<OpId> sequence_;
};

}  // namespace

RecomputeRanks keep_everything(const Graph& graph) { return RecomputeRanks(graph.tensors.size(), 0); }

RecomputeBasis recompute_basis(const Graph& graph, const OpRegistry& registry) {
  RecomputeBasis basis{topological_order(graph), {}, {}, repeatable_ops(graph, registry), {}};
  for (const Op& op : graph.ops) basis.is_view.push_back(registry.at(op.kind).view ? 1 : 0);
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
  for (TensorId t : values_between_blocks(graph))
    if (std::binary_search(basis.values.begin(), basis.values.end(), t)) basis.between.push_back(t);
  return basis;
}

std::vector<OpId> recompute_sequence(const Graph& graph, const RecomputeBasis& basis, const RecomputeRanks& ranks) {
  if (ranks.size() != graph.tensors.size())
    throw InvalidArgument("recompute: " + std::to_string(ranks.size()) + " ranks for " +
                          std::to_string(graph.tensors.size()) + " tensors");
  return SequenceBuilder(graph, basis, ranks).build();
}

}  // namespace thimble
