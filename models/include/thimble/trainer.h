// Training a planned model on a data set: steps, evaluation, and going on where a checkpoint stopped.
//
//   Trainer trainer(runtime, data.train, data.test, {.epochs = 6, .seed = 1});
//   trainer.initialize();                                       // or trainer.load("checkpoint.safetensors")
//   while (!trainer.is_done()) loss = trainer.step().loss;
//   trainer.evaluate().accuracy;
//   trainer.save("checkpoint.safetensors");
//
// A step allocates nothing. What a step sees depends on (seed, step) only, so a run that was stopped and went on has
// the bits of one that was not.
#pragma once

#include <cstdint>
#include <string>

#include "thimble/checkpoint.h"
#include "thimble/dataset.h"
#include "thimble/learning_rate.h"
#include "thimble/runtime.h"

namespace thimble {

struct TrainerOptions {
  std::int64_t epochs = 0;  ///< the run's length is `steps` where that is positive
  std::int64_t steps = 0;
  std::uint64_t seed = 0;
  LearningRateSchedule learning_rate{};
  bool augment = true;
};

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

class Trainer {
 public:
  /// Throws InvalidArgument where the data does not match what the plan was made for.
  Trainer(Runtime& runtime, const Dataset& train, const Dataset& test, TrainerOptions options);

  /// Fresh weights from the seed.
  void initialize();
  bool is_done() const { return step_ >= total_steps_; }
  StepResult step();
  EvaluationResult evaluate();

  /// Weights, state, step and data position; temporary name, then rename.
  void save(const std::string& path);
  /// Goes on. Throws BadInput, before any tensor is touched, where the file is of another model, data set, seed, batch,
  /// length of run, learning rate, optimizer or regularization.
  void load(const std::string& path);
  /// Starts from any file that has the weights; state it lacks starts fresh.
  void load_initial(const std::string& path);

  std::int64_t steps_done() const { return step_; }
  std::int64_t total_steps() const { return total_steps_; }
  std::int64_t steps_per_epoch() const { return steps_per_epoch_; }

 private:
  CheckpointRecord record_of_run() const;

  Runtime& runtime_;
  const Dataset& train_;
  const Dataset& test_;
  TrainerOptions options_;
  std::int64_t batch_ = 0;
  std::int64_t evaluation_batch_ = 0;
  std::int64_t steps_per_epoch_ = 0;
  std::int64_t total_steps_ = 0;
  std::int64_t step_ = 0;
  std::string graph_hash_;

  // Kept, so that a step makes no function objects.
  StepScalars scalars_;
  StepResult result_;
  std::int64_t samples_begin_ = 0;
  double loss_sum_ = 0;
  double correct_sum_ = 0;
  ViewFunction fill_training_;
  ViewFunction fill_evaluation_;
  ViewFunction read_;
};

}  // namespace thimble
