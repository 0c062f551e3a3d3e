// A model being trained on its kind of data, as `train` sees it: a trainer, and what its steps and evaluations report.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "thimble/training_run.h"
#include "training_data.h"

namespace thimble {

class TrainingJob {
 public:
  virtual ~TrainingJob() = default;
  virtual TrainingRun& run() = 0;
  /// One step of training; allocates nothing.
  virtual void step() = 0;

  /// Of the last step.
  virtual std::int64_t items() const = 0;
  virtual double loss() const = 0;
  virtual nlohmann::ordered_json step_report() const = 0;
  /// What is counted: "images", "tokens".
  virtual const char* unit() const = 0;

  /// On what is held out: {"test_loss": ...} or {"valid_loss": ...} of the set valid.
  virtual nlohmann::ordered_json evaluate() = 0;
  virtual nlohmann::ordered_json evaluated_on() const = 0;
};

/// `augment` is for pictures.
std::unique_ptr<TrainingJob> make_training_job(Runtime& runtime, const TrainingData& data, RunOptions options,
                                               bool augment);

}  // namespace thimble
