#include "thimble/trainer.h"

#include <algorithm>

#include "thimble/augment.h"
#include "thimble/checkpoint.h"
#include "thimble/error.h"
#include "thimble/training_plan.h"
#include "thimble/wide_resnet.h"

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

// From the plan's options: persistent tensors do not show it.
std::string optimizer_text(const Plan& plan) {
  const auto option = [&](const char* name) { return plan.options.at(name); };
  return (option("nesterov") == "1" ? "nesterov " : "momentum ") + option("momentum") + ", weight decay " +
         option("weight_decay");
}

std::vector<CheckpointTensor> persistent_views(Runtime& runtime) {
  std::vector<CheckpointTensor> views;
  for (const PersistentTensor& tensor : runtime.plan().persistent)
    views.push_back({tensor.name, tensor.type, tensor.role, runtime.persistent(tensor.name).data()});
  return views;
}

}  // namespace

Trainer::Trainer(Runtime& runtime, const Dataset& train, const Dataset& test, TrainerOptions options)
    : runtime_(runtime), train_(train), test_(test), options_(options), batch_(runtime.plan().batch) {
  const Plan& plan = runtime.plan();
  const TrainingChoices choices = choices_of(plan);
  if (train.size() != choices.train_samples || test.size() != choices.test_samples)
    throw InvalidArgument("trainer: the plan was made for " + std::to_string(choices.train_samples) + " + " +
                          std::to_string(choices.test_samples) + " samples, the data has " +
                          std::to_string(train.size()) + " + " + std::to_string(test.size()) + "; plan again");
  evaluation_batch_ = plan.program(kEvaluateProgram).graph.batch;
  steps_per_epoch_ = (train.size() + batch_ - 1) / batch_;
  total_steps_ = options_.steps > 0 ? options_.steps : options_.epochs * steps_per_epoch_;
  graph_hash_ = persistent_signature(plan);
  scalars_.seed = options_.seed;
  fill_training_ = [this](ProgramView& view) {
    const std::int64_t epoch = step_ / steps_per_epoch_;
    fill_training_batch(train_, options_.seed, epoch, samples_begin_ + view.samples().begin, options_.augment,
                        view.as<float>("images"), view.as<std::int32_t>("labels"));
  };
  fill_evaluation_ = [this](ProgramView& view) {
    fill_evaluation_batch(test_, samples_begin_ + view.samples().begin, view.as<float>("images"),
                          view.as<std::int32_t>("labels"));
  };
  read_ = [this](ProgramView& view) {
    loss_sum_ += view.as<float>("loss")[0];
    correct_sum_ += view.as<float>("correct")[0];
  };
}

void Trainer::initialize() {
  for (const PersistentTensor& tensor : runtime_.plan().persistent) {
    const std::span<std::byte> bytes = runtime_.persistent(tensor.name);
    initialize_parameter({reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)}, tensor.name,
                         tensor.type, options_.seed);
  }
}

StepResult Trainer::step() {
  const std::int64_t in_epoch = step_ % steps_per_epoch_;
  samples_begin_ = in_epoch * batch_;
  const std::int64_t samples = std::min(batch_, train_.size() - samples_begin_);
  scalars_.step = step_;
  scalars_.learning_rate = options_.learning_rate.at(step_, total_steps_);
  loss_sum_ = correct_sum_ = 0;
  runtime_.run(samples == batch_ ? kTrainProgram : kTrainShortProgram, scalars_, fill_training_, read_);
  ++step_;
  return {.step = step_,
          .epoch = static_cast<double>(step_) / static_cast<double>(steps_per_epoch_),
          .loss = loss_sum_,
          .accuracy = correct_sum_ / static_cast<double>(samples),
          .learning_rate = scalars_.learning_rate,
          .samples = samples};
}

EvaluationResult Trainer::evaluate() {
  EvaluationResult total;
  double loss = 0, correct = 0;
  for (samples_begin_ = 0; samples_begin_ < test_.size(); samples_begin_ += evaluation_batch_) {
    const std::int64_t samples = std::min(evaluation_batch_, test_.size() - samples_begin_);
    loss_sum_ = correct_sum_ = 0;
    runtime_.run(samples == evaluation_batch_ ? kEvaluateProgram : kEvaluateShortProgram, scalars_, fill_evaluation_,
                 read_);
    loss += loss_sum_ * static_cast<double>(samples);
    correct += correct_sum_;
    total.samples += samples;
  }
  total.loss = loss / static_cast<double>(total.samples);
  total.accuracy = correct / static_cast<double>(total.samples);
  return total;
}

CheckpointRecord Trainer::record_of_run() const {
  return {.graph_hash = graph_hash_,
          .arithmetic_hash = runtime_.plan().arithmetic_hash,
          .data_name = train_.name,
          .learning_rate = to_string(options_.learning_rate),
          .optimizer = optimizer_text(runtime_.plan()),
          .regularization =
              "dropout " + runtime_.plan().options.at("dropout") + (options_.augment ? ", crop and flip" : ""),
          .seed = options_.seed,
          .step = step_,
          .total_steps = total_steps_,
          .batch = batch_};
}

void Trainer::save(const std::string& path) {
  runtime_.run(kSaveProgram, scalars_, nullptr,
               [&](ProgramView&) { save_checkpoint(path, persistent_views(runtime_), record_of_run()); });
}

void Trainer::load(const std::string& path) {
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

void Trainer::load_initial(const std::string& path) {
  initialize();
  load_weights(path, persistent_views(runtime_));
}

}  // namespace thimble
