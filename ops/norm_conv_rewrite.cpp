// The rewrite "norm_conv": where only convolutions, their weights' gradients, global average pools and the
// normalisation's own gradient read a normalised, rectified value h, it disappears. conv2d(h, w) becomes
// norm_conv2d(x, ..., w), the others likewise, the gate of the ReLU is computed from x, and of batch_norm or group_norm
// only the statistics remain. The second half is in norm_conv_neighbours.cpp.
//
// The rewrite "norm_gate" is the part of it that takes nothing away: gradients compute the gate from x, which they read
// anyway, instead of reading the output as well.
#include "norm_conv2d.h"
#include "registration.h"
#include "thimble/rewrite.h"

namespace thimble {
namespace {

constexpr const char* kName = "norm_conv";
constexpr const char* kGateName = "norm_gate";

// A normalisation with its ReLU, in training or in inference. The gradient of group_norm reads neither output nor mask.
struct Normalization {
  TensorId x, mean, variance, gamma, beta, output;
  TensorId mask = kNoTensor;
  Attribute epsilon;

  std::vector<TensorId> inputs() const { return {x, mean, variance, gamma, beta}; }
};

class Rewriter {
 public:
  Rewriter(const Graph& graph, const OpRegistry& registry) : graph_(graph), registry_(registry) {}

  Graph rewrite() {
    for (std::size_t i = 0; i < graph_.ops.size(); ++i) {
      const auto id = static_cast<OpId>(i);
      if (const auto norm = normalization(graph_.ops[id]); norm && can_be_taken_in(*norm)) change(id, *norm);
    }
    return change_ops(graph_, registry_, changes_);
  }

  Graph rewrite_gates() {
    for (const Op& op : graph_.ops) {
      const auto norm = normalization(op);
      if (!norm) continue;
      for (OpId reader : graph_.tensors[norm->output].consumers)
        if (is_gradient_of(graph_.ops[reader], *norm)) changes_[reader] = gated_by_input(graph_.ops[reader], *norm);
    }
    return change_ops(graph_, registry_, changes_);
  }

 private:
  static std::optional<Normalization> normalization(const Op& op) {
    const auto& in = op.inputs;
    const auto& out = op.outputs;
    if (!flag(op.attributes, "relu")) return std::nullopt;
    if (op.kind == "batch_norm")
      return Normalization{in[0],
                           out[1],
                           out[2],
                           in[1],
                           in[2],
                           out[0],
                           out.size() > 3 ? out[3] : kNoTensor,
                           op.attributes.at("epsilon")};
    if (op.kind == "group_norm")
      return Normalization{in[0], out[1], out[2], in[1], in[2], out[0], kNoTensor, op.attributes.at("epsilon")};
    if (op.kind == "batch_norm_inference")
      return Normalization{in[0], in[3], in[4], in[1], in[2], out[0], kNoTensor, op.attributes.at("epsilon")};
    return std::nullopt;
  }

  static bool is_convolution(const Op& op) { return op.kind == "conv2d"; }
  static bool is_weights_gradient(const Op& op) { return op.kind == "conv2d_backward_weights"; }
  static bool is_pool(const Op& op) { return op.kind == "global_average_pool"; }

  // The gradient of this very normalisation, whose gate can be computed from x then.
  static bool is_gradient_of(const Op& op, const Normalization& norm) {
    if (op.kind != "batch_norm_backward" || !flag(op.attributes, "relu") || flag(op.attributes, "gate_input"))
      return false;
    const TensorId gate = flag(op.attributes, "use_mask") ? norm.mask : norm.output;
    const std::vector<TensorId> expected{op.inputs[0], norm.x, norm.gamma, norm.mean, norm.variance, gate};
    return op.inputs == expected && op.inputs[0] != norm.output && op.attributes.at("epsilon") == norm.epsilon;
  }

