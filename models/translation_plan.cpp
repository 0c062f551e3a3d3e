#include "thimble/translation_plan.h"

#include <algorithm>

#include "plan_options.h"
#include "save_program.h"
#include "thimble/differentiate.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

Optimizer adam_optimizer(const AdamOptions& adam) {
  return {.kind = "adam_update",
          .state = {"exp_avg", "exp_avg_sq"},
          .attributes = {{"beta1", adam.beta1},
                         {"beta2", adam.beta2},
                         {"epsilon", adam.epsilon},
                         {"weight_decay", adam.weight_decay}}};
}

std::map<std::string, std::string> options_of(const TranslationChoices& choices) {
  const DynamicConv& model = choices.model;
  std::vector<std::int64_t> rooms, sentences;
  for (const Bucket& bucket : choices.buckets) {
    rooms.push_back(bucket.room);
    sentences.push_back(bucket.sentences);
  }
  return {{"source_vocabulary", std::to_string(model.source_vocabulary)},
          {"target_vocabulary", std::to_string(model.target_vocabulary)},
          {"channels", std::to_string(model.channels)},
          {"hidden", std::to_string(model.hidden)},
          {"heads", std::to_string(model.heads)},
          {"encoder_kernels", list_text(model.encoder_kernels)},
          {"decoder_kernels", list_text(model.decoder_kernels)},
          {"taps", model.dynamic ? "dynamic" : "light"},
          {"dropout", number_text(model.dropout)},
          {"attention_dropout", number_text(model.attention_dropout)},
          {"tap_dropout", number_text(model.tap_dropout)},
          {"smoothing", number_text(model.smoothing)},
          {"max_tokens", std::to_string(choices.max_tokens)},
          {"rooms", list_text(rooms)},
          {"sentences", list_text(sentences)},
          {"chunk", std::to_string(choices.chunk)},
          {"beta1", number_text(choices.adam.beta1)},
          {"beta2", number_text(choices.adam.beta2)},
          {"epsilon", number_text(choices.adam.epsilon)},
          {"weight_decay", number_text(choices.adam.weight_decay)}};
}

// Larger parts first.
std::vector<std::int64_t> cut_of(const TranslationChoices& choices, const Bucket& bucket) {
  const std::int64_t least = std::max<std::int64_t>(1, (choices.chunk + bucket.room - 1) / bucket.room);
  const std::int64_t parts = choices.chunk == 0 ? 1 : std::max<std::int64_t>(1, bucket.sentences / least);
  std::vector<std::int64_t> cut(static_cast<std::size_t>(parts), bucket.sentences / parts);
  for (std::int64_t i = 0; i < bucket.sentences % parts; ++i) ++cut[static_cast<std::size_t>(i)];
  return cut;
}

// Largest batch first: what a planner looks at.
std::vector<Bucket> largest_first(std::vector<Bucket> buckets) {
  std::stable_sort(buckets.begin(), buckets.end(), [](const Bucket& a, const Bucket& b) {
    const std::int64_t in_a = a.room * a.sentences, in_b = b.room * b.sentences;
    return in_a != in_b ? in_a > in_b : a.sentences > b.sentences;
  });
  return buckets;
}

std::string model_name(const DynamicConv& model) {
  return (model.dynamic ? "dynamicconv-" : "lightconv-") + std::to_string(model.encoder_kernels.size()) + "-" +
         std::to_string(model.decoder_kernels.size()) + "-" + std::to_string(model.channels);
}

}  // namespace

