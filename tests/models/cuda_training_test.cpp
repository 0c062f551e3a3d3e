// Training on CUDA: what it learns is what the CPU learns, no plan changes its bits, and it needs what was planned.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "../cuda_under_test.h"
#include "small_translation.h"
#include "thimble/planner.h"
#include "thimble/trainer.h"
#include "thimble/training_plan.h"
#include "thimble/translation_plan.h"

namespace thimble {
namespace {

using testing::cuda_registry;
using testing::cuda_under_test;
using Bits = std::map<std::string, std::string>;

// Emulated, every CUDA thread is a fiber: the smallest models and few steps.
int steps_of_a_curve() { return testing::is_device_under_test() ? 50 : 2; }

constexpr double kCurveTolerance = 1e-2;

std::int64_t small_batch() { return testing::is_device_under_test() ? 16 : 4; }
Dataset small_data() { return synthetic_data(5 * small_batch(), 3); }

TrainingChoices small_pictures(bool fuse, Norm norm = Norm::batch) {
  TrainingChoices choices{.model = {.depth = 10, .width = 1},
                          .batch = small_batch(),
                          .train_samples = 5 * small_batch(),
                          .test_samples = 5 * small_batch()};
  choices.model.norm = norm;
  choices.model.dropout = 0.1;
  choices.fuse_convolutions = fuse;
  return choices;
}

Bits bits_of(Runtime& runtime) {
  Bits bits;
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    bits[tensor.name].assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return bits;
}

struct Trained {
  std::vector<double> losses;
  Bits bits;
  Bytes high_water, planned;
  bool was_captured = false;
};

Trained train(Runtime& runtime, const Dataset& data, int steps) {
  Trainer trainer(runtime, data, data, {.steps = 100, .seed = 4, .learning_rate = {.base = 0.02}});
  trainer.initialize();
  Trained trained;
  for (int i = 0; i < steps; ++i) {
    trained.losses.push_back(trainer.step().loss);
    trained.high_water = runtime.last_high_water();
    trained.was_captured = runtime.was_captured();
  }
  trained.planned = runtime.plan().program(kTrainProgram).planned;
  trained.bits = bits_of(runtime);
  return trained;
}

Trained train_on_cpu(const Plan& plan, const Dataset& data, int steps) {
  HostMemory memory;
  Runtime runtime(plan, cuda_registry(), memory);
  return train(runtime, data, steps);
}

Trained train_on_cuda(const Plan& plan, const Dataset& data, int steps, RuntimeOptions options = {}) {
  const auto device = cuda_under_test()->open();
  Runtime runtime(plan, cuda_registry(), *device, options);
  return train(runtime, data, steps);
}

Plan plan_for(TrainingChoices choices, bool on_cuda) {
  if (on_cuda) choices.device = cuda_under_test()->description();
  return make_plan(request_training(choices, cuda_registry()), cuda_registry());
}

// Sums in another order: losses drift apart as steps go by. Fifty steps of a small network stay within this (in fp32).
void expect_same_curve(const std::vector<double>& cuda, const std::vector<double>& cpu, double tolerance) {
  ASSERT_EQ(cuda.size(), cpu.size());
  for (std::size_t i = 0; i < cpu.size(); ++i)
    EXPECT_NEAR(cuda[i], cpu[i], tolerance * std::max(1.0, std::fabs(cpu[i]))) << "step " << i;
}

class PicturesOnCuda : public ::testing::TestWithParam<bool> {};

TEST_P(PicturesOnCuda, LearnWhatTheCpuLearns) {
  const Dataset data = small_data();
  for (Norm norm : {Norm::batch, Norm::group}) {
    const TrainingChoices choices = small_pictures(GetParam(), norm);
    const int steps = steps_of_a_curve();
    const Trained cpu = train_on_cpu(plan_for(choices, false), data, steps);
    const Trained cuda = train_on_cuda(plan_for(choices, true), data, steps);
    expect_same_curve(cuda.losses, cpu.losses, kCurveTolerance);
    EXPECT_EQ(cuda.high_water, cuda.planned);
    EXPECT_EQ(cuda.was_captured, testing::is_device_under_test());
  }
}

TEST_P(PicturesOnCuda, CapturedAndEagerHaveTheSameBits) {
  if (!testing::is_device_under_test()) GTEST_SKIP() << "only a device captures; THIMBLE_TEST_DEVICE is not cuda";
  const Dataset data = small_data();
  const Plan plan = plan_for(small_pictures(GetParam()), true);
  const Trained captured = train_on_cuda(plan, data, 5), eager = train_on_cuda(plan, data, 5, {.capture = false});
  EXPECT_FALSE(eager.was_captured);
  EXPECT_EQ(captured.losses, eager.losses);
  for (const auto& [name, bytes] : eager.bits) EXPECT_TRUE(captured.bits.at(name) == bytes) << name;
}

// A smaller plan may take other slices of a fused op, which is other arithmetic; else bits are the same.
TEST_P(PicturesOnCuda, EqualArithmeticHasEqualBitsWhateverIsMadeAgain) {
  const Dataset data = small_data();
  TrainingChoices choices = small_pictures(GetParam());
  choices.device = cuda_under_test()->description();
  const PlanRequest request = request_training(choices, cuda_registry());
  const Frontier frontier({request}, cuda_registry());
  const auto candidates = frontier.candidates();
  ASSERT_GT(candidates.size(), 1U);
  const Plan all = make_plan(request, cuda_registry()), little = frontier.plan(candidates.back());
  const Trained plain = train_on_cuda(all, data, 2), least = train_on_cuda(little, data, 2);
  EXPECT_LT(least.planned, plain.planned);
  EXPECT_EQ(least.high_water, least.planned);
  expect_same_curve(least.losses, plain.losses, 1e-4);
  EXPECT_TRUE(GetParam() || little.arithmetic_hash == all.arithmetic_hash);
  if (little.arithmetic_hash != all.arithmetic_hash) return;
  EXPECT_EQ(least.losses, plain.losses);
  for (const auto& [name, bytes] : plain.bits) EXPECT_TRUE(least.bits.at(name) == bytes) << name;
}

INSTANTIATE_TEST_SUITE_P(Fusion, PicturesOnCuda, ::testing::Bool(),
                         [](const auto& fused) { return fused.param ? "fused" : "separate"; });

struct TextRun {
  std::vector<double> losses;
  Bits bits;
};

// A few batches in turn, with dropout on: its masks are functions of counters, the same everywhere.
TextRun train_text(Runtime& runtime, const TranslationChoices& choices, int steps) {
  draw_small_weights(runtime, 3);
  const Bucket& bucket = choices.buckets.front();
  TextRun run;
  for (int step = 0; step < steps; ++step) {
    const SmallBatch batch(choices.model, {bucket.sentences, bucket.room, bucket.room},
                           static_cast<std::uint32_t>(step % 4));
    runtime.run(
        bucket_program("train", bucket.room),
        {.seed = 9, .step = step, .learning_rate = 1e-3F, .loss_terms = batch.target_tokens},
        [&](ProgramView& view) { batch.write(view); },
        [&](ProgramView& view) { run.losses.push_back(static_cast<double>(view.as<float>("loss")[0])); });
    EXPECT_EQ(runtime.last_high_water(), runtime.plan().program(bucket_program("train", bucket.room)).planned);
  }
  run.bits = bits_of(runtime);
  return run;
}

TranslationChoices small_text(bool dynamic) {
  TranslationChoices choices{.model = small_translation_model(dynamic), .buckets = {{.room = 7, .sentences = 4}}};
  choices.model.dropout = 0.1;
  choices.model.attention_dropout = 0.1;
  choices.model.tap_dropout = 0.1;
  choices.max_tokens = 28;
  return choices;
}

TEST(TextOnCuda, LearnsWhatTheCpuLearns) {
  for (bool dynamic : {true, false}) {
    TranslationChoices choices = small_text(dynamic);
    const int steps = steps_of_a_curve();
    HostMemory memory;
    Runtime here(make_plan(request_translation(choices, cuda_registry()), cuda_registry()), cuda_registry(), memory);
    const TextRun cpu = train_text(here, choices, steps);
    choices.device = cuda_under_test()->description();
    const auto device = cuda_under_test()->open();
    Runtime there(make_plan(request_translation(choices, cuda_registry()), cuda_registry()), cuda_registry(), *device);
    const TextRun cuda = train_text(there, choices, steps);
    expect_same_curve(cuda.losses, cpu.losses, kCurveTolerance);
  }
}

TEST(TextOnCuda, CaptureAndRecomputationChangeNoBits) {
  TranslationChoices choices = small_text(true);
  choices.device = cuda_under_test()->description();
  const PlanRequest request = request_translation(choices, cuda_registry());
  const Frontier frontier({request}, cuda_registry());
  const auto run = [&](const Plan& plan, RuntimeOptions options) {
    const auto device = cuda_under_test()->open();
    Runtime runtime(plan, cuda_registry(), *device, options);
    return train_text(runtime, choices, 3);
  };
  const TextRun plain = run(make_plan(request, cuda_registry()), {.capture = false});
  for (const TextRun& other :
       {run(make_plan(request, cuda_registry()), {}), run(frontier.plan(frontier.candidates().back()), {})}) {
    EXPECT_EQ(other.losses, plain.losses);
    for (const auto& [name, bytes] : plain.bits) EXPECT_TRUE(other.bits.at(name) == bytes) << name;
  }
}

}  // namespace
}  // namespace thimble
