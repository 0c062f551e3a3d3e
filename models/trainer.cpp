#include "thimble/trainer.h"

#include <algorithm>

#include "plan_options.h"
#include "thimble/error.h"
#include "thimble/training_plan.h"
#include "thimble/wide_resnet.h"

namespace thimble {
namespace {

// From the plan's options: persistent tensors do not show it.
std::string optimizer_text(const Plan& plan) {
  const auto option = [&](const char* name) { return plan_option(plan, name); };
  return (option("nesterov") == "1" ? "nesterov " : "momentum ") + option("momentum") + ", weight decay " +
         option("weight_decay");
}

std::string regularization_text(const Plan& plan, bool augment) {
  return "dropout " + plan_option(plan, "dropout") + (augment ? ", crop and flip" : "");
}

}  // namespace

PictureBatch training_inputs(ProgramView& view) {
  return {view.as<std::uint8_t>("pictures"), view.as<std::int32_t>("crops"), view.as<std::int32_t>("labels")};
}

PictureBatch evaluation_inputs(ProgramView& view) {
  return {view.as<std::uint8_t>("pictures"), {}, view.as<std::int32_t>("labels")};
}

Trainer::Trainer(Runtime& runtime, const Dataset& train, const Dataset& test, RunOptions options, bool augment)
    : TrainingRun(runtime, std::move(options), (train.size() + runtime.plan().batch - 1) / runtime.plan().batch,
                  {.data_name = train.name,
                   .optimizer = optimizer_text(runtime.plan()),
                   .regularization = regularization_text(runtime.plan(), augment),
                   .batch = runtime.plan().batch}),
      train_(train),
      test_(test),
      batch_(runtime.plan().batch),
      evaluation_batch_(runtime.plan().program(kEvaluateProgram).graph.batch) {
  const TrainingChoices choices = choices_of(runtime.plan());
  if (train.size() != choices.train_samples || test.size() != choices.test_samples)
    throw InvalidArgument("trainer: the plan was made for " + std::to_string(choices.train_samples) + " + " +
                          std::to_string(choices.test_samples) + " samples, the data has " +
                          std::to_string(train.size()) + " + " + std::to_string(test.size()) + "; plan again");
  fill_training_ = [this, augment](ProgramView& view) {
    fill_training_batch(train_, seed(), epoch(), samples_begin_ + view.samples().begin, augment, training_inputs(view));
  };
  fill_evaluation_ = [this](ProgramView& view) {
    fill_evaluation_batch(test_, samples_begin_ + view.samples().begin, evaluation_inputs(view));
  };
  read_ = [this](ProgramView& view) {
    loss_sum_ += view.as<float>("loss")[0];
    correct_sum_ += view.as<float>("correct")[0];
  };
}

std::int64_t Trainer::next_samples() const { return std::min(batch_, train_.size() - step_of_epoch() * batch_); }

std::string Trainer::next_program() const { return next_samples() == batch_ ? kTrainProgram : kTrainShortProgram; }

StepResult Trainer::step() {
  const std::int64_t samples = next_samples();
  samples_begin_ = step_of_epoch() * batch_;
  loss_sum_ = correct_sum_ = 0;
  const StepScalars& scalars = begin_step();
  runtime().run(samples == batch_ ? kTrainProgram : kTrainShortProgram, scalars, fill_training_, read_);
  end_step();
  return {.step = steps_done(),
          .epoch = epochs_done(),
          .loss = loss_sum_,
          .accuracy = correct_sum_ / static_cast<double>(samples),
          .learning_rate = scalars.learning_rate,
          .samples = samples};
}

EvaluationResult Trainer::evaluate() {
  EvaluationResult total;
  double loss = 0, correct = 0;
  for (samples_begin_ = 0; samples_begin_ < test_.size(); samples_begin_ += evaluation_batch_) {
    const std::int64_t samples = std::min(evaluation_batch_, test_.size() - samples_begin_);
    loss_sum_ = correct_sum_ = 0;
    runtime().run(samples == evaluation_batch_ ? kEvaluateProgram : kEvaluateShortProgram, {}, fill_evaluation_, read_);
    loss += loss_sum_ * static_cast<double>(samples);
    correct += correct_sum_;
    total.samples += samples;
  }
  total.loss = loss / static_cast<double>(total.samples);
  total.accuracy = correct / static_cast<double>(total.samples);
  return total;
}

}  // namespace thimble
