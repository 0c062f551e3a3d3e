#include "thimble/search_plan.h"

#include <algorithm>
#include <cmath>

#include "dynamic_conv_layers.h"
#include "thimble/error.h"
#include "thimble/vocabulary.h"

namespace thimble {
namespace {

constexpr std::int64_t kTokens = 2048;  // padded source ids of a batch
constexpr std::int64_t kMostBeam = 64;
constexpr std::int64_t kScoreSlice = 128;  // hypotheses whose logits exist at a time

// Persistent tensors are of one size in all programs: that of the largest batch.
struct StateSizes {
  std::int64_t source_rows = 0, hypotheses = 0;

  static StateSizes of(const SearchChoices& choices) {
    StateSizes sizes;
    for (const Bucket& bucket : choices.buckets) {
      sizes.source_rows = std::max(sizes.source_rows, bucket.room * bucket.sentences);
      sizes.hypotheses = std::max(sizes.hypotheses, bucket.sentences * choices.beam);
    }
    return sizes;
  }
};

std::string layer_name(std::size_t i) { return "decoder.layer" + std::to_string(i); }

class SearchGraphs {
 public:
  SearchGraphs(const SearchChoices& choices, const OpRegistry& registry, const Bucket& bucket)
      : choices_(choices),
        model_(choices.model),
        sizes_(StateSizes::of(choices)),
        bucket_(bucket),
        layers_(model_, registry, bucket.sentences, Mode::evaluate) {}

  Graph encode() {
    const TensorId encoded = layers_.encode(bucket_.room, source_lengths());
    for (std::size_t i = 0; i < model_.decoder_kernels.size(); ++i) {
      const std::string name = layer_name(i) + ".attention";
      for (const char* what : {".key", ".value"})
        layers_.op("keep_rows", name + what + ".keep",
                   {layers_.linear(name + what, encoded, model_.channels), pool(name + what)});
    }
    return layers_.take();
  }

  Graph advance() {
    lengths_ = layers_.add_ids("hypotheses", {bucket_.sentences});
    source_lengths_ = source_lengths();
    position_ = layers_.graph().add_input("position", {DType::i32, {1}}, Role::input);
    ancestors_ = layers_.add_ids("ancestors", {bucket_.sentences, choices_.beam, search_history(model_)});
    TensorId x = embed();
    for (std::size_t i = 0; i < model_.decoder_kernels.size(); ++i)
      x = layers_.feed_forward(layer_name(i), attend(layer_name(i), convolve(i, x)));
    const TensorId w = layers_.weight("decoder.output", {model_.target_vocabulary, model_.channels});
    layers_.op("best_tokens", "decoder.best", {x, w, lengths_},
               {{"count", search_width(model_, choices_.beam)},
                {"first", std::int64_t{Vocabulary::kEnd}},
                {"slice", kScoreSlice}});
    Graph graph = layers_.take();
    const std::vector<TensorId> best = graph.ops[static_cast<OpId>(graph.ops.size() - 1)].outputs;
    const char* names[] = {"scores", "candidates"};
    for (std::size_t i = 0; i < best.size(); ++i) {
      graph.tensors[best[i]].name = names[i];
      graph.mark_output(best[i]);
    }
    return graph;
  }

 private:
  TensorId source_lengths() { return layers_.add_ids("source_lengths", {bucket_.sentences}); }

  TensorId state(const std::string& name, std::vector<std::int64_t> shape) {
    return layers_.graph().add_input(name, {DType::f32, std::move(shape)}, Role::state);
  }

  TensorId pool(const std::string& name) { return state(name + ".kept", {sizes_.source_rows, model_.channels}); }

  TensorId embed() {
    const TensorId ids = layers_.add_ids("ids", {bucket_.sentences, choices_.beam});
    const std::string name = "decoder.embedding";
    return layers_.op("embedding_at", name,
                      {ids, lengths_, layers_.weight(name, {model_.target_vocabulary, model_.channels}), position_},
                      {{"scale", std::sqrt(static_cast<double>(model_.channels))}, {"first_position", kFirstPosition}});
  }

  TensorId convolve(std::size_t layer, TensorId x) {
    const std::string name = layer_name(layer) + ".conv";
    const std::int64_t kernel = model_.decoder_kernels[layer];
    const TensorId in = layers_.linear(name + ".in", x, model_.channels), taps = layers_.taps(name, in, kernel);
    const TensorId ring = state(name + ".positions", {sizes_.hypotheses, kernel, model_.channels});
    const TensorId y =
        layers_.op(model_.dynamic ? "step_conv" : "light_step_conv", name,
                   {in, taps, ring, ancestors_, lengths_, position_}, {{"heads", model_.heads}, {"kernel", kernel}});
    return layers_.add_and_normalize(name, layers_.linear(name + ".out", y, model_.channels), x);
  }

  TensorId attend(const std::string& layer, TensorId x) {
    const std::string name = layer + ".attention";
    const TensorId q = layers_.linear(name + ".query", x, model_.channels);
    const TensorId y =
        layers_.op("pool_attention", name, {q, pool(name + ".key"), pool(name + ".value"), lengths_, source_lengths_},
                   {{"heads", model_.heads}, {"room", bucket_.room}});
    return layers_.add_and_normalize(name, layers_.linear(name + ".out", y, model_.channels), x);
  }

  const SearchChoices& choices_;
  const DynamicConv& model_;
  StateSizes sizes_;
  Bucket bucket_;
  DynamicConvLayers layers_;
  TensorId lengths_ = kNoTensor, source_lengths_ = kNoTensor, position_ = kNoTensor, ancestors_ = kNoTensor;
};

}  // namespace

std::vector<Bucket> search_buckets(std::int64_t sentences) {
  std::vector<Bucket> buckets;
  for (std::int64_t room : usual_rooms(kLongestSentence))
    buckets.push_back({room, std::clamp<std::int64_t>(kTokens / room, 1, std::max<std::int64_t>(1, sentences))});
  return buckets;
}

std::int64_t search_history(const DynamicConv& model) {
  const std::int64_t kernel = *std::max_element(model.decoder_kernels.begin(), model.decoder_kernels.end());
  return std::max<std::int64_t>(1, kernel - 1);
}

std::int64_t search_width(const DynamicConv& model, std::int64_t beam) {
  return std::min(2 * beam, model.target_vocabulary - Vocabulary::kEnd);
}

PlanRequest request_search(const SearchChoices& choices, const OpRegistry& registry) {
  check_dynamic_conv(choices.model);
  expect_range("beam", choices.beam, 1, kMostBeam);
  if (choices.buckets.empty()) throw InvalidArgument("search: there is no bucket of sentences");
  PlanRequest request{.model = "search",
                      .options = {{"beam", std::to_string(choices.beam)}},
                      .batch = choices.buckets.front().sentences,
                      .device = choices.device,
                      .budget = std::nullopt,
                      .programs = {}};
  for (const Bucket& bucket : choices.buckets) {
    const auto add = [&](const char* what, Graph graph) {
      request.programs.push_back(
          {.name = bucket_program(what, bucket.room), .graph = std::move(graph), .microbatches = {bucket.sentences}});
    };
    add("encode", SearchGraphs(choices, registry, bucket).encode());
    add("advance", SearchGraphs(choices, registry, bucket).advance());
  }
  return request;
}

}  // namespace thimble
