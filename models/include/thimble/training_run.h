// What training any model has in common: weights in a runtime, steps by a learning rate's schedule, and checkpoints to
// go on from. Trainer (pictures) and TranslationTrainer (text) are such runs.
//
//   trainer.initialize();                                       // or trainer.load("checkpoint.safetensors")
//   while (!trainer.is_done()) trainer.step();
//   trainer.save("checkpoint.safetensors");
//
// A step allocates nothing. What a step sees depends on (seed, step) only, so a run that was stopped and went on has
// the bits of one that was not.
#pragma once

#include <cstdint>
#include <string>

#include "thimble/checkpoint.h"
#include "thimble/learning_rate.h"
#include "thimble/runtime.h"

namespace thimble {

struct RunOptions {
  std::int64_t epochs = 0;  ///< the run's length is `steps` where that is positive
  std::int64_t steps = 0;
  std::uint64_t seed = 0;
  LearningRateSchedule learning_rate{};
};

class TrainingRun {
 public:
  virtual ~TrainingRun() = default;
  TrainingRun(const TrainingRun&) = delete;
  TrainingRun& operator=(const TrainingRun&) = delete;

  /// Fresh weights from the seed.
  void initialize();
  bool is_done() const { return step_ >= total_steps_; }
  /// The program that the next step runs.
  virtual std::string next_program() const = 0;

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

 protected:
  /// What a checkpoint says of the data and how it is trained on; another run's is refused.
  struct Description {
    std::string data_name, optimizer, regularization;
    std::int64_t batch = 0;
  };
  TrainingRun(Runtime& runtime, RunOptions options, std::int64_t steps_per_epoch, Description description);

  /// Scalars of the step that comes next.
  StepScalars& begin_step();
  void end_step() { ++step_; }
  std::int64_t epoch() const { return step_ / steps_per_epoch_; }
  std::int64_t step_of_epoch() const { return step_ % steps_per_epoch_; }
  double epochs_done() const { return static_cast<double>(step_) / static_cast<double>(steps_per_epoch_); }
  std::uint64_t seed() const { return options_.seed; }
  Runtime& runtime() const { return runtime_; }

 private:
  CheckpointRecord record_of_run() const;

  Runtime& runtime_;
  RunOptions options_;
  Description description_;
  std::int64_t steps_per_epoch_ = 0;
  std::int64_t total_steps_ = 0;
  std::int64_t step_ = 0;
  std::string graph_hash_;
  StepScalars scalars_;
};

}  // namespace thimble
