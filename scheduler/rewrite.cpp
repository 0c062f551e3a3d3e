#include "thimble/rewrite.h"

#include "thimble/error.h"
#include "thimble/op_registry.h"

namespace thimble {
namespace {

class Surgeon {
 public:
  Surgeon(const Graph& graph, const OpRegistry& registry) : graph_(graph), registry_(registry) {
    result_.batch = graph.batch;
  }

  Graph operate(const OpChanges& changes) {
    for (const auto& [id, op] : changes)
      if (!graph_.ops.contains(id))
        throw InvalidArgument("rewrite: op " + std::to_string(static_cast<int>(id)) + " is not in the graph");
    for (std::size_t i = 0; i < graph_.ops.size(); ++i) {
      const auto id = static_cast<OpId>(i);
      const auto changed = changes.find(id);
      if (changed == changes.end()) {
        result_.ops.push_back(graph_.ops[id]);
      } else if (changed->second) {
        check(*changed->second);
        result_.ops.push_back(*changed->second);
      }
    }
    find_producers();
    number_tensors();
    for (std::size_t i = 0; i < result_.ops.size(); ++i) renumber(static_cast<OpId>(i));
    return std::move(result_);
  }

 private:
  // What a kind makes, from what it reads, is what the tensors that it takes over are.
  void check(const Op& op) const {
    std::vector<TensorType> types;
    for (TensorId input : op.inputs) types.push_back(tensor(op, input).type);
    const std::vector<OutputSpec> specs = registry_.at(op.kind).infer(types, op.attributes);
    bool fits = specs.size() == op.outputs.size();
    for (std::size_t i = 0; fits && i < specs.size(); ++i) {
      const int from = specs[i].version_of_input;
      const Tensor& made = tensor(op, op.outputs[i]);
      fits = made.type == specs[i].type &&
             made.version_of == (from < 0 ? kNoTensor : op.inputs.at(static_cast<std::size_t>(from)));
    }
    if (!fits)
      throw InvalidArgument("rewrite: op '" + op.name + "' has other outputs than its kind '" + op.kind + "' makes");
  }

  const Tensor& tensor(const Op& op, TensorId id) const {
    if (!graph_.tensors.contains(id))
      throw InvalidArgument("rewrite: op '" + op.name + "' names a tensor that is not in the graph");
    return graph_.tensors[id];
  }

  void find_producers() {
    producer_ = IdVector<TensorId, OpId>(graph_.tensors.size(), kNoOp);
    for (std::size_t i = 0; i < result_.ops.size(); ++i) {
      const Op& op = result_.ops[static_cast<OpId>(i)];
      for (TensorId output : op.outputs) {
        if (producer_[output] != kNoOp || graph_.tensors[output].producer == kNoOp)
          throw InvalidArgument("rewrite: op '" + op.name + "' makes '" + graph_.tensors[output].name +
                                "', which is there without it");
        producer_[output] = static_cast<OpId>(i);
      }
    }
  }

  void number_tensors() {
    number_ = IdVector<TensorId, TensorId>(graph_.tensors.size(), kNoTensor);
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      Tensor kept = graph_.tensors[id];
      if (kept.producer != kNoOp && producer_[id] == kNoOp) {
        if (kept.is_output) throw InvalidArgument("rewrite: output '" + kept.name + "' is made by no op any longer");
        continue;
      }
      kept.producer = producer_[id];
      kept.consumers.clear();
      number_[id] = result_.tensors.push_back(std::move(kept));
    }
    for (std::size_t i = 0; i < result_.tensors.size(); ++i) {
      Tensor& kept = result_.tensors[static_cast<TensorId>(i)];
      if (kept.version_of != kNoTensor)
        kept.version_of = number_of("'" + kept.name + "' is a version of", kept.version_of);
    }
  }

  TensorId number_of(const std::string& who, TensorId id) const {
    if (number_[id] == kNoTensor)
      throw InvalidArgument("rewrite: " + who + " '" + graph_.tensors[id].name + "', which no op makes any longer");
    return number_[id];
  }

  void renumber(OpId id) {
    Op& op = result_.ops[id];
    for (TensorId& input : op.inputs) {
      input = number_of("op '" + op.name + "' reads", input);
      std::vector<OpId>& consumers = result_.tensors[input].consumers;
      if (consumers.empty() || consumers.back() != id) consumers.push_back(id);
    }
    for (TensorId& output : op.outputs) output = number_[output];
  }

  const Graph& graph_;
  const OpRegistry& registry_;
  Graph result_;
  IdVector<TensorId, OpId> producer_;    // by old ids, in new ones
  IdVector<TensorId, TensorId> number_;  // the new id of an old one
};

}  // namespace

Graph change_ops(const Graph& graph, const OpRegistry& registry, const OpChanges& changes) {
  return Surgeon(graph, registry).operate(changes);
}

}  // namespace thimble
