#include "thimble/training_run.h"

#include "thimble/error.h"
#include "thimble/initialize.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

// Checkpoints belong to a model and how it is trained, not to a plan: another cut may go on from them.
std::string persistent_signature(const Plan& plan) {
  std::string text = plan.model;
  for (const PersistentTensor& tensor : plan.persistent) {
    text += ";" + tensor.name;
    for (std::int64_t extent : tensor.type.shape) text += "," + std::to_string(extent);
  }
  return std::to_string(stable_hash(text));
}

}  // namespace

TrainingRun::TrainingRun(Runtime& runtime, RunOptions options, std::int64_t steps_per_epoch, Description description)
    : runtime_(runtime),
      options_(std::move(options)),
      description_(std::move(description)),
      steps_per_epoch_(steps_per_epoch),
      total_steps_(options_.steps > 0 ? options_.steps : options_.epochs * steps_per_epoch),
      graph_hash_(persistent_signature(runtime.plan())) {
  scalars_.seed = options_.seed;
}

void TrainingRun::initialize() {
  for (const PersistentTensor& tensor : runtime_.plan().persistent) {
    const std::span<std::byte> bytes = runtime_.persistent(tensor.name);
    initialize_parameter({reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)}, tensor.name,
                         tensor.type, options_.seed);
  }
}

StepScalars& TrainingRun::begin_step() {
  scalars_.step = step_;
  scalars_.learning_rate = options_.learning_rate.at(step_, total_steps_);
  return scalars_;
}

CheckpointRecord TrainingRun::record_of_run() const {
  return {.graph_hash = graph_hash_,
          .arithmetic_hash = runtime_.plan().arithmetic_hash,
          .data_name = description_.data_name,
          .learning_rate = to_string(options_.learning_rate),
          .optimizer = description_.optimizer,
          .regularization = description_.regularization,
          .seed = options_.seed,
          .step = step_,
          .total_steps = total_steps_,
          .batch = description_.batch};
}

void TrainingRun::save(const std::string& path) {
  runtime_.run(kSaveProgram, scalars_, nullptr,
               [&](ProgramView&) { save_checkpoint(path, persistent_views(runtime_), record_of_run()); });
}

void TrainingRun::load(const std::string& path) {
  const CheckpointRecord run = record_of_run();
  const auto accept = [&](const CheckpointRecord& record) {
    const auto expect = [&](const std::string& what, const std::string& found, const std::string& wanted) {
      if (found != wanted)
        throw BadInput(path + ": is of " + what + " " + found + ", this run has " + wanted +
                       "; go on as it began, or start from its weights with --init");
    };
    expect("model", record.graph_hash, run.graph_hash);
    expect("data set", record.data_name, run.data_name);
    expect("seed", std::to_string(record.seed), std::to_string(run.seed));
    expect("batch", std::to_string(record.batch), std::to_string(run.batch));
    expect("a run of steps", std::to_string(record.total_steps), std::to_string(run.total_steps));
    expect("learning rate", record.learning_rate, run.learning_rate);
    expect("optimizer", record.optimizer, run.optimizer);
    expect("regularization", record.regularization, run.regularization);
  };
  step_ = load_checkpoint(path, persistent_views(runtime_), accept).step;
}

void TrainingRun::load_initial(const std::string& path) {
  initialize();
  load_weights(path, persistent_views(runtime_));
}

}  // namespace thimble
