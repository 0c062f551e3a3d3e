// The layers of a DynamicConv graph, as training, evaluation and search put them together. Names of weights are made
// here, so they are the same in all of them.
#pragma once

#include <string>
#include <vector>

#include "thimble/dynamic_conv.h"
#include "thimble/op_registry.h"

namespace thimble {

/// Throws InvalidArgument where a size or a rate of the model is out of range.
void check_dynamic_conv(const DynamicConv& model);
/// Throws InvalidArgument where `value` is not from `least` to `most`.
void expect_range(const char* what, std::int64_t value, std::int64_t least, std::int64_t most);

inline constexpr std::int64_t kFirstPosition = 2;  ///< fairseq counts on from the padding's id

class DynamicConvLayers {
 public:
  DynamicConvLayers(const DynamicConv& model, const OpRegistry& registry, std::int64_t sentences, Mode mode)
      : model_(model), registry_(registry), is_training_(mode == Mode::train) {
    graph_.batch = sentences;
  }

  Graph take() { return std::move(graph_); }
  Graph& graph() { return graph_; }

  TensorId op(const char* kind, const std::string& name, std::vector<TensorId> inputs, Attributes attributes = {});
  /// A batched input of ids, lengths, ...
  TensorId add_ids(const std::string& name, std::vector<std::int64_t> shape);
  TensorId weight(const std::string& name, std::vector<std::int64_t> shape);
  TensorId linear(const std::string& name, TensorId x, std::int64_t outputs);

  /// The encoder's output from `source` {B, room} and the lengths.
  TensorId encode(std::int64_t room, TensorId lengths);

  TensorId embed(const std::string& side, const std::string& input, std::int64_t room, TensorId lengths,
                 std::int64_t vocabulary);
  /// What a convolution's taps are the softmax of: logits of each position, or the same weights for all.
  TensorId taps(const std::string& conv, TensorId x, std::int64_t kernel);
  TensorId convolve(const std::string& layer, TensorId x, TensorId lengths, std::int64_t kernel, bool causal);
  /// Attention to the encoder's output.
  TensorId attend(const std::string& layer, TensorId x, TensorId encoded, TensorId lengths, TensorId source_lengths);
  TensorId feed_forward(const std::string& layer, TensorId x);
  /// x + y, dropped, and normalised.
  TensorId add_and_normalize(const std::string& name, TensorId y, TensorId x);

  /// A rate that is for training only.
  double rate(double of_training) const { return is_training_ ? of_training : 0; }

 private:
  TensorId bias(const std::string& name, std::int64_t size);
  TensorId drop(const std::string& name, TensorId x);

  const DynamicConv& model_;
  const OpRegistry& registry_;
  bool is_training_;
  std::int64_t streams_ = 0;  // of random numbers so far
  Graph graph_;
};

}  // namespace thimble
