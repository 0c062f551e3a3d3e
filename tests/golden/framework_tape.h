// What the tape of a framework keeps of a forward graph between forward and backward pass, by the rules of autograd:
// pictures with ReLUs in place, sentences as fairseq runs them. Counted from the graph alone: no lifetimes, no
// schedule, no plan, and none of our gradient rules.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "thimble/error.h"
#include "thimble/graph.h"
#include "thimble/wide_resnet.h"

namespace thimble {

struct Saved {
  std::string name, kept_as;     // of a value of the graph, or of the op that made something else
  std::vector<std::string> ops;  // that keep it
  std::int64_t per_sample = 0;   // elements
  Bytes bytes;
  bool is_value = true;
  std::string instead{};  // where it is no value: what we have in its place
};

struct Tape {
  std::vector<Saved> saved;  // in the graph's order
  Bytes weights;             // once
  int optimizer_states = 0;
  bool counts_values_only = false;  // as reference/remat.md counts
  Bytes first_gradients;            // the two that the backward pass begins with

  Bytes values() const {
    return sum([](const Saved& s) { return s.is_value; });
  }
  Bytes others(const std::string& kept_as = "") const {
    return sum([&](const Saved& s) { return !s.is_value && (kept_as.empty() || s.kept_as == kept_as); });
  }
  /// With weights, their gradients and the optimizer's state.
  Bytes counted() const {
    return values() + (counts_values_only ? Bytes{} : others()) + (2 + optimizer_states) * weights;
  }

 private:
  template <class Predicate>
  Bytes sum(Predicate holds) const {
    Bytes total;
    for (const Saved& s : saved)
      if (holds(s)) total += s.bytes;
    return total;
  }
};

/// fairseq's two ways: a product with a band matrix, up to 512 ids; a product with the unfolded input.
enum class Convolution { band, unfolded };

class TapeCounter {
 public:
  explicit TapeCounter(const Graph& forward, Convolution convolution = Convolution::band)
      : forward_(forward), convolution_(convolution) {}

  Tape count(int optimizer_states) {
    for (const Op& op : forward_.ops) record(op);
    tape_.weights = Bytes{parameter_count(forward_) * 4};
    tape_.optimizer_states = optimizer_states;
    return std::move(tape_);
  }

 private:
  void record(const Op& op) {
    using Rule = void (TapeCounter::*)(const Op&);
    static const std::map<std::string, Rule> rules{
        {"conv2d", &TapeCounter::product},
        {"linear", &TapeCounter::product},
        {"batch_norm", &TapeCounter::batch_norm},
        {"layer_norm", &TapeCounter::layer_norm},
        {"relu", &TapeCounter::relu},
        {"global_average_pool", &TapeCounter::pool},
        {"softmax_cross_entropy", &TapeCounter::cross_entropy},
        {"embedding", &TapeCounter::embedding},
        {"dropout", &TapeCounter::dropout},
        {"dynamic_conv", &TapeCounter::dynamic_conv},
        {"attention", &TapeCounter::attention},
        {"vocabulary_loss", &TapeCounter::vocabulary_loss},
        {"add", &TapeCounter::nothing},  // a sum's gradients need neither term
        {"running_statistics", &TapeCounter::nothing},
        {"crop_pictures", &TapeCounter::nothing},  // a data loader's work
    };
    const auto rule = rules.find(op.kind);
    if (rule == rules.end()) throw InvalidArgument("tape: nobody said what autograd keeps of '" + op.kind + "'");
    (this->*rule->second)(op);
  }

  void nothing(const Op& /*op*/) {}
  void product(const Op& op) { keep(op, 0, "input of " + op.kind); }  // and its weight, which is there anyway

  void batch_norm(const Op& op) {
    keep(op, 0, "input of batch_norm");
    add(op, kMoments, 2 * 4 * type(op, 0).shape.back(), "mean and variance");
    if (int_attribute(op.attributes, "relu") != 0) keep(op, op.outputs[0], "output of relu");  // in one op with us only
  }

  void layer_norm(const Op& op) {
    keep(op, 0, "input of layer_norm");
    const TensorType& x = type(op, 0);
    add(op, kMoments, 2 * 4 * element_count(x) / x.shape.back(), "computed again from the input");
  }

  void relu(const Op& op) {
    in_place_of_[op.outputs[0]] = op.inputs[0];
    keep(op, op.outputs[0], "output of relu");
  }

  void pool(const Op& op) {
    keep(op, 0, "input of global_average_pool");
    tape_.first_gradients = 2 * bytes_of(type(op, 0));  // of the last ReLU's output and input
  }

