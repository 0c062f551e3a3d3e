#include "training_job.h"

#include "thimble/trainer.h"
#include "thimble/translation_trainer.h"

namespace thimble {
namespace {

using Json = nlohmann::ordered_json;

class PictureJob : public TrainingJob {
 public:
  PictureJob(Runtime& runtime, const DataSets& data, RunOptions options, bool augment)
      : test_(data.test), trainer_(runtime, data.train, data.test, std::move(options), augment) {}

  TrainingRun& run() override { return trainer_; }
  void step() override { last_ = trainer_.step(); }
  std::int64_t items() const override { return last_.samples; }
  double loss() const override { return last_.loss; }
  const char* unit() const override { return "images"; }
  Json step_report() const override {
    return {{"step", last_.step},
            {"epoch", last_.epoch},
            {"loss", last_.loss},
            {"accuracy", last_.accuracy},
            {"learning_rate", last_.learning_rate}};
  }
  Json evaluate() override {
    const EvaluationResult test = trainer_.evaluate();
    return {{"test_loss", test.loss}, {"test_accuracy", test.accuracy}};
  }
  Json evaluated_on() const override { return {{"test_samples", test_.size()}}; }

 private:
  const Dataset& test_;
  Trainer trainer_;
  StepResult last_;
};

class TextJob : public TrainingJob {
 public:
  TextJob(Runtime& runtime, const TextData& data, RunOptions options)
      : data_(data), trainer_(runtime, data.train.text, data.held_out.text, std::move(options)) {}

  TrainingRun& run() override { return trainer_; }
  void step() override { last_ = trainer_.step(); }
  std::int64_t items() const override { return last_.target_tokens; }
  double loss() const override { return last_.loss; }
  const char* unit() const override { return "tokens"; }
  Json step_report() const override {
    return {{"step", last_.step},
            {"epoch", last_.epoch},
            {"loss", last_.loss},
            {"nll", last_.nll},
            {"learning_rate", last_.learning_rate},
            {"target_tokens", last_.target_tokens}};
  }
  Json evaluate() override {
    const TranslationEvaluation result = trainer_.evaluate();
    return {{data_.held_out_set + "_loss", result.nll}, {data_.held_out_set + "_perplexity", result.perplexity()}};
  }
  Json evaluated_on() const override { return {{data_.held_out_set + "_pairs", data_.held_out.text.size()}}; }

 private:
  const TextData& data_;
  TranslationTrainer trainer_;
  TranslationStep last_;
};

}  // namespace

std::unique_ptr<TrainingJob> make_training_job(Runtime& runtime, const TrainingData& data, RunOptions options,
                                               bool augment) {
  if (data.text) return std::make_unique<TextJob>(runtime, *data.text, std::move(options));
  return std::make_unique<PictureJob>(runtime, data.pictures, std::move(options), augment);
}

}  // namespace thimble
