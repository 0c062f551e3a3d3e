#include "thimble/trainer.h"

#include "all_ops.h"
#include "temporary_folder.h"
#include "thimble/error.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

// What a trainer needs, for eight pictures.
struct Bench {
  Dataset train = synthetic_data(8, 1), test = synthetic_data(4, 2);
  HostMemory memory;
  Runtime runtime;

  explicit Bench(std::int64_t batch = 4, WideResNet model = {.width = 1}, const SgdOptions& sgd = {})
      : runtime(plan_of(batch, model, sgd), registry(), memory) {}

  static Plan plan_of(std::int64_t batch, WideResNet model, const SgdOptions& sgd) {
    model.depth = 10;
    TrainingChoices choices{.model = model, .batch = batch, .train_samples = 8, .test_samples = 4, .sgd = sgd};
    choices.device.threads = 1;
    return make_plan(request_training(choices, registry()), registry());
  }

  std::string persistent_bytes() {
    std::string all;
    for (const PersistentTensor& tensor : runtime.plan().persistent) {
      const auto bytes = runtime.persistent(tensor.name);
      all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    return all;
  }
};

const TrainerOptions kOptions{.steps = 6, .seed = 1, .learning_rate = {.kind = ScheduleKind::constant}};

class TrainerLoad : public ::testing::Test {
 protected:
  // A checkpoint after two steps.
  TrainerLoad() {
    Bench bench;
    Trainer trainer(bench.runtime, bench.train, bench.test, kOptions);
    trainer.initialize();
    trainer.step();
    trainer.step();
    trainer.save(checkpoint_);
    saved_ = bench.persistent_bytes();
  }

  // Another run refuses it, says why, and stays as it was.
  void expect_refusal(Bench& bench, const TrainerOptions& options, const std::string& part) {
    Trainer trainer(bench.runtime, bench.train, bench.test, options);
    trainer.initialize();
    trainer.step();
    const std::string before = bench.persistent_bytes();
    const std::string message = message_of<BadInput>([&] { trainer.load(checkpoint_); });
    EXPECT_TRUE(holds(message, part)) << message;
    EXPECT_TRUE(bench.persistent_bytes() == before) << part << ": weights were touched";
    EXPECT_EQ(trainer.steps_done(), 1) << part;
  }

  TemporaryFolder folder_;
  std::string checkpoint_ = folder_.file("checkpoint"), saved_;
};

TEST_F(TrainerLoad, GoesOnWhereTheCheckpointStopped) {
  Bench bench;
  Trainer trainer(bench.runtime, bench.train, bench.test, kOptions);
  trainer.load(checkpoint_);
  EXPECT_EQ(trainer.steps_done(), 2);
  EXPECT_TRUE(bench.persistent_bytes() == saved_);
}

TEST_F(TrainerLoad, RefusesAnotherRunBeforeItTouchesATensor) {
  Bench same;
  TrainerOptions options = kOptions;
  options.seed = 2;
  expect_refusal(same, options, "seed 1, this run has 2");
  options = kOptions;
  options.steps = 7;
  expect_refusal(same, options, "a run of steps 6, this run has 7");
  options = kOptions;
  options.learning_rate.base = 0.05;
  expect_refusal(same, options, "learning rate 0.1 constant, this run has 0.05 constant");
  options.learning_rate.kind = ScheduleKind::cosine;
  expect_refusal(same, options, "this run has 0.05 cosine");
  options = kOptions;
  options.augment = false;
  expect_refusal(same, options, "regularization dropout 0, crop and flip, this run has dropout 0;");
  Bench heavy(4, {.width = 1}, {.weight_decay = 1e-3});
  expect_refusal(heavy, kOptions,
                 "optimizer nesterov 0.9, weight decay 5e-04, this run has nesterov 0.9, weight decay 0.001");
  Bench plain(4, {.width = 1}, {.nesterov = false});
  expect_refusal(plain, kOptions, "this run has momentum 0.9");
  Bench dropping(4, {.width = 1, .dropout = 0.3});
  expect_refusal(dropping, kOptions, "this run has dropout 0.3");
  Bench renamed;
  renamed.train.name = "other";
  expect_refusal(renamed, kOptions, "data set synthetic, this run has other");
  Bench halved(2);
  expect_refusal(halved, kOptions, "batch 4, this run has 2");
  Bench wider(4, {.width = 2});
  expect_refusal(wider, kOptions, "the model needs");
}

}  // namespace
}  // namespace thimble
