#include "thimble/dynamic_conv.h"

#include <string>

#include "dynamic_conv_layers.h"
#include "thimble/buckets.h"
#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::int64_t kLossSlice = 128;  // tokens whose logits exist at a time

void add_loss(DynamicConvLayers& layers, const DynamicConv& model, const OpRegistry& registry, TensorId x,
              const SentenceShape& shape, TensorId lengths) {
  const TensorId targets = layers.add_ids("target_output", {shape.sentences, shape.target});
  const TensorId w = layers.weight("decoder.output", {model.target_vocabulary, model.channels});
  Graph& graph = layers.graph();
  const auto results = graph.add_op(registry, "vocabulary_loss", "decoder.loss", {x, w, targets, lengths},
                                    {{"smoothing", layers.rate(model.smoothing)}, {"slice", kLossSlice}});
  const char* names[] = {"loss", "nll"};
  for (std::size_t i = 0; i < results.size(); ++i) {
    graph.tensors[results[i]].name = names[i];
    graph.mark_output(results[i]);
  }
}

}  // namespace

DynamicConv parse_dynamic_conv(std::string_view name) {
  if (name != "dynamicconv-iwslt" && name != "lightconv-iwslt" && name != "dynamicconv" && name != "lightconv")
    throw InvalidArgument("model '" + std::string(name) +
                          "' is unknown; translation models are dynamicconv-iwslt and lightconv-iwslt, and dynamicconv "
                          "and lightconv with sizes of their own");
  DynamicConv model;
  model.dynamic = name.starts_with("dynamic");
  return model;
}

Graph build_dynamic_conv(const DynamicConv& model, const OpRegistry& registry, const SentenceShape& shape, Mode mode) {
  check_dynamic_conv(model);
  expect_range("batch of sentences", shape.sentences, 1, std::int64_t{1} << 24);
  expect_range("source room", shape.source, 1, kLongestSentence);
  expect_range("target room", shape.target, 1, kLongestSentence);
  DynamicConvLayers layers(model, registry, shape.sentences, mode);
  const TensorId source_lengths = layers.add_ids("source_lengths", {shape.sentences});
  const TensorId encoded = layers.encode(shape.source, source_lengths);
  const TensorId target_lengths = layers.add_ids("target_lengths", {shape.sentences});
  TensorId x = layers.embed("decoder", "target_input", shape.target, target_lengths, model.target_vocabulary);
  for (std::size_t i = 0; i < model.decoder_kernels.size(); ++i) {
    const std::string layer = "decoder.layer" + std::to_string(i);
    x = layers.convolve(layer, x, target_lengths, model.decoder_kernels[i], true);
    x = layers.attend(layer, x, encoded, target_lengths, source_lengths);
    x = layers.feed_forward(layer, x);
  }
  add_loss(layers, model, registry, x, shape, target_lengths);
  return layers.take();
}

}  // namespace thimble
