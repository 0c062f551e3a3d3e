// Training a planned WideResNet on pictures; what any run can do is in training_run.h.
//
//   Trainer trainer(runtime, data.train, data.test, {.epochs = 6, .seed = 1});
//   trainer.initialize();                                       // or trainer.load("checkpoint.safetensors")
//   while (!trainer.is_done()) loss = trainer.step().loss;
//   trainer.evaluate().accuracy;
#pragma once

#include <cstdint>
#include <string>

#include "thimble/augment.h"
#include "thimble/dataset.h"
#include "thimble/training_run.h"

namespace thimble {

/// The inputs at hand of a program that trains a WideResNet, and of one that evaluates it.
PictureBatch training_inputs(ProgramView& view);
PictureBatch evaluation_inputs(ProgramView& view);

struct StepResult {
  std::int64_t step = 0;  ///< counted from 1
  double epoch = 0;       ///< epochs seen after this step
  double loss = 0;        ///< mean over the batch
  double accuracy = 0;    ///< of the batch, before the update
  float learning_rate = 0;
  std::int64_t samples = 0;
};

struct EvaluationResult {
  double loss = 0;
  double accuracy = 0;
  std::int64_t samples = 0;
};

class Trainer : public TrainingRun {
 public:
  /// `augment`: training pictures are cropped and flipped at random. Throws InvalidArgument where the data does not
  /// match what the plan was made for.
  Trainer(Runtime& runtime, const Dataset& train, const Dataset& test, RunOptions options, bool augment = true);

  std::string next_program() const override;
  StepResult step();
  EvaluationResult evaluate();

 private:
  std::int64_t next_samples() const;

  const Dataset& train_;
  const Dataset& test_;
  std::int64_t batch_ = 0;
  std::int64_t evaluation_batch_ = 0;

  // Kept, so that a step makes no function objects.
  std::int64_t samples_begin_ = 0;
  double loss_sum_ = 0;
  double correct_sum_ = 0;
  ViewFunction fill_training_;
  ViewFunction fill_evaluation_;
  ViewFunction read_;
};

}  // namespace thimble
