// An oracle nobody here wrote: five steps of a small WideResNet equal PyTorch's from the same weights and batches.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "picture_inputs.h"
#include "python_torch.h"
#include "temporary_folder.h"
#include "thimble/initialize.h"
#include "thimble/ops.h"
#include "thimble/runtime.h"
#include "thimble/safetensors.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

constexpr std::int64_t kBatch = 20;
constexpr int kSteps = 5;
constexpr float kRate = 0.1f;

std::vector<NamedBytes> persistent_bytes(Runtime& runtime) {
  std::vector<NamedBytes> all;
  for (const PersistentTensor& tensor : runtime.plan().persistent)
    all.push_back({tensor.name, tensor.type, runtime.persistent(tensor.name)});
  return all;
}

// Weights for which the comparison is well posed. Where an activation lies at the ReLU's corner, rounding decides
// whether its gradient passes, and training goes on to multiply that: with biases of zero, 62 of 7.4 million ReLUs
// differ from those of PyTorch in double, and momenta by 1e-2. (Given the same 62 decisions they agree to 1.3e-6.) So
// biases are about three deviations off the corner, to either side. Scales and convolutions are small, which changes
// nothing that a normalisation follows, and lets a step move them further.
void draw_weights(Runtime& runtime, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto uniform = [&](float low, float high) {
    return low + (high - low) * static_cast<float>(random() >> 8) / 16777216.0f;
  };
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    const std::span values{reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
    initialize_parameter(values, tensor.name, tensor.type, seed);
    if (tensor.role != Role::weight) continue;
    const bool is_bias = tensor.name.ends_with(".bias"), is_classifier = tensor.name.starts_with("classifier");
    const float scale = tensor.name.starts_with("final") ? 0.3f : 0.1f;
    for (float& value : values) {
      const float side = uniform(-1, 1) < 0 ? -scale : scale;
      if (is_classifier)
        value = is_bias ? uniform(-0.3f, 0.3f) : 3 * value;
      else if (is_bias)
        value = uniform(2.7f, 3.3f) * side;
      else
        value = tensor.type.shape.size() == 1 ? uniform(0.7f, 1.3f) * scale : 0.5f * value;
    }
  }
}

void compare_with_pytorch(bool fuse, bool fuse_convolutions = false, Norm norm = Norm::batch) {
  REQUIRE_TORCH_OR_SKIP();
  OpRegistry registry;
  register_ops(registry);
  TrainingChoices choices;
  choices.model = {.depth = 10, .width = 1, .fuse = fuse, .norm = norm};
  choices.fuse_convolutions = fuse_convolutions;
  choices.batch = kBatch;
  choices.device.threads = 2;
  HostMemory memory;
  Runtime runtime(make_plan(request_training(choices, registry), registry), registry, memory, {.poison = true});
  draw_weights(runtime, 2);
  const TemporaryFolder folder;
  write_safetensors(folder.file("initial.safetensors"), persistent_bytes(runtime), {});
  const Dataset data = synthetic_data(kBatch * kSteps, 7);
  std::vector<std::uint8_t> pictures(kSteps * kBatch * Dataset::kPixels);
  std::vector<std::int32_t> labels(kSteps * kBatch);
  std::vector<NamedBytes> batches;
  for (int step = 0; step < kSteps; ++step) {
    const auto batch_pictures = std::span(pictures).subspan(static_cast<std::size_t>(step * kBatch * Dataset::kPixels),
                                                            kBatch * Dataset::kPixels);
    const auto batch_labels = std::span(labels).subspan(static_cast<std::size_t>(step * kBatch), kBatch);
    fill_evaluation_batch(data, step * kBatch, {batch_pictures, {}, batch_labels});
    batches.push_back(
        {"pictures" + std::to_string(step), {DType::u8, {kBatch, 3, 32, 32}}, std::as_bytes(batch_pictures)});
    batches.push_back({"labels" + std::to_string(step), {DType::i32, {kBatch}}, std::as_bytes(batch_labels)});
    runtime.run(
        kTrainProgram, {.seed = 0, .step = step, .learning_rate = kRate},
        [&](ProgramView& inputs) { fill_in_order(data, step * kBatch, inputs); }, nullptr);
  }
  write_safetensors(folder.file("batches.safetensors"), batches, {});
  write_safetensors(folder.file("final.safetensors"), persistent_bytes(runtime), {});
  const std::string command = "OMP_WAIT_POLICY=PASSIVE " THIMBLE_PYTHON " " THIMBLE_SOURCE_DIR
                              "/tests/models/pytorch_oracle.py " +
                              folder.path() + " 10 1 " + std::to_string(kSteps) + " " + std::to_string(kRate);
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(PyTorchOracle, FiveStepsGiveTheSameWeights) { compare_with_pytorch(true); }
TEST(PyTorchOracle, FiveStepsWithSeparateOpsGiveTheSameWeights) { compare_with_pytorch(false); }
TEST(PyTorchOracle, FiveStepsWithConvolutionsThatNormaliseGiveTheSameWeights) { compare_with_pytorch(true, true); }
TEST(PyTorchOracle, FiveStepsWithGroupNormalisationGiveTheSameWeights) {
  compare_with_pytorch(true, false, Norm::group);
}
TEST(PyTorchOracle, FiveStepsWithConvolutionsThatNormaliseByGroupsGiveTheSameWeights) {
  compare_with_pytorch(true, true, Norm::group);
}

}  // namespace
}  // namespace thimble
