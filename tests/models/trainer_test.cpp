#include "thimble/trainer.h"

#include "all_ops.h"
#include "temporary_folder.h"
#include "thimble/augment.h"
#include "thimble/error.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

std::string persistent_bytes(Runtime& runtime) {
  std::string all;
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return all;
}

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

  std::string persistent_bytes() { return thimble::persistent_bytes(runtime); }
};

const RunOptions kOptions{.steps = 6, .seed = 1, .learning_rate = {.kind = ScheduleKind::constant}};

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
  void expect_refusal(Bench& bench, const RunOptions& options, const std::string& part, bool augment = true) {
    Trainer trainer(bench.runtime, bench.train, bench.test, options, augment);
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
  RunOptions options = kOptions;
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
  expect_refusal(same, kOptions, "regularization dropout 0, crop and flip, this run has dropout 0;", false);
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
  Bench by_groups(4, {.width = 1, .norm = Norm::group});
  expect_refusal(by_groups, kOptions, "block0.gn1.bias");
}

// The same programs with inputs that hold the whole batch: so they do where the caller reads them.
Plan with_whole_inputs(PlanRequest request) {
  for (const char* name : {"pictures", "crops", "labels"})
    request.programs.front().graph.mark_output(request.programs.front().graph.find(name));
  return make_plan(request, registry());
}

Bytes input_bytes(const Plan& plan) {
  Bytes bytes;
  for (const Storage& storage : plan.program(kTrainProgram).schedule.storages)
    if (storage.role == Role::input) bytes += storage.size;
  return bytes;
}

constexpr std::int64_t kWholeBatch = 6;

// Weights and losses after two steps.
struct Trained {
  std::string weights;
  std::vector<double> losses;
};

Trained train(const Plan& plan, const Dataset& data, const RunOptions& options) {
  HostMemory memory;
  Runtime runtime(plan, registry(), memory, {.poison = true, .canaries = true});
  Trainer trainer(runtime, data, data, options);
  trainer.initialize();
  Trained trained;
  while (!trainer.is_done()) trained.losses.push_back(trainer.step().loss);
  trained.weights = persistent_bytes(runtime);
  return trained;
}

// Without a trainer's steps: every batch is made at once, and each microbatch takes its samples from it.
Trained train_by_hand(const Plan& plan, const Dataset& data, const RunOptions& options) {
  HostMemory memory;
  Runtime runtime(plan, registry(), memory, {.poison = true, .canaries = true});
  Trainer(runtime, data, data, options).initialize();
  Trained trained;
  std::vector<std::uint8_t> pictures(kWholeBatch * Dataset::kPixels);
  std::vector<std::int32_t> crops(kWholeBatch * kCropValues), labels(kWholeBatch);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    fill_training_batch(data, options.seed, 0, step * kWholeBatch, true, {pictures, crops, labels});
    const auto fill = [&](ProgramView& view) {
      const auto take = [samples = view.samples()](const auto& all, std::int64_t of_sample, const auto& to) {
        std::copy(all.begin() + samples.begin * of_sample, all.begin() + samples.end * of_sample, to.begin());
      };
      const PictureBatch inputs = training_inputs(view);
      take(pictures, kPictureBytes, inputs.pictures);
      take(crops, kCropValues, inputs.crops);
      take(labels, 1, inputs.labels);
    };
    const auto read = [&](ProgramView& view) {
      trained.losses.push_back(view.as<float>("loss")[0]);
      EXPECT_TRUE(std::ranges::equal(view.as<std::uint8_t>("pictures"), pictures));  // part by part, the whole batch
    };
    const float rate = options.learning_rate.at(step, options.steps);
    runtime.run(kTrainProgram, {.seed = options.seed, .step = step, .learning_rate = rate}, fill, read);
  }
  trained.weights = persistent_bytes(runtime);
  return trained;
}

TEST(TrainerInputs, HoldOneMicrobatchAndGiveTheBitsOfWholeBatches) {
  const Dataset data = synthetic_data(2 * kWholeBatch, 1);
  const RunOptions options{.steps = 2, .seed = 5};
  for (const auto& cut : {std::vector<std::int64_t>{2, 2, 2}, {4, 2}}) {
    TrainingChoices choices{.model = {.depth = 10, .width = 1},
                            .batch = kWholeBatch,
                            .microbatches = cut,
                            .train_samples = data.size(),
                            .test_samples = data.size()};
    choices.device.threads = 1;
    const PlanRequest request = request_training(choices, registry());
    const Plan parts = make_plan(request, registry()), whole = with_whole_inputs(request);
    const auto inputs = [](std::int64_t samples) {
      const Bytes crops = align_up(Bytes{samples * kCropValues * 4}, kAlignment), labels = kAlignment;
      return Bytes{samples * kPictureBytes} + crops + labels;
    };
    EXPECT_EQ(input_bytes(parts), inputs(cut[0]));
    EXPECT_EQ(input_bytes(whole), inputs(kWholeBatch));
    EXPECT_LT(parts.program(kTrainProgram).planned, whole.program(kTrainProgram).planned);
    const Trained ours = train(parts, data, options), expected = train_by_hand(whole, data, options);
    EXPECT_EQ(ours.losses, expected.losses);
    EXPECT_TRUE(ours.weights == expected.weights) << cut.size() << " microbatches";
  }
}

}  // namespace
}  // namespace thimble