  void cross_entropy(const Op& op) {
    const std::int64_t labels = 8 * forward_.batch;  // of 64 bits
    add(op, kLoss, element_count(type(op, 0)) * 4 + labels + 4,
        "");  // log-probabilities, the sum of the labels' weights
  }

  void embedding(const Op& op) {
    ids(op, type(op, 0));
    add(op, kFactors, 8, kAttribute);
  }

  void dropout(const Op& op) { add(op, kMask, element_count(type(op, 0)), kDrawnAgain); }

  void dynamic_conv(const Op& op) {
    const std::vector<std::int64_t>& x = type(op, 0).shape;
    const std::int64_t sentences = x[0], room = x[1], channels = x[2];
    std::int64_t kernel = int_attribute(op.attributes, "kernel");
    if (int_attribute(op.attributes, "causal") != 0) kernel = std::min(kernel, room);
    const std::int64_t reach = room + kernel - 1, taps = element_count(type(op, 1));
    keep(op, 0, "input of dynamic_conv");
    keep(op, 1, "softmax of the taps (ours: their logits)");
    add(op, kMask, taps, kDrawnAgain);
    if (convolution_ == Convolution::band) {
      const std::int64_t heads = int_attribute(op.attributes, "heads");
      add(op, "band matrix", 4 * sentences * heads * room * reach, "taps are used as they are");
    } else {
      add(op, "padded input", 4 * sentences * reach * channels, "the input is used as it is");
      add(op, "taps after dropout", 4 * taps, kDrawnAgain);
    }
  }

  void attention(const Op& op) {
    for (std::size_t i : {0U, 1U, 2U}) keep(op, i, "input of attention");
    const std::vector<std::int64_t>&q = type(op, 0).shape, &k = type(op, 1).shape;
    const std::int64_t scores = int_attribute(op.attributes, "heads") * q[0] * q[1] * k[1];
    const char* instead = "made again, a head at a time, from the rows' log-sum-exp";
    add(op, "attention's probabilities", 4 * scores, instead);
    add(op, kMask, scores, kDrawnAgain);
    add(op, "attention's probabilities after dropout", 4 * scores, instead);
    add(op, kFactors, 8, kAttribute);
  }

  void vocabulary_loss(const Op& op) {
    const TensorType& targets = type(op, 2);
    const std::int64_t logits = element_count(targets) * type(op, 1).shape[0];
    keep(op, 0, "input of linear");
    add(op, "log-probabilities", 4 * logits, "made and used up in slices of tokens");
    ids(op, targets);
    add(op, kFactors, 2 * 8, kAttribute);
    tape_.first_gradients = Bytes{2 * 4 * logits};  // of log-probabilities and logits
  }

  // The padding of a side has one mask, whoever applies it; what is embedded comes with it.
  void ids(const Op& op, const TensorType& type) {
    add(op, "ids of 64 bits", 8 * element_count(type), "of 32 bits");
    if (op.kind == "embedding") add(op, "mask of padding", element_count(type), "lengths");
  }

  const TensorType& type(const Op& op, std::size_t input) const { return forward_.tensors[op.inputs.at(input)].type; }

  void add(const Op& op, std::string what, std::int64_t bytes, std::string instead) {
    tape_.saved.push_back({op.name, std::move(what), {op.name}, 0, Bytes{bytes}, false, std::move(instead)});
  }

  void keep(const Op& op, std::size_t input, const std::string& as) { keep(op, op.inputs.at(input), as); }

  // Bytes are counted once, however many ops keep them and whatever they are called since.
  void keep(const Op& op, TensorId tensor, const std::string& as) {
    const auto place = in_place_of_.find(tensor);
    const TensorId bytes = place == in_place_of_.end() ? tensor : place->second;
    const auto [found, added] = kept_.emplace(bytes, tape_.saved.size());
    const Tensor& value = forward_.tensors[tensor];
    if (added) {
      tape_.saved.push_back({value.name, as, {op.name}, elements_per_sample(value.type), bytes_of(value.type)});
      return;
    }
    Saved& saved = tape_.saved[found->second];
    if (saved.kept_as.find(as) == std::string::npos) saved.kept_as += ", " + as;
    saved.ops.push_back(op.name);
  }

 public:
  static constexpr const char* kMoments = "mean and inverse deviation";
  static constexpr const char* kLoss = "of the loss";
  static constexpr const char* kMask = "mask of dropout";

 private:
  static constexpr const char* kFactors = "factors of products";
  static constexpr const char* kAttribute = "an op's attributes";
  static constexpr const char* kDrawnAgain = "drawn again from its counter";

  const Graph& forward_;
  Convolution convolution_;
  std::map<TensorId, TensorId> in_place_of_;
  std::map<TensorId, std::size_t> kept_;
  Tape tape_;
};

}  // namespace thimble
