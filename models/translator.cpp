#include "thimble/translator.h"

#include <algorithm>

#include "thimble/checkpoint.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using Ids = std::span<std::int32_t>;

Plan plan_of(const DynamicConv& model, const OpRegistry& registry, const TranslatorOptions& options) {
  if (options.beam.longest > kLongestSentence)
    throw InvalidArgument("translator: outputs of " + std::to_string(options.beam.longest) + " pieces; at most " +
                          std::to_string(kLongestSentence));
  return make_plan(request_search({.model = model,
                                   .buckets = search_buckets(options.sentences),
                                   .beam = options.beam.beam,
                                   .device = options.device},
                                  registry),
                   registry);
}

void check_source(const SentenceIds& sources, std::int64_t index, std::int64_t vocabulary) {
  const auto source = sources[index];
  const std::string name = "translator: source " + std::to_string(index);
  if (source.empty() || source.back() != Vocabulary::kEnd) throw InvalidArgument(name + " has no end");
  if (static_cast<std::int64_t>(source.size()) > kLongestSentence)
    throw InvalidArgument(name + " has " + std::to_string(source.size()) + " ids; at most " +
                          std::to_string(kLongestSentence));
  for (std::int32_t id : source)
    if (id < 0 || id >= vocabulary)
      throw InvalidArgument(name + " has id " + std::to_string(id) + "; the vocabulary has " +
                            std::to_string(vocabulary));
}

// The sentences of a batch while they are searched: what the programs read of them, and the hypotheses of each.
class SearchBatch {
 public:
  SearchBatch(const SentenceIds& sources, const Bucket& bucket, std::span<const std::int64_t> batch,
              const BeamOptions& options, std::int64_t history)
      : sources_(sources),
        bucket_(bucket),
        batch_(batch),
        beam_(options.beam),
        history_(history),
        searches_(batch.size(), BeamSearch(options)),
        ancestors_(static_cast<std::size_t>(bucket.sentences * beam_ * history), 0),
        previous_(ancestors_) {}

  bool is_done() const {
    return std::all_of(searches_.begin(), searches_.end(), [](const BeamSearch& s) { return s.is_done(); });
  }
  const Translation& best(std::size_t i) const { return searches_[i].best(); }

  void fill_source(ProgramView& view) const {
    const Ids rows = view.as<std::int32_t>("source");
    std::fill(rows.begin(), rows.end(), Vocabulary::kPad);
    for (std::size_t i = 0; i < batch_.size(); ++i) {
      const auto ids = sources_[batch_[i]];
      std::copy(ids.begin(), ids.end(), rows.begin() + static_cast<std::ptrdiff_t>(i) * bucket_.room);
    }
    fill_lengths(view);
  }

  void fill_position(ProgramView& view) const {
    fill_lengths(view);
    const Ids ids = view.as<std::int32_t>("ids"), hypotheses = view.as<std::int32_t>("hypotheses");
    std::fill(ids.begin(), ids.end(), Vocabulary::kPad);
    std::fill(hypotheses.begin(), hypotheses.end(), 0);
    for (std::size_t i = 0; i < searches_.size(); ++i) {
      if (searches_[i].is_done()) continue;
      hypotheses[i] = static_cast<std::int32_t>(searches_[i].hypotheses());
      for (std::int64_t b = 0; b < searches_[i].hypotheses(); ++b)
        ids[i * static_cast<std::size_t>(beam_) + static_cast<std::size_t>(b)] = searches_[i].last(b);
    }
    view.as<std::int32_t>("position")[0] = position_;
    std::copy(ancestors_.begin(), ancestors_.end(), view.as<std::int32_t>("ancestors").begin());
  }

  void advance(ProgramView& view) {
    const auto scores = view.as<float>("scores");
    const auto candidates = view.as<std::int32_t>("candidates");
    const std::size_t width = scores.size() / static_cast<std::size_t>(bucket_.sentences * beam_);
    std::swap(ancestors_, previous_);
    for (std::size_t i = 0; i < searches_.size(); ++i) {
      BeamSearch& search = searches_[i];
      if (search.is_done()) continue;
      const std::size_t first = i * static_cast<std::size_t>(beam_) * width;
      const std::size_t count = static_cast<std::size_t>(search.hypotheses()) * width;
      search.advance(scores.subspan(first, count), candidates.subspan(first, count));
      for (std::int64_t b = 0; b < search.hypotheses(); ++b) inherit(i, b, search.parent(b));
    }
    ++position_;
  }

