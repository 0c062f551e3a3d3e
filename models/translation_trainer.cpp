#include "thimble/translation_trainer.h"

#include <algorithm>
#include <cstdio>

#include "plan_options.h"
#include "thimble/error.h"
#include "thimble/initialize.h"

namespace thimble {
namespace {

// The text's numbers decide, not where it lies.
std::string text_name(const ParallelText& text) {
  std::uint64_t hash = stable_hash("text");
  for (const SentenceIds* side : {&text.sources, &text.targets}) {
    const auto add = [&](const auto& values) {
      hash ^= stable_hash({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0])});
      hash *= 0x9e3779b97f4a7c15;
    };
    add(side->ids);
    add(side->begins);
  }
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return std::to_string(text.size()) + " sentence pairs " + digits;
}

std::string option_list(const Plan& plan, std::initializer_list<const char*> names) {
  std::string text;
  for (const char* name : names) text += (text.empty() ? "" : ", ") + std::string(name) + " " + plan_option(plan, name);
  return text;
}

void expect_ids(const char* what, const SentenceIds& sentences, std::int64_t vocabulary) {
  for (std::int32_t id : sentences.ids)
    if (id < 0 || id >= vocabulary)
      throw InvalidArgument("translation trainer: a " + std::string(what) + " has id " + std::to_string(id) +
                            ", the plan's vocabulary has " + std::to_string(vocabulary));
}

const ParallelText& checked(const ParallelText& text, const DynamicConv& model) {
  expect_ids("source", text.sources, model.source_vocabulary);
  expect_ids("target", text.targets, model.target_vocabulary);
  return text;
}

// Batches of evaluation hold as many sentences as one part of a training batch.
std::vector<Bucket> evaluation_buckets(const Plan& plan, std::vector<Bucket> buckets) {
  for (Bucket& bucket : buckets) bucket.sentences = plan.program(bucket_program("evaluate", bucket.room)).graph.batch;
  return buckets;
}

}  // namespace

LearningRateSchedule recipe_schedule() { return {.base = 5e-4, .kind = ScheduleKind::inverse_sqrt}; }

TranslationTrainer::Parts TranslationTrainer::Parts::of(const Plan& plan, const ParallelText& train,
                                                        const ParallelText& valid) {
  if (train.size() == 0) throw InvalidArgument("translation trainer: there is no sentence pair to train on");
  const TranslationChoices choices = translation_choices_of(plan);
  return {choices.max_tokens, SentenceBatches(checked(train, choices.model), choices.buckets),
          SentenceBatches(checked(valid, choices.model), evaluation_buckets(plan, choices.buckets))};
}

TranslationTrainer::TranslationTrainer(Runtime& runtime, const ParallelText& train, const ParallelText& valid,
                                       RunOptions options)
    : TranslationTrainer(runtime, train, valid, std::move(options), Parts::of(runtime.plan(), train, valid)) {}

TranslationTrainer::TranslationTrainer(Runtime& runtime, const ParallelText& train, const ParallelText& valid,
                                       RunOptions options, Parts parts)
    : TrainingRun(runtime, std::move(options), parts.train.size(),
                  {.data_name = text_name(train),
                   .optimizer = "adam, " + option_list(runtime.plan(), {"beta1", "beta2", "epsilon", "weight_decay"}),
                   .regularization = option_list(runtime.plan(), {"dropout", "attention_dropout", "tap_dropout",
                                                                  "smoothing", "rooms", "sentences"}),
                   .batch = parts.max_tokens}),
      train_(train),
      valid_(valid),
      batches_(std::move(parts.train)),
      evaluation_batches_(std::move(parts.valid)) {
  pairs_.reserve(static_cast<std::size_t>(std::max(batches_.largest(), evaluation_batches_.largest())));
  fill_training_ = [this](ProgramView& view) { write_sentences(train_, pairs_, room_, view); };
  fill_evaluation_ = [this](ProgramView& view) { write_sentences(valid_, pairs_, room_, view); };
  read_ = [this](ProgramView& view) {
    loss_ = view.as<float>("loss")[0];
    nll_ = view.as<float>("nll")[0];
  };
}

std::string TranslationTrainer::next_program() const {
  std::vector<std::int64_t> pairs;
  return bucket_program("train", batches_.shuffled(seed(), epoch(), step_of_epoch(), pairs).room);
}

TranslationStep TranslationTrainer::step() {
  room_ = batches_.shuffled(seed(), epoch(), step_of_epoch(), pairs_).room;
  StepScalars& scalars = begin_step();
  scalars.loss_terms = count_targets(train_, pairs_);
  runtime().run(bucket_program("train", room_), scalars, fill_training_, read_);
  end_step();
  return {.step = steps_done(),
          .epoch = epochs_done(),
          .loss = loss_,
          .nll = nll_,
          .learning_rate = scalars.learning_rate,
          .target_tokens = scalars.loss_terms};
}

TranslationEvaluation TranslationTrainer::evaluate() {
  TranslationEvaluation total;
  double nll = 0;
  for (std::int64_t i = 0; i < evaluation_batches_.size(); ++i) {
    room_ = evaluation_batches_.in_order(i, pairs_).room;
    const std::int64_t tokens = count_targets(valid_, pairs_);
    runtime().run(bucket_program("evaluate", room_), {.loss_terms = tokens}, fill_evaluation_, read_);
    nll += nll_ * static_cast<double>(tokens);
    total.sentences += static_cast<std::int64_t>(pairs_.size());
    total.target_tokens += tokens;
  }
  if (total.target_tokens > 0) total.nll = nll / static_cast<double>(total.target_tokens);
  return total;
}

}  // namespace thimble