  std::vector<OpId> readers(const Normalization& norm) const {
    std::vector<OpId> all = graph_.tensors[norm.output].consumers;
    if (norm.mask == kNoTensor) return all;
    const std::vector<OpId>& of_mask = graph_.tensors[norm.mask].consumers;
    all.insert(all.end(), of_mask.begin(), of_mask.end());
    return all;
  }

  bool can_be_taken_in(const Normalization& norm) const {
    bool has_reader = false;
    for (OpId reader : readers(norm)) {
      const Op& op = graph_.ops[reader];
      const bool convolves = is_convolution(op) || is_weights_gradient(op);
      if (convolves && (op.inputs[0] != norm.output || op.inputs[1] == norm.output)) return false;
      if (!convolves && !is_pool(op) && !is_gradient_of(op, norm)) return false;
      has_reader |= is_convolution(op) || is_pool(op);
    }
    const bool is_asked_for =
        graph_.tensors[norm.output].is_output || (norm.mask != kNoTensor && graph_.tensors[norm.mask].is_output);
    return has_reader && !is_asked_for;
  }

  void change(OpId id, const Normalization& norm) {
    for (OpId reader : readers(norm)) {
      const Op& op = graph_.ops[reader];
      if (is_pool(op))
        changes_[reader] = normalizing_pool(op, norm);
      else if (is_convolution(op) || is_weights_gradient(op))
        changes_[reader] = normalizing(op, norm);
      else
        changes_[reader] = gated_by_input(op, norm);
    }
    Op statistics = graph_.ops[id];
    changes_[id] = std::nullopt;  // inference reads statistics that are there
    if (statistics.kind == "batch_norm_inference") return;
    statistics.kind = statistics.kind == "group_norm" ? "group_statistics" : "batch_statistics";
    statistics.inputs = {norm.x};
    statistics.outputs = {norm.mean, norm.variance};
    std::erase_if(statistics.attributes, [](const auto& attribute) { return attribute.first != "groups"; });
    changes_[id] = statistics;
  }

  Op normalizing(Op op, const Normalization& norm) const {
    const TensorType &x = graph_.tensors[norm.x].type, &second = graph_.tensors[op.inputs[1]].type;
    const bool is_weights = is_weights_gradient(op);
    op.kind = is_weights ? "norm_conv2d_backward_weights" : "norm_conv2d";
    const TensorId last = op.inputs[1];
    op.inputs = norm.inputs();
    op.inputs.push_back(last);
    op.attributes["epsilon"] = norm.epsilon;
    op.attributes["group"] = norm_conv_group(x);
    if (!is_weights) return op;
    const TensorType& w = graph_.tensors[op.outputs[0]].type;
    const std::int64_t channels = norm_conv_weights_slice(x);
    op.attributes["channels"] = channels;
    op.attributes["group"] = norm_conv_weights_group(x, second, w, channels);
    return op;
  }

  static Op normalizing_pool(Op op, const Normalization& norm) {
    op.kind = "norm_pool";
    op.inputs = norm.inputs();
    op.attributes = {{"epsilon", norm.epsilon}};
    return op;
  }

  static Op gated_by_input(Op op, const Normalization& norm) {
    op.inputs.back() = norm.beta;
    op.attributes.erase("use_mask");
    op.attributes["gate_input"] = std::int64_t{1};
    return op;
  }

  const Graph& graph_;
  const OpRegistry& registry_;
  OpChanges changes_;
};

}  // namespace

void register_norm_conv_rewrite(OpRegistry& registry) {
  registry.add_rewrite({kName, [](const Graph& graph, const OpRegistry& ops) {
                          return join_norm_conv_neighbours(Rewriter(graph, ops).rewrite(), ops);
                        }});
  registry.add_rewrite(
      {kGateName, [](const Graph& graph, const OpRegistry& ops) { return Rewriter(graph, ops).rewrite_gates(); }});
}

}  // namespace thimble
