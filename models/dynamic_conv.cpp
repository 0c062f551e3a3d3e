#include "thimble/dynamic_conv.h"

#include <cmath>
#include <string>

#include "thimble/error.h"
#include "thimble/op_registry.h"

namespace thimble {
namespace {

constexpr double kEpsilon = 1e-5;
constexpr std::int64_t kFirstPosition = 2;  // fairseq counts on from the padding's id
constexpr std::int64_t kLossSlice = 128;    // tokens whose logits exist at a time

void expect_range(const char* what, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most)
    throw InvalidArgument("dynamic conv: " + std::string(what) + " " + std::to_string(value) + "; it is from " +
                          std::to_string(least) + " to " + std::to_string(most));
}

void check(const DynamicConv& model) {
  expect_range("source vocabulary", model.source_vocabulary, 5, 1 << 24);
  expect_range("target vocabulary", model.target_vocabulary, 5, 1 << 24);
  expect_range("channels", model.channels, 4, 1 << 16);
  expect_range("hidden size", model.hidden, 1, 1 << 20);
  expect_range("heads", model.heads, 1, model.channels);
  if (model.channels % model.heads != 0 || model.channels % 2 != 0)
    throw InvalidArgument("dynamic conv: " + std::to_string(model.channels) +
                          " channels; they are even and a multiple of the " + std::to_string(model.heads) + " heads");
  for (const auto* kernels : {&model.encoder_kernels, &model.decoder_kernels}) {
    expect_range("layers", static_cast<std::int64_t>(kernels->size()), 1, 1000);
    for (std::int64_t kernel : *kernels) expect_range("kernel", kernel, 1, 64);
  }
  for (double rate : {model.dropout, model.attention_dropout, model.tap_dropout, model.smoothing})
    if (!(rate >= 0 && rate < 1))
      throw InvalidArgument("dynamic conv: a rate of " + std::to_string(rate) + "; it is from 0 to below 1");
}

class Builder {
 public:
  Builder(const DynamicConv& model, const OpRegistry& registry, const SentenceShape& shape, Mode mode)
      : model_(model), registry_(registry), shape_(shape), is_training_(mode == Mode::train) {
    graph_.batch = shape.sentences;
  }

  Graph build() {
    source_lengths_ = add_ids("source_lengths", {shape_.sentences});
    TensorId x = embed("encoder", "source", shape_.source, source_lengths_, model_.source_vocabulary);
    for (std::size_t i = 0; i < model_.encoder_kernels.size(); ++i) {
      const std::string name = "encoder.layer" + std::to_string(i);
      x = convolve(name, x, source_lengths_, model_.encoder_kernels[i], false);
      x = feed_forward(name, x);
    }
    const TensorId encoded = x;
    target_lengths_ = add_ids("target_lengths", {shape_.sentences});
    x = embed("decoder", "target_input", shape_.target, target_lengths_, model_.target_vocabulary);
    for (std::size_t i = 0; i < model_.decoder_kernels.size(); ++i) {
      const std::string name = "decoder.layer" + std::to_string(i);
      x = convolve(name, x, target_lengths_, model_.decoder_kernels[i], true);
      x = attend(name, x, encoded);
      x = feed_forward(name, x);
    }
    finish(x);
    return std::move(graph_);
  }

 private:
  TensorId op(const char* kind, const std::string& name, std::vector<TensorId> inputs, Attributes attributes = {}) {
    return graph_.add_op(registry_, kind, name, std::move(inputs), std::move(attributes)).front();
  }

  TensorId add_ids(const std::string& name, std::vector<std::int64_t> shape) {
    return graph_.add_input(name, {DType::i32, std::move(shape), true}, Role::input);
  }

  TensorId weight(const std::string& name, std::vector<std::int64_t> shape) {
    return graph_.add_input(name + ".weight", {DType::f32, std::move(shape)}, Role::weight);
  }

  TensorId bias(const std::string& name, std::int64_t size) {
    return graph_.add_input(name + ".bias", {DType::f32, {size}}, Role::weight);
  }

  TensorId linear(const std::string& name, TensorId x, std::int64_t outputs) {
    const TensorId w = weight(name, {outputs, graph_.tensors[x].type.shape.back()});
    return op("linear", name, {x, w, bias(name, outputs)});
  }

  TensorId drop(const std::string& name, TensorId x) {
    if (!is_training_ || model_.dropout == 0) return x;
    return op("dropout", name, {x}, {{"rate", model_.dropout}, {"stream", streams_++}});
  }

  double rate(double of_training) const { return is_training_ ? of_training : 0; }

