// An oracle nobody here wrote: five steps of a small WideResNet equal PyTorch's from the same weights and batches.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <unistd.h>

#include "thimble/augment.h"
#include "thimble/ops.h"
#include "thimble/runtime.h"
#include "thimble/safetensors.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

constexpr std::int64_t kBatch = 20;
constexpr int kSteps = 5;
constexpr float kRate = 0.01f;

std::vector<NamedBytes> persistent_bytes(Runtime& runtime) {
  std::vector<NamedBytes> all;
  for (const PersistentTensor& tensor : runtime.plan().persistent)
    all.push_back({tensor.name, tensor.type, runtime.persistent(tensor.name)});
  return all;
}

void compare_with_pytorch(bool fuse) {
  if (std::system("/usr/bin/python3 -c 'import torch' 2>/dev/null") != 0) {
    if (std::getenv("THIMBLE_REQUIRE_SHARED") != nullptr) FAIL() << "python3-torch is not installed";
    GTEST_SKIP() << "python3-torch is not installed";
  }
  OpRegistry registry;
  register_ops(registry);
  TrainingChoices choices;
  choices.model = {.depth = 10, .width = 1, .fuse = fuse};
  choices.batch = kBatch;
  choices.device.threads = 2;
  HostMemory memory;
  Runtime runtime(make_plan(request_training(choices, registry), registry), registry, memory, {.poison = true});
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    initialize_parameter({reinterpret_cast<float*>(bytes.data()), bytes.size() / 4}, tensor.name, tensor.type, 3);
  }
  const auto folder = std::filesystem::temp_directory_path() / ("thimble-oracle-" + std::to_string(::getpid()) + (fuse ? "f" : "s"));
  std::filesystem::create_directories(folder);
  write_safetensors(folder / "initial.safetensors", persistent_bytes(runtime), {});
  const Dataset data = synthetic_data(kBatch * kSteps, 7);
  std::vector<std::vector<float>> images;
  std::vector<std::vector<std::int32_t>> labels;
  std::vector<NamedBytes> batches;
  for (int step = 0; step < kSteps; ++step) {
    images.emplace_back(kBatch * Dataset::kPixels);
    labels.emplace_back(kBatch);
    fill_evaluation_batch(data, step * kBatch, images.back(), labels.back());
    runtime.run(kTrainProgram, {.seed = 0, .step = step, .learning_rate = kRate}, [&](ProgramView& inputs) {
      std::ranges::copy(images.back(), inputs.as<float>("images").begin());
      std::ranges::copy(labels.back(), inputs.as<std::int32_t>("labels").begin());
    }, nullptr);
  }
  for (int step = 0; step < kSteps; ++step) {
    const auto i = static_cast<std::size_t>(step);
    batches.push_back({"images" + std::to_string(step), {DType::f32, {kBatch, 32, 32, 3}}, std::as_bytes(std::span(images[i]))});
    batches.push_back({"labels" + std::to_string(step), {DType::i32, {kBatch}}, std::as_bytes(std::span(labels[i]))});
  }
  write_safetensors(folder / "batches.safetensors", batches, {});
  write_safetensors(folder / "final.safetensors", persistent_bytes(runtime), {});
  const std::string command = "OMP_WAIT_POLICY=PASSIVE /usr/bin/python3 " THIMBLE_SOURCE_DIR "/tests/models/pytorch_oracle.py " +
                              folder.string() + " 10 1 " + std::to_string(kSteps) + " " + std::to_string(kRate);
  EXPECT_EQ(std::system(command.c_str()), 0);
  std::filesystem::remove_all(folder);
}

TEST(PyTorchOracle, FiveStepsGiveTheSameWeights) { compare_with_pytorch(true); }
TEST(PyTorchOracle, FiveStepsWithSeparateOpsGiveTheSameWeights) { compare_with_pytorch(false); }

}  // namespace
}  // namespace thimble