 private:
  std::size_t row(std::size_t sentence, std::int64_t hypothesis) const {
    return (sentence * static_cast<std::size_t>(beam_) + static_cast<std::size_t>(hypothesis)) *
           static_cast<std::size_t>(history_);
  }

  // One position ago it was its parent; before that, whatever its parent was.
  void inherit(std::size_t sentence, std::int64_t hypothesis, std::int64_t parent) {
    const auto to = ancestors_.begin() + static_cast<std::ptrdiff_t>(row(sentence, hypothesis));
    const auto from = previous_.begin() + static_cast<std::ptrdiff_t>(row(sentence, parent));
    *to = static_cast<std::int32_t>(parent);
    std::copy(from, from + history_ - 1, to + 1);
  }

  void fill_lengths(ProgramView& view) const {
    const Ids lengths = view.as<std::int32_t>("source_lengths");
    std::fill(lengths.begin(), lengths.end(), 0);
    for (std::size_t i = 0; i < batch_.size(); ++i) lengths[i] = static_cast<std::int32_t>(sources_[batch_[i]].size());
  }

  const SentenceIds& sources_;
  Bucket bucket_;
  std::span<const std::int64_t> batch_;
  std::int64_t beam_, history_;
  std::int32_t position_ = 0;
  std::vector<BeamSearch> searches_;
  std::vector<std::int32_t> ancestors_, previous_;
};

}  // namespace

Translator::Translator(const DynamicConv& model, const OpRegistry& registry, const TranslatorOptions& options)
    : model_(model),
      options_(options),
      buckets_(search_buckets(options.sentences)),
      runtime_(plan_of(model, registry, options), registry, memory_) {}

Translator::Translator(const DynamicConv& model, const OpRegistry& registry, const TranslatorOptions& options,
                       Device& device)
    : model_(model),
      options_(options),
      buckets_(search_buckets(options.sentences)),
      runtime_(plan_of(model, registry, options), registry, device) {}

void Translator::load(const std::string& path) {
  std::vector<CheckpointTensor> weights = persistent_views(runtime_);
  std::erase_if(weights, [](const CheckpointTensor& tensor) { return tensor.role != Role::weight; });
  load_weights(path, weights);
}

void Translator::run(const std::string& program, const ViewFunction& fill, const ViewFunction& read) {
  runtime_.run(program, {}, fill, read);
  high_water_ = std::max(high_water_, runtime_.last_high_water());
}

void Translator::search(const SentenceIds& sources, const Bucket& bucket, std::span<const std::int64_t> batch,
                        std::vector<Translation>& translations) {
  SearchBatch searched(sources, bucket, batch, options_.beam, search_history(model_));
  run(
      bucket_program("encode", bucket.room), [&](ProgramView& view) { searched.fill_source(view); }, nullptr);
  const std::string advance = bucket_program("advance", bucket.room);
  while (!searched.is_done())
    run(
        advance, [&](ProgramView& view) { searched.fill_position(view); },
        [&](ProgramView& view) { searched.advance(view); });
  for (std::size_t i = 0; i < batch.size(); ++i) translations[static_cast<std::size_t>(batch[i])] = searched.best(i);
}

std::vector<Translation> Translator::translate(const SentenceIds& sources) {
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < sources.size(); ++i) {
    check_source(sources, i, model_.source_vocabulary);
    if (sources[i].size() > 1) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return sources[a].size() < sources[b].size(); });
  std::vector<Translation> translations(static_cast<std::size_t>(sources.size()));
  for (auto begin = order.begin(); begin != order.end();) {
    // The smallest bucket for the first; then as many as fit beside it.
    const auto fits = [&](std::int64_t source, const Bucket& bucket) {
      return static_cast<std::int64_t>(sources[source].size()) <= bucket.room;
    };
    const auto bucket = std::find_if(buckets_.begin(), buckets_.end(),
                                     [&](const Bucket& candidate) { return fits(*begin, candidate); });
    auto end = begin;
    while (end != order.end() && end - begin < bucket->sentences && fits(*end, *bucket)) ++end;
    search(sources, *bucket, {begin, end}, translations);
    begin = end;
  }
  return translations;
}

}  // namespace thimble