PlanRequest request_translation(const TranslationChoices& choices, const OpRegistry& registry) {
  if (choices.buckets.empty()) throw InvalidArgument("translation plan: there is no bucket of sentences");
  if (choices.chunk < 0)
    throw InvalidArgument("translation plan: a chunk of " + std::to_string(choices.chunk) + " tokens");
  const std::vector<Bucket> buckets = largest_first(choices.buckets);
  PlanRequest request{.model = model_name(choices.model),
                      .options = options_of(choices),
                      .batch = buckets.front().sentences,
                      .device = choices.device,
                      .planner_seed = choices.planner_seed,
                      .budget = std::nullopt,
                      .programs = {}};
  for (const Bucket& bucket : buckets) {
    Graph forward =
        build_dynamic_conv(choices.model, registry, {bucket.sentences, bucket.room, bucket.room}, Mode::train);
    const TensorId loss = forward.find("loss");
    request.programs.push_back(
        {.name = bucket_program("train", bucket.room),
         .graph = differentiate(std::move(forward), registry, loss, adam_optimizer(choices.adam)),
         .microbatches = cut_of(choices, bucket),
         .barrier_before_update = choices.barrier_before_update});
  }
  // Nothing in evaluation joins sentences: a part at a time keeps it small.
  for (const Bucket& bucket : buckets) {
    const std::int64_t part = cut_of(choices, bucket).front();
    request.programs.push_back(
        {.name = bucket_program("evaluate", bucket.room),
         .graph = build_dynamic_conv(choices.model, registry, {part, bucket.room, bucket.room}, Mode::evaluate),
         .microbatches = {part}});
  }
  request.programs.push_back(save_program(request.programs.front().graph));
  return request;
}

std::vector<PlanRequest> translation_variants(const TranslationChoices& choices, const OpRegistry& registry,
                                              std::int64_t least_chunk) {
  std::vector<PlanRequest> variants{request_translation(choices, registry)};
  if (choices.chunk != 0) return variants;
  TranslationChoices cut = choices;
  for (cut.chunk = choices.max_tokens / 2; cut.chunk >= std::max<std::int64_t>(1, least_chunk); cut.chunk /= 2)
    variants.push_back(request_translation(cut, registry));
  return variants;
}

bool is_translation(const Plan& plan) { return plan.options.count("max_tokens") != 0; }

TranslationChoices translation_choices_of(const Plan& plan) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  TranslationChoices choices;
  DynamicConv& model = choices.model;
  model.source_vocabulary = plan_number<std::int64_t>(plan, "source_vocabulary", 5, kMost);
  model.target_vocabulary = plan_number<std::int64_t>(plan, "target_vocabulary", 5, kMost);
  model.channels = plan_number<std::int64_t>(plan, "channels", 4, 1 << 16);
  model.hidden = plan_number<std::int64_t>(plan, "hidden", 1, 1 << 20);
  model.heads = plan_number<std::int64_t>(plan, "heads", 1, 1 << 16);
  model.encoder_kernels = plan_list(plan, "encoder_kernels", 1, 64);
  model.decoder_kernels = plan_list(plan, "decoder_kernels", 1, 64);
  const std::string& taps = plan_option(plan, "taps");
  if (taps != "dynamic" && taps != "light")
    throw BadInput("plan: option 'taps' is '" + taps + "', not dynamic or light");
  model.dynamic = taps == "dynamic";
  model.dropout = plan_number<double>(plan, "dropout", 0, 1);
  model.attention_dropout = plan_number<double>(plan, "attention_dropout", 0, 1);
  model.tap_dropout = plan_number<double>(plan, "tap_dropout", 0, 1);
  model.smoothing = plan_number<double>(plan, "smoothing", 0, 1);
  choices.max_tokens = plan_number<std::int64_t>(plan, "max_tokens", 1, kMost);
  const std::vector<std::int64_t> rooms = plan_list(plan, "rooms", 1, kLongestSentence);
  const std::vector<std::int64_t> sentences = plan_list(plan, "sentences", 1, kMost);
  if (rooms.size() != sentences.size())
    throw BadInput("plan: " + std::to_string(rooms.size()) + " rooms for " + std::to_string(sentences.size()) +
                   " batches of sentences");
  for (std::size_t i = 0; i < rooms.size(); ++i) choices.buckets.push_back({rooms[i], sentences[i]});
  choices.chunk = plan_number<std::int64_t>(plan, "chunk", 0, kMost);
  choices.adam.beta1 = plan_number<double>(plan, "beta1", 0, 1);
  choices.adam.beta2 = plan_number<double>(plan, "beta2", 0, 1);
  choices.adam.epsilon = plan_number<double>(plan, "epsilon", 0, 1);
  choices.adam.weight_decay = plan_number<double>(plan, "weight_decay", 0, 1e6);
  choices.device = plan.device;
  choices.planner_seed = plan.planner_seed;
  return choices;
}

}  // namespace thimble
