// An oracle nobody here wrote: loss, gradients and five steps of Adam of a small translation model equal PyTorch's.
#include <gtest/gtest.h>

#include <cstdlib>

#include "python_torch.h"
#include "small_translation.h"
#include "temporary_folder.h"
#include "thimble/safetensors.h"

namespace thimble {
namespace {

constexpr int kSteps = 5;
constexpr float kRate = 1e-3f;

std::vector<NamedBytes> weights_of(Runtime& runtime) {
  std::vector<NamedBytes> all;
  for (const PersistentTensor& tensor : runtime.plan().persistent)
    if (tensor.role == Role::weight) all.push_back({tensor.name, tensor.type, runtime.persistent(tensor.name)});
  return all;
}

void compare_with_pytorch(bool dynamic) {
  REQUIRE_TORCH_OR_SKIP();
  const DynamicConv model = small_translation_model(dynamic);
  const SentenceShape shape{7, 11, 9};
  const Graph forward = build_dynamic_conv(model, registry(), shape, Mode::train);
  const TensorId loss = forward.find("loss");
  const Graph step = differentiate(forward, registry(), loss, kSmallAdam);
  DeviceDescription device;
  device.threads = 2;
  const PlanRequest request{.model = "small",
                            .options = {},
                            .batch = shape.sentences,
                            .device = device,
                            .planner_seed = 0,
                            .budget = std::nullopt,
                            .programs = {{"gradients", differentiate(forward, registry(), loss), {shape.sentences}},
                                         {"train", step, {shape.sentences}}}};
  HostMemory memory;
  Runtime runtime(make_plan(request, registry()), registry(), memory, {.poison = true, .canaries = true});
  draw_small_weights(runtime, 3);
  const TemporaryFolder folder;
  write_safetensors(folder.file("initial.safetensors"), weights_of(runtime), {});
  const SmallBatch batch(model, shape, 5);
  const auto ids = [&](const char* name, const std::vector<std::int32_t>& values, std::int64_t room) {
    const TensorType type{DType::i32, room == 1 ? std::vector{shape.sentences} : std::vector{shape.sentences, room}};
    return NamedBytes{name, type, std::as_bytes(std::span(values))};
  };
  write_safetensors(
      folder.file("batch.safetensors"),
      {ids("source", batch.source, shape.source), ids("source_lengths", batch.source_lengths, 1),
       ids("target_input", batch.target_input, shape.target), ids("target_output", batch.target_output, shape.target),
       ids("target_lengths", batch.target_lengths, 1)},
      {});
  StepScalars scalars{.seed = 1, .step = 0, .learning_rate = kRate, .loss_terms = batch.target_tokens};
  const auto fill = [&](ProgramView& view) { batch.write(view); };
  runtime.run("gradients", scalars, fill, [&](ProgramView& view) {
    std::vector<NamedBytes> gradients;
    for (const Op& op : step.ops)
      if (op.phase == Phase::update)
        gradients.push_back({step.tensors[op.inputs[0]].name, step.tensors[op.inputs[0]].type,
                             view.bytes(step.tensors[op.inputs[1]].name)});
    write_safetensors(folder.file("gradients.safetensors"), gradients, {});
    write_safetensors(folder.file("results.safetensors"),
                      {{"loss", {DType::f32, {1}}, view.bytes("loss")}, {"nll", {DType::f32, {1}}, view.bytes("nll")}},
                      {});
  });
  for (; scalars.step < kSteps; ++scalars.step) runtime.run("train", scalars, fill, nullptr);
  write_safetensors(folder.file("final.safetensors"), weights_of(runtime), {});
  const std::string command =
      "OMP_WAIT_POLICY=PASSIVE " THIMBLE_PYTHON " " THIMBLE_SOURCE_DIR "/tests/models/dynamic_conv_oracle.py " +
      folder.path() + " " + std::to_string(kSteps) + " " + std::to_string(kRate) + " " +
      std::to_string(model.smoothing) + " " + std::to_string(model.heads) + (dynamic ? " dynamic" : " light");
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(DynamicConvOracle, LossGradientsAndFiveStepsEqualPyTorchs) { compare_with_pytorch(true); }
TEST(DynamicConvOracle, LightweightConvolutionsDoToo) { compare_with_pytorch(false); }

}  // namespace
}  // namespace thimble