  TensorId embed(const std::string& side, const std::string& input, std::int64_t room, TensorId lengths,
                 std::int64_t vocabulary) {
    const TensorId ids = add_ids(input, {shape_.sentences, room});
    const std::string name = side + ".embedding";
    const TensorId x =
        op("embedding", name, {ids, lengths, weight(name, {vocabulary, model_.channels})},
           {{"scale", std::sqrt(static_cast<double>(model_.channels))}, {"first_position", kFirstPosition}});
    return drop(name + ".dropout", x);
  }

  // x + y, dropped, and normalised.
  TensorId add_and_normalize(const std::string& name, TensorId y, TensorId x) {
    const TensorId sum = op("add", name + ".add", {drop(name + ".dropout", y), x});
    const std::string norm = name + ".norm";
    return op("layer_norm", norm, {sum, weight(norm, {model_.channels}), bias(norm, model_.channels)},
              {{"epsilon", kEpsilon}});
  }

  TensorId convolve(const std::string& layer, TensorId x, TensorId lengths, std::int64_t kernel, bool causal) {
    const std::string name = layer + ".conv";
    const TensorId in = linear(name + ".in", x, model_.channels);
    const Attributes attributes{{"heads", model_.heads},
                                {"kernel", kernel},
                                {"causal", std::int64_t{causal}},
                                {"rate", rate(model_.tap_dropout)},
                                {"stream", streams_++}};
    const std::string taps = name + ".taps";
    TensorId y;
    if (model_.dynamic) {
      const TensorId logits = op("linear", taps, {in, weight(taps, {model_.heads * kernel, model_.channels})});
      y = op("dynamic_conv", name, {in, logits, lengths}, attributes);
    } else {
      y = op("light_conv", name, {in, weight(taps, {model_.heads, kernel}), lengths}, attributes);
    }
    return add_and_normalize(name, linear(name + ".out", y, model_.channels), x);
  }

  TensorId attend(const std::string& layer, TensorId x, TensorId encoded) {
    const std::string name = layer + ".attention";
    const TensorId q = linear(name + ".query", x, model_.channels);
    const TensorId k = linear(name + ".key", encoded, model_.channels);
    const TensorId v = linear(name + ".value", encoded, model_.channels);
    const TensorId y = op("attention", name, {q, k, v, target_lengths_, source_lengths_},
                          {{"heads", model_.heads}, {"rate", rate(model_.attention_dropout)}, {"stream", streams_++}});
    return add_and_normalize(name, linear(name + ".out", y, model_.channels), x);
  }

  TensorId feed_forward(const std::string& layer, TensorId x) {
    const std::string name = layer + ".feed_forward";
    const TensorId hidden = op("relu", name + ".relu", {linear(name + ".in", x, model_.hidden)});
    return add_and_normalize(name, linear(name + ".out", hidden, model_.channels), x);
  }

  void finish(TensorId x) {
    const TensorId targets = add_ids("target_output", {shape_.sentences, shape_.target});
    const TensorId w = weight("decoder.output", {model_.target_vocabulary, model_.channels});
    const auto results = graph_.add_op(registry_, "vocabulary_loss", "decoder.loss", {x, w, targets, target_lengths_},
                                       {{"smoothing", rate(model_.smoothing)}, {"slice", kLossSlice}});
    const char* names[] = {"loss", "nll"};
    for (std::size_t i = 0; i < results.size(); ++i) {
      graph_.tensors[results[i]].name = names[i];
      graph_.mark_output(results[i]);
    }
  }

  const DynamicConv& model_;
  const OpRegistry& registry_;
  SentenceShape shape_;
  bool is_training_;
  std::int64_t streams_ = 0;  // of random numbers so far
  TensorId source_lengths_ = kNoTensor, target_lengths_ = kNoTensor;
  Graph graph_;
};

}  // namespace

DynamicConv parse_dynamic_conv(std::string_view name) {
  if (name != "dynamicconv-iwslt" && name != "lightconv-iwslt")
    throw InvalidArgument("model '" + std::string(name) +
                          "' is unknown; translation models are dynamicconv-iwslt and lightconv-iwslt");
  DynamicConv model;
  model.dynamic = name.starts_with("dynamic");
  return model;
}

Graph build_dynamic_conv(const DynamicConv& model, const OpRegistry& registry, const SentenceShape& shape, Mode mode) {
  check(model);
  expect_range("batch of sentences", shape.sentences, 1, std::int64_t{1} << 24);
  expect_range("source room", shape.source, 1, 1024);
  expect_range("target room", shape.target, 1, 1024);
  return Builder(model, registry, shape, mode).build();
}

}  // namespace thimble
