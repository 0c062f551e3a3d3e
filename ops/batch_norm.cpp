// Batch normalisation, alone or with the ReLU behind it: in training (whole, or its statistics alone for ops that
// normalise what they read), in inference; running statistics.
#include "bit_mask.h"
#include "normalization.h"
#include "registration.h"

namespace thimble {
namespace {

// `mask` where the op has one, else nullptr.
void normalize(const OpShape& shape, const KernelArguments& a, const NormSizes& s, const ScaleShift& factors,
               std::byte* mask) {
  const std::int64_t sample = s.elements_per_sample();
  const float* x = floats(a.inputs[0]);
  float* y = floats(a.outputs[0]);
  const bool relu = flag(shape.attributes, "relu");
  parallel_chunks(shape.device.threads, s.chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n) {
      normalize_rows(x + n * sample, s.channels, y + n * sample, s.rows_per_sample, s.channels, factors, relu);
      if (mask != nullptr)
        write_mask(y + n * sample, sample, reinterpret_cast<std::uint32_t*>(mask) + n * mask_words(sample));
    }
  });
}

// Workspace: the partial sums, then one scale and one shift per channel.
void forward(const OpShape& shape, const KernelArguments& a) {
  const NormSizes s = NormSizes::of(shape.inputs[0]);
  float *mean = floats(a.outputs[1]), *variance = floats(a.outputs[2]);
  compute_statistics(s, s.channels, floats(a.inputs[0]), a.workspace, shape.device.threads, mean, variance);
  const ScaleShift factors =
      scale_shift(a.workspace + statistics_bytes(s, s.channels).value, s.channels, floats(a.inputs[1]),
                  floats(a.inputs[2]), {mean, variance, s.channels}, real_attribute(shape.attributes, "epsilon"));
  normalize(shape, a, s, factors, flag(shape.attributes, "mask") ? a.outputs[3] : nullptr);
}

void statistics(const OpShape& shape, const KernelArguments& a) {
  const NormSizes s = NormSizes::of(shape.inputs[0]);
  compute_statistics(s, s.channels, floats(a.inputs[0]), a.workspace, shape.device.threads, floats(a.outputs[0]),
                     floats(a.outputs[1]));
}

void inference(const OpShape& shape, const KernelArguments& a) {
  const NormSizes s = NormSizes::of(shape.inputs[0]);
  const ScaleShift factors =
      scale_shift(a.workspace, s.channels, floats(a.inputs[1]), floats(a.inputs[2]),
                  {floats(a.inputs[3]), floats(a.inputs[4]), s.channels}, real_attribute(shape.attributes, "epsilon"));
  normalize(shape, a, s, factors, nullptr);
}

// As PyTorch: running = (1 - momentum) running + momentum batch, the variance unbiased.
void running_statistics(const OpShape& shape, const KernelArguments& a) {
  const auto momentum = static_cast<float>(real_attribute(shape.attributes, "momentum"));
  const auto count = static_cast<double>(a.samples.size() * int_attribute(shape.attributes, "elements_per_sample"));
  const auto unbiased = static_cast<float>(count > 1 ? count / (count - 1) : 1.0);
  for (std::int64_t c = 0; c < shape.inputs[0].shape[0]; ++c) {
    floats(a.outputs[0])[c] = (1 - momentum) * floats(a.inputs[2])[c] + momentum * floats(a.inputs[0])[c];
    floats(a.outputs[1])[c] = (1 - momentum) * floats(a.inputs[3])[c] + momentum * (unbiased * floats(a.inputs[1])[c]);
  }
}

std::vector<OutputSpec> moments_of(const TensorType& x) {
  const TensorType channel{DType::f32, {x.shape[3]}, false};
  return {{"mean", channel}, {"variance", channel}};
}

std::vector<OutputSpec> infer_forward(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("batch_norm", in, 3);
  expect_activation("batch_norm", in[0]);
  expect_channel_vectors("batch_norm", in, 1, 3);
  real_attribute(attributes, "epsilon");
  std::vector<OutputSpec> specs = moments_of(in[0]);
  specs.insert(specs.begin(), {"", in[0]});
  if (flag(attributes, "mask")) specs.push_back({"mask", {DType::bit, in[0].shape, true}});
  return specs;
}

std::vector<OutputSpec> infer_statistics(const std::vector<TensorType>& in, const Attributes&) {
  expect_inputs("batch_statistics", in, 1);
  expect_activation("batch_statistics", in[0]);
  return moments_of(in[0]);
}

std::vector<OutputSpec> infer_inference(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("batch_norm_inference", in, 5);
  expect_activation("batch_norm_inference", in[0]);
  expect_channel_vectors("batch_norm_inference", in, 1, 5);
  real_attribute(attributes, "epsilon");
  return outputs_like(in[0]);
}

std::vector<OutputSpec> infer_running(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("running_statistics", in, 4);
  expect_rank("running_statistics", in[0], 1);
  for (const TensorType& type : in) expect_vector("running_statistics", type, in[0].shape[0]);
  real_attribute(attributes, "momentum");
  int_attribute(attributes, "elements_per_sample");
  return {{"mean", in[2], Role::statistic, 2}, {"variance", in[3], Role::statistic, 3}};
}

void gradient(GradientContext& g) {
  const bool relu = flag(g.op().attributes, "relu");
  std::vector<TensorId> inputs{g.output_gradient(0), g.input(0), g.input(1), g.output(1), g.output(2)};
  Attributes attributes{{"relu", std::int64_t{relu}}, {"epsilon", g.op().attributes.at("epsilon")}};
  if (relu) {
    const bool use_mask = !g.is_kept(g.output(0));
    if (use_mask) g.change_forward("mask", std::int64_t{1});
    attributes["use_mask"] = std::int64_t{use_mask};
    inputs.push_back(g.output(use_mask ? 3 : 0));
  }
  const auto made = g.emit("batch_norm_backward", "d_input", inputs, attributes);
  for (int i = 0; i < 3; ++i) g.set_input_gradient(i, made[static_cast<std::size_t>(i)]);
}

Bytes factors_bytes(const OpShape& s) { return scale_shift_bytes(s.inputs[0].shape[3]); }
Bytes sums_bytes(const OpShape& s) { return statistics_bytes(NormSizes::of(s.inputs[0]), s.inputs[0].shape[3]); }

}  // namespace

void register_batch_norm(OpRegistry& registry) {
  OpDefinition train;
  train.kind = "batch_norm";
  train.infer = infer_forward;
  train.gradient = gradient;
  train.workspace = [](const OpShape& s) { return sums_bytes(s) + factors_bytes(s); };
  train.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  train.in_place = {{0, 0}};
  registry.add(train);

  OpDefinition moments;
  moments.kind = "batch_statistics";
  moments.infer = infer_statistics;
  moments.workspace = sums_bytes;
  moments.make_kernel = [](const OpShape& s) { return function_kernel(s, statistics); };
  registry.add(moments);

  OpDefinition infer;
  infer.kind = "batch_norm_inference";
  infer.infer = infer_inference;
  infer.workspace = factors_bytes;
  infer.make_kernel = [](const OpShape& s) { return function_kernel(s, inference); };
  infer.in_place = {{0, 0}};
  registry.add(infer);

  OpDefinition running;
  running.kind = "running_statistics";
  running.infer = infer_running;
  running.make_kernel = [](const OpShape& s) { return function_kernel(s, running_statistics); };
  running.once = true;
  registry.add(running);
}

}  // namespace thimble
