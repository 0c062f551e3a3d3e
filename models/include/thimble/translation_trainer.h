// Training a planned translation model on sentence pairs; what any run can do is in training_run.h.
//
//   TranslationTrainer trainer(runtime, train, valid, {.epochs = 10, .seed = 1, .learning_rate = recipe_schedule()});
//   trainer.initialize();
//   while (!trainer.is_done()) loss = trainer.step().loss;
//   trainer.evaluate().perplexity();
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "thimble/sentence_batches.h"
#include "thimble/training_run.h"
#include "thimble/translation_plan.h"

namespace thimble {

struct TranslationStep {
  std::int64_t step = 0;  ///< counted from 1
  double epoch = 0;       ///< epochs seen after this step
  double loss = 0;        ///< smoothed, mean over target ids, in nats
  double nll = 0;         ///< not smoothed
  float learning_rate = 0;
  std::int64_t target_tokens = 0;
};

struct TranslationEvaluation {
  double nll = 0;  ///< mean over target ids, in nats
  std::int64_t sentences = 0;
  std::int64_t target_tokens = 0;
  double perplexity() const { return std::exp(nll); }
};

class TranslationTrainer : public TrainingRun {
 public:
  /// Throws BadInput where the plan is of no translation model; InvalidArgument where a pair fits no bucket of it, an
  /// id is outside its vocabularies, or there is no pair to train on.
  TranslationTrainer(Runtime& runtime, const ParallelText& train, const ParallelText& valid, RunOptions options);

  std::string next_program() const override;
  TranslationStep step();
  TranslationEvaluation evaluate();

 private:
  // What the plan and the text decide, before anything is made of it.
  struct Parts {
    std::int64_t max_tokens;
    SentenceBatches train, valid;
    static Parts of(const Plan& plan, const ParallelText& train, const ParallelText& valid);
  };
  TranslationTrainer(Runtime& runtime, const ParallelText& train, const ParallelText& valid, RunOptions options,
                     Parts parts);

  const ParallelText& train_;
  const ParallelText& valid_;
  SentenceBatches batches_, evaluation_batches_;

  // Kept, so that a step allocates nothing; the name of a program is short enough to be no allocation.
  std::vector<std::int64_t> pairs_;
  std::int64_t room_ = 0;
  double loss_ = 0, nll_ = 0;
  ViewFunction fill_training_, fill_evaluation_, read_;
};

/// Inverse square root from 5e-4 behind 4,000 steps of warmup.
LearningRateSchedule recipe_schedule();

}  // namespace thimble
