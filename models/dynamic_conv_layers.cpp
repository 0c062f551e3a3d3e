#include "dynamic_conv_layers.h"

#include <cmath>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr double kEpsilon = 1e-5;

}  // namespace

void expect_range(const char* what, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most)
    throw InvalidArgument("dynamic conv: " + std::string(what) + " " + std::to_string(value) + "; it is from " +
                          std::to_string(least) + " to " + std::to_string(most));
}

void check_dynamic_conv(const DynamicConv& model) {
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

TensorId DynamicConvLayers::op(const char* kind, const std::string& name, std::vector<TensorId> inputs,
                               Attributes attributes) {
  return graph_.add_op(registry_, kind, name, std::move(inputs), std::move(attributes)).front();
}

TensorId DynamicConvLayers::add_ids(const std::string& name, std::vector<std::int64_t> shape) {
  return graph_.add_input(name, {DType::i32, std::move(shape), true}, Role::input);
}

TensorId DynamicConvLayers::weight(const std::string& name, std::vector<std::int64_t> shape) {
  return graph_.add_input(name + ".weight", {DType::f32, std::move(shape)}, Role::weight);
}

TensorId DynamicConvLayers::bias(const std::string& name, std::int64_t size) {
  return graph_.add_input(name + ".bias", {DType::f32, {size}}, Role::weight);
}

TensorId DynamicConvLayers::linear(const std::string& name, TensorId x, std::int64_t outputs) {
  const TensorId w = weight(name, {outputs, graph_.tensors[x].type.shape.back()});
  return op("linear", name, {x, w, bias(name, outputs)});
}

TensorId DynamicConvLayers::drop(const std::string& name, TensorId x) {
  if (!is_training_ || model_.dropout == 0) return x;
  return op("dropout", name, {x}, {{"rate", model_.dropout}, {"stream", streams_++}});
}

TensorId DynamicConvLayers::embed(const std::string& side, const std::string& input, std::int64_t room,
                                  TensorId lengths, std::int64_t vocabulary) {
  const TensorId ids = add_ids(input, {graph_.batch, room});
  const std::string name = side + ".embedding";
  const TensorId x =
      op("embedding", name, {ids, lengths, weight(name, {vocabulary, model_.channels})},
         {{"scale", std::sqrt(static_cast<double>(model_.channels))}, {"first_position", kFirstPosition}});
  return drop(name + ".dropout", x);
}

TensorId DynamicConvLayers::add_and_normalize(const std::string& name, TensorId y, TensorId x) {
  const TensorId sum = op("add", name + ".add", {drop(name + ".dropout", y), x});
  const std::string norm = name + ".norm";
  return op("layer_norm", norm, {sum, weight(norm, {model_.channels}), bias(norm, model_.channels)},
            {{"epsilon", kEpsilon}});
}

TensorId DynamicConvLayers::taps(const std::string& conv, TensorId x, std::int64_t kernel) {
  const std::string name = conv + ".taps";
  if (!model_.dynamic) return weight(name, {model_.heads, kernel});
  return op("linear", name, {x, weight(name, {model_.heads * kernel, model_.channels})});
}

TensorId DynamicConvLayers::convolve(const std::string& layer, TensorId x, TensorId lengths, std::int64_t kernel,
                                     bool causal) {
  const std::string name = layer + ".conv";
  const TensorId in = linear(name + ".in", x, model_.channels);
  const Attributes attributes{{"heads", model_.heads},
                              {"kernel", kernel},
                              {"causal", std::int64_t{causal}},
                              {"rate", rate(model_.tap_dropout)},
                              {"stream", streams_++}};
  const TensorId y =
      op(model_.dynamic ? "dynamic_conv" : "light_conv", name, {in, taps(name, in, kernel), lengths}, attributes);
  return add_and_normalize(name, linear(name + ".out", y, model_.channels), x);
}

TensorId DynamicConvLayers::attend(const std::string& layer, TensorId x, TensorId encoded, TensorId lengths,
                                   TensorId source_lengths) {
  const std::string name = layer + ".attention";
  const TensorId q = linear(name + ".query", x, model_.channels);
  const TensorId k = linear(name + ".key", encoded, model_.channels);
  const TensorId v = linear(name + ".value", encoded, model_.channels);
  const TensorId y = op("attention", name, {q, k, v, lengths, source_lengths},
                        {{"heads", model_.heads}, {"rate", rate(model_.attention_dropout)}, {"stream", streams_++}});
  return add_and_normalize(name, linear(name + ".out", y, model_.channels), x);
}

TensorId DynamicConvLayers::feed_forward(const std::string& layer, TensorId x) {
  const std::string name = layer + ".feed_forward";
  const TensorId hidden = op("relu", name + ".relu", {linear(name + ".in", x, model_.hidden)});
  return add_and_normalize(name, linear(name + ".out", hidden, model_.channels), x);
}

TensorId DynamicConvLayers::encode(std::int64_t room, TensorId lengths) {
  TensorId x = embed("encoder", "source", room, lengths, model_.source_vocabulary);
  for (std::size_t i = 0; i < model_.encoder_kernels.size(); ++i) {
    const std::string layer = "encoder.layer" + std::to_string(i);
    x = feed_forward(layer, convolve(layer, x, lengths, model_.encoder_kernels[i], false));
  }
  return x;
}

}  // namespace thimble
