#include "training_data.h"

#include <algorithm>
#include <cstdio>

#include "thimble/buckets.h"
#include "thimble/error.h"

namespace thimble {
namespace {

constexpr const char* kTrainSet = "train";
constexpr const char* kValidSet = "valid";
constexpr std::int64_t kMostRooms = 12;

void expect_folder(const std::string& folder) {
  if (folder.empty() || folder == kSynthetic)
    throw InvalidArgument("translation models are trained on text: --data FOLDER, which `thimble prepare` makes");
}

void expect_pairs(const LoadedPairs& pairs, const std::string& folder, const std::string& set, std::int64_t longest) {
  if (pairs.text.size() == 0)
    throw InvalidArgument("'" + folder + "' has no sentence pair of at most " + std::to_string(longest) +
                          " ids in its set '" + set + "'");
}

std::unique_ptr<TextData> load_text(const std::string& folder, std::int64_t longest) {
  expect_folder(folder);
  TextFolder text(folder);
  LoadedPairs train = text.pairs(kTrainSet, longest), valid = text.pairs(kValidSet, longest);
  expect_pairs(train, folder, kTrainSet, longest);
  expect_pairs(valid, folder, kValidSet, longest);
  return std::make_unique<TextData>(TextData{std::move(text), std::move(train), std::move(valid), kValidSet});
}

std::vector<std::int64_t> lengths_of(const TextData& text) {
  std::vector<std::int64_t> lengths;
  for (const LoadedPairs* set : {&text.train, &text.held_out})
    for (std::int64_t pair = 0; pair < set->text.size(); ++pair)
      lengths.push_back(
          static_cast<std::int64_t>(std::max(set->text.source(pair).size(), set->text.target(pair).size())));
  return lengths;
}

void report_set(const char* name, const ParallelReport& report) {
  const auto count = [](std::int64_t value) { return static_cast<long long>(value); };
  std::fprintf(stderr,
               "text: %s: %lld of %lld pairs; left out: %lld empty, %lld too long; %lld + %lld unknown pieces\n", name,
               count(report.kept), count(report.lines), count(report.empty), count(report.too_long),
               count(report.unknown_sources), count(report.unknown_targets));
}

}  // namespace

TrainingData load_training_data(ModelOptions& options) {
  if (!is_translation(options)) {
    TrainingData data{.pictures = load_data(options.data.empty() ? kSynthetic : options.data)};
    options.sizes = DataSizes{.train_samples = data.pictures.train.size(), .test_samples = data.pictures.test.size()};
    return data;
  }
  const std::int64_t longest = std::min(options.longest, options.max_tokens);
  TrainingData data{.text = load_text(options.data, longest)};
  const TextData& text = *data.text;
  options.sizes = DataSizes{.source_vocabulary = text.folder.source().size(),
                            .target_vocabulary = text.folder.target().size(),
                            .rooms = choose_rooms(lengths_of(text), kMostRooms)};
  return data;
}

TrainingData load_training_data(const Plan& plan, const std::string& source) {
  if (is_translation(plan)) return {.text = load_text(source, translation_choices_of(plan).buckets.back().room)};
  const TrainingChoices choices = choices_of(plan);
  return {.pictures = load_data(source.empty() ? kSynthetic : source, choices.train_samples, choices.test_samples)};
}

TrainingData load_evaluation_data(const Plan& plan, const std::string& source, const std::string& set) {
  if (!is_translation(plan)) return load_training_data(plan, source);
  expect_folder(source);
  TextFolder folder(source);
  const std::int64_t longest = translation_choices_of(plan).buckets.back().room;
  LoadedPairs pairs = folder.pairs(set, longest);
  expect_pairs(pairs, source, set, longest);
  return {.text = std::make_unique<TextData>(TextData{std::move(folder), pairs, pairs, set})};
}

void report_text(const TextData& text) {
  report_set(kTrainSet, text.train.report);
  report_set(text.held_out_set.c_str(), text.held_out.report);
}

}  // namespace thimble
