#include "thimble/differentiate.h"

#include "thimble/error.h"
#include "thimble/op_registry.h"

namespace thimble {
namespace {

class Differentiator final : public GradientContext {
 public:
  Differentiator(Graph graph, const OpRegistry& registry)
      : graph_(std::move(graph)),
        registry_(registry),
        forward_ops_(graph_.ops.size()),
        gradients_(graph_.tensors.size(), kNoTensor),
        wanted_(graph_.tensors.size(), false) {}

  void run(TensorId loss) {
    mark_wanted();
    for (std::size_t i = forward_ops_; i-- > 0;) {
      current_ = static_cast<OpId>(i);
      bool needed = false;
      for (TensorId output : op().outputs) needed |= gradient_of(output) != kNoTensor || output == loss;
      bool wanted = false;
      for (TensorId input : op().inputs) wanted |= wanted_[input] != 0;
      if (!needed || !wanted) continue;
      const OpDefinition& definition = registry_.at(op().kind);
      if (!definition.gradient)
        throw InvalidArgument("differentiate: op '" + op().name + "' of kind '" + op().kind + "' has no gradient rule");
      definition.gradient(*this);
    }
  }

  Graph take() { return std::move(graph_); }
  TensorId gradient_of(TensorId tensor) const { return gradients_.contains(tensor) ? gradients_[tensor] : kNoTensor; }
  std::size_t forward_tensors() const { return wanted_.size(); }

  const Op& op() const override { return graph_.ops[current_]; }
  const TensorType& type(TensorId tensor) const override { return graph_.tensors[tensor].type; }
  TensorId output_gradient(int i) const override { return gradient_of(output(i)); }
  bool wants_input_gradient(int i) const override { return wanted_.contains(input(i)) && wanted_[input(i)] != 0; }

  void set_input_gradient(int i, TensorId gradient) override {
    const TensorId target = input(i);
    if (!wants_input_gradient(i)) return;
    TensorId& sum = gradients_[target];
    if (sum == kNoTensor) {
      sum = gradient;
      return;
    }
    sum = emit("add", "sum" + std::to_string(i), {sum, gradient}).front();
  }

  std::vector<TensorId> emit(const std::string& kind, const std::string& suffix, std::vector<TensorId> inputs,
                             Attributes attributes = {}) override {
    auto outputs = graph_.add_op(registry_, kind, op().name + "." + suffix, std::move(inputs), std::move(attributes),
                                 Phase::backward);
    for (TensorId output : outputs) {
      Tensor& tensor = graph_.tensors[output];
      if (tensor.role == Role::activation && !tensor.type.batched) tensor.role = Role::gradient;
    }
    return outputs;
  }

  bool is_kept(TensorId tensor) const override {
    for (OpId consumer : graph_.tensors[tensor].consumers)
      if (graph_.ops[consumer].phase == Phase::backward) return true;
    return false;
  }

  void change_forward(const std::string& attribute, Attribute value) override {
    Op& changed = graph_.ops[current_];
    changed.attributes[attribute] = std::move(value);
    std::vector<TensorType> types;
    for (TensorId input : changed.inputs) types.push_back(graph_.tensors[input].type);
    const auto specs = registry_.at(changed.kind).infer(types, changed.attributes);
    for (std::size_t i = changed.outputs.size(); i < specs.size(); ++i) {
      const TensorId output = graph_.add_input(changed.name + "." + specs[i].suffix, specs[i].type, specs[i].role);
      graph_.tensors[output].producer = current_;
      if (specs[i].version_of_input >= 0) graph_.tensors[output].version_of = input(specs[i].version_of_input);
      graph_.ops[current_].outputs.push_back(output);
    }
  }

 private:
  // Values whose gradient leads to a weight.
  void mark_wanted() {
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      wanted_[id] = graph_.tensors[id].role == Role::weight;
    }
    for (std::size_t i = 0; i < forward_ops_; ++i) {
      const Op& forward = graph_.ops[static_cast<OpId>(i)];
      bool any = false;
      for (TensorId input : forward.inputs) any |= wanted_[input] != 0;
      if (registry_.at(forward.kind).once) any = false;
      for (TensorId output : forward.outputs) wanted_[output] = any;
    }
  }

  Graph graph_;
  const OpRegistry& registry_;
  std::size_t forward_ops_;
  IdVector<TensorId, TensorId> gradients_;
  IdVector<TensorId, char> wanted_;  // not bool: that vector packs bits
  OpId current_ = kNoOp;
};

Differentiator run(Graph forward, const OpRegistry& registry, TensorId loss) {
  if (!forward.tensors.contains(loss)) throw InvalidArgument("differentiate: the loss is not a tensor of the graph");
  Differentiator differentiator(std::move(forward), registry);
  differentiator.run(loss);
  return differentiator;
}

}  // namespace

Graph differentiate(Graph forward, const OpRegistry& registry, TensorId loss) {
  Differentiator d = run(std::move(forward), registry, loss);
  std::vector<TensorId> gradients;
  for (std::size_t i = 0; i < d.forward_tensors(); ++i) gradients.push_back(d.gradient_of(static_cast<TensorId>(i)));
  Graph graph = d.take();
  for (std::size_t i = 0; i < gradients.size(); ++i)
    if (graph.tensors[static_cast<TensorId>(i)].role == Role::weight && gradients[i] != kNoTensor)
      graph.mark_output(gradients[i]);
  return graph;
}

Graph differentiate(Graph forward, const OpRegistry& registry, TensorId loss, const Optimizer& optimizer) {
  if (!optimizer.accumulate_kind.empty() && optimizer.state.size() != 1)
    throw InvalidArgument("differentiate: '" + optimizer.accumulate_kind +
                          "' takes one state tensor, the optimizer has " + std::to_string(optimizer.state.size()));
  Differentiator d = run(std::move(forward), registry, loss);
  std::vector<std::pair<TensorId, TensorId>> updates;
  for (std::size_t i = 0; i < d.forward_tensors(); ++i)
    updates.emplace_back(static_cast<TensorId>(i), d.gradient_of(static_cast<TensorId>(i)));
  Graph graph = d.take();
  for (const auto& [weight, gradient] : updates) {
    if (graph.tensors[weight].role != Role::weight || gradient == kNoTensor) continue;
    const Tensor target = graph.tensors[weight];
    std::vector<TensorId> inputs{weight, gradient};
    for (const std::string& state : optimizer.state)
      inputs.push_back(graph.add_input(target.name + "." + state, target.type, Role::optimizer));
    if (!optimizer.accumulate_kind.empty()) {
      const std::string name = target.name + "." + optimizer.state.front() + ".accumulate";
      inputs = {weight, graph
                            .add_op(registry, optimizer.accumulate_kind, name, {gradient, inputs[2], weight},
                                    optimizer.attributes, Phase::backward)
                            .front()};
    }
    graph.add_op(registry, optimizer.kind, target.name + ".update", std::move(inputs), optimizer.attributes,
                 Phase::update);
  }
  return graph;
}

}  // namespace thimble
