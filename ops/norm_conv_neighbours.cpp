// The second half of the rewrite "norm_conv": what stands next to a normalising convolution joins it. The sum behind it
// is added as it is made; its data gradient, the normalisation's gradient and the sums around them become one op, and
// so do a pool's gradient and the normalisation's.
#include "norm_conv2d.h"
#include "registration.h"
#include "thimble/rewrite.h"

namespace thimble {
namespace {

class Joiner {
 public:
  Joiner(const Graph& graph, const OpRegistry& registry) : graph_(graph), registry_(registry) {}

  Graph rewrite() {
    for (std::size_t i = 0; i < graph_.ops.size(); ++i) {
      const auto id = static_cast<OpId>(i);
      const Op& op = graph_.ops[id];
      if (op.kind == "add" && op.phase == Phase::forward) join_sum(id);
      if (is_gated_by_input(op)) join_gradient(id);
    }
    return change_ops(graph_, registry_, changes_);
  }

 private:
  // The gradient of a normalisation with its ReLU that reads the input alone.
  static bool is_gated_by_input(const Op& op) {
    return (op.kind == "batch_norm_backward" && flag(op.attributes, "gate_input")) ||
           (op.kind == "group_norm_backward" && flag(op.attributes, "relu"));
  }

  bool is_free(OpId id) const { return id != kNoOp && changes_.count(id) == 0; }

  // The only op that reads a value nobody else asks for, or kNoOp.
  OpId only_reader(TensorId tensor) const {
    const Tensor& t = graph_.tensors[tensor];
    return t.consumers.size() == 1 && !t.is_output ? t.consumers.front() : kNoOp;
  }

  // Of two convolutions the one with fewer weights takes in the sum: the projection. The other may lie in place of what
  // it reads then, so that a projecting block is made from its input and one more map.
  void join_sum(OpId id) {
    const Op& sum = graph_.ops[id];
    OpId convolution = kNoOp;
    TensorId added = kNoTensor;
    std::int64_t fewest = 0;
    for (std::size_t i = 0; i < 2; ++i) {
      const TensorId made = sum.inputs[i], other = sum.inputs[1 - i];
      const OpId part = graph_.tensors[made].producer;
      if (!is_free(part) || made == other || only_reader(made) != id) continue;
      const Op& op = graph_.ops[part];
      if (op.kind != "norm_conv2d" || flag(op.attributes, "add")) continue;
      const std::int64_t weights = element_count(graph_.tensors[op.inputs[5]].type);
      if (convolution != kNoOp && weights >= fewest) continue;
      convolution = part;
      added = other;
      fewest = weights;
    }
    if (convolution == kNoOp) return;
    Op joined = graph_.ops[convolution];
    joined.inputs.push_back(added);
    joined.outputs = sum.outputs;
    joined.attributes["add"] = std::int64_t{1};
    changes_[convolution] = std::nullopt;
    changes_[id] = joined;
  }

  void join_gradient(OpId id) {
    if (join_pool(id)) return;
    const Op& norm = graph_.ops[id];
    const std::vector<OpId> convolutions = data_gradients(id);
    if (convolutions.empty()) return;
    Op joined = joined_gradient(norm, graph_.ops[convolutions[0]]);
    OpId place = id;
    if (convolutions.size() > 1) {
      add_second(joined, graph_.ops[convolutions[1]]);
      changes_[graph_.tensors[norm.inputs[0]].producer] = std::nullopt;  // their sum
    } else if (const OpId reader = only_reader(norm.outputs[0]); is_free(reader) && graph_.ops[reader].kind == "add") {
      const Op& sum = graph_.ops[reader];
      const TensorId other = sum.inputs[sum.inputs[0] == norm.outputs[0] ? 1 : 0];
      if (other != norm.outputs[0]) {
        joined.inputs.push_back(other);
        joined.attributes["add"] = std::int64_t{1};
        joined.outputs[0] = sum.outputs[0];
        place = reader;
      }
    }
    for (OpId convolution : convolutions) changes_[convolution] = std::nullopt;
    changes_[id] = std::nullopt;
    changes_[place] = joined;
  }

  // The gradient of a mean is the same for all that it is of.
  bool join_pool(OpId id) {
    const Op& norm = graph_.ops[id];
    const OpId pool = graph_.tensors[norm.inputs[0]].producer;
    if (!is_free(pool) || only_reader(norm.inputs[0]) != id || graph_.ops[pool].kind != "global_average_pool_backward")
      return false;
    const auto& in = norm.inputs;  // dy, x, gamma, mean, variance, beta
    Op joined = norm;
    joined.kind = "norm_pool_backward";
    joined.inputs = {in[1], in[3], in[4], in[2], in[5], graph_.ops[pool].inputs[0]};
    joined.attributes = {{"epsilon", norm.attributes.at("epsilon")}};
    changes_[pool] = std::nullopt;
    changes_[id] = joined;
    return true;
  }

  bool is_data_gradient(TensorId made, OpId reader) const {
    const OpId id = graph_.tensors[made].producer;
    return is_free(id) && only_reader(made) == reader && graph_.ops[id].kind == "conv2d_backward_data";
  }

  // The one or two convolutions whose data gradients, summed, are all that the normalisation's gradient reads; of two,
  // first the one with more weights.
  std::vector<OpId> data_gradients(OpId norm) const {
    const TensorId gradient = graph_.ops[norm].inputs[0];
    const OpId made_by = graph_.tensors[gradient].producer;
    if (is_data_gradient(gradient, norm)) return {made_by};
    if (!is_free(made_by) || only_reader(gradient) != norm || graph_.ops[made_by].kind != "add") return {};
    const auto& sides = graph_.ops[made_by].inputs;
    if (sides[0] == sides[1] || !is_data_gradient(sides[0], made_by) || !is_data_gradient(sides[1], made_by)) return {};
    std::vector<OpId> both{graph_.tensors[sides[0]].producer, graph_.tensors[sides[1]].producer};
    const auto weights = [&](OpId id) { return element_count(graph_.tensors[graph_.ops[id].inputs[1]].type); };
    if (weights(both[1]) > weights(both[0])) std::swap(both[0], both[1]);
    return both;
  }

  static void add_second(Op& joined, const Op& data) {
    joined.inputs.insert(joined.inputs.end(), {data.inputs[0], data.inputs[1]});
    joined.kind = "norm_conv2d_pair_backward_data";
    joined.attributes["second_stride"] = data.attributes.at("stride");
    joined.attributes["second_padding"] = data.attributes.at("padding");
  }

  Op joined_gradient(const Op& norm, const Op& data) const {
    const auto& in = norm.inputs;  // dy, x, gamma, mean, variance, beta
    Op joined = norm;
    joined.kind = "norm_conv2d_backward_data";
    joined.inputs = {data.inputs[0], data.inputs[1], in[1], in[3], in[4], in[2], in[5]};
    joined.attributes = {{"stride", data.attributes.at("stride")},
                         {"padding", data.attributes.at("padding")},
                         {"epsilon", norm.attributes.at("epsilon")}};
    if (norm.kind == "batch_norm_backward") joined.attributes["channels"] = norm_conv_slice(graph_.tensors[in[1]].type);
    return joined;
  }

  const Graph& graph_;
  const OpRegistry& registry_;
  OpChanges changes_;
};

}  // namespace

Graph join_norm_conv_neighbours(const Graph& graph, const OpRegistry& registry) {
  return Joiner(graph, registry).rewrite();
}

}  // namespace thimble
