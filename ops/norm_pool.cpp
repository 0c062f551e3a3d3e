// norm_pool = global_average_pool of the rectified, normalised x, and its gradient: neither the normalised values nor
// the gradient of each exist, which is the same for all that one mean is of.
#include <algorithm>

#include "group_norm_gradient.h"
#include "normalized_input.h"
#include "registration.h"

namespace thimble {
namespace {

constexpr const char* kBackward = "norm_pool_backward";
constexpr std::int64_t kTile = 1024;  // channels normalised at a time, in the first cache

// x as a reader of normalised values has it, dy where those read their last input.
constexpr std::size_t kDy = kNormInputs;

void pool_sample(const NormSizes& sizes, const float* x, const ScaleShift& factors, float* mean) {
  alignas(64) float row[kTile];
  std::fill_n(mean, sizes.channels, 0.0f);
  for (std::int64_t r = 0; r < sizes.rows_per_sample; ++r)
    for (std::int64_t c = 0; c < sizes.channels; c += kTile) {
      const std::int64_t columns = std::min(kTile, sizes.channels - c);
      normalize_rows(x + r * sizes.channels + c, sizes.channels, row, 1, columns,
                     {factors.scale + c, factors.shift + c}, true);
      for (std::int64_t i = 0; i < columns; ++i) mean[c + i] += row[i];
    }
  for (std::int64_t c = 0; c < sizes.channels; ++c) mean[c] /= static_cast<float>(sizes.rows_per_sample);
}

// Workspace: the factors that all samples share, or each chunk's for the sample at hand.
Bytes forward_workspace(const OpShape& shape) {
  const NormSizes sizes = NormSizes::of(shape.inputs[kNormX]);
  const bool is_per_sample = groups_per_sample(shape.inputs[kNormMean]) != 0;
  return scale_shift_bytes(sizes.channels) * (is_per_sample ? sizes.chunks.count : 1);
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const NormSizes sizes = NormSizes::of(shape.inputs[kNormX]);
  const NormalizedInputFactors factors = normalized_input_factors(shape, a, a.workspace);
  parallel_chunks(shape.device.threads, sizes.chunks.count, [&](std::int64_t k) {
    std::byte* own = a.workspace + (factors.is_per_sample ? k * scale_shift_bytes(sizes.channels).value : 0);
    for (std::int64_t n = sizes.chunks.begin(k); n < sizes.chunks.end(k); ++n)
      pool_sample(sizes, floats(a.inputs[kNormX]) + n * sizes.elements_per_sample(), factors.of_sample(n, own),
                  floats(a.outputs[0]) + n * sizes.channels);
  });
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const NormSizes sizes = NormSizes::of(shape.inputs[kNormX]);
  const std::int64_t groups = groups_per_sample(shape.inputs[kNormMean]);
  const NormGradient all{
      .sizes = sizes,
      .stride = sizes.channels,
      .epsilon = real_attribute(shape.attributes, "epsilon"),
      .dy = floats(a.inputs[kDy]),
      .dy_is_of_mean = true,
      .x = floats(a.inputs[kNormX]),
      .gamma = floats(a.inputs[kNormGamma]),
      .moments = {floats(a.inputs[kNormMean]), floats(a.inputs[kNormVariance]), groups != 0 ? groups : sizes.channels},
      .gate = ReluGate::input,
      .beta = floats(a.inputs[kNormBeta]),
      .dx = floats(a.outputs[0]),
      .dgamma = floats(a.outputs[1]),
      .dbeta = floats(a.outputs[2])};
  if (groups == 0) return run_norm_gradient(all, a.workspace, shape.device.threads);
  GroupNormGradient(all, a.workspace).run_all(all.dy, sizes.channels, shape.device.threads);
}

Bytes backward_workspace(const OpShape& shape) {
  const NormSizes sizes = NormSizes::of(shape.inputs[kNormX]);
  const std::int64_t groups = groups_per_sample(shape.inputs[kNormMean]);
  return groups == 0 ? norm_gradient_workspace(sizes, sizes.channels, ReluGate::input)
                     : GroupNormGradient::workspace(sizes, groups, ReluGate::input);
}

TensorType pooled(const TensorType& x) { return {DType::f32, {x.shape[0], x.shape[3]}, true}; }

std::vector<OutputSpec> infer_forward(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("norm_pool", in, kNormInputs);
  expect_normalized_input("norm_pool", in, attributes);
  return outputs_like(pooled(in[kNormX]));
}

std::vector<OutputSpec> infer_backward(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs(kBackward, in, kDy + 1);
  expect_normalized_input(kBackward, in, attributes);
  expect_same(kBackward, in[kDy], pooled(in[kNormX]));
  return {{"", in[kNormX]}, {"gamma", in[kNormGamma], Role::gradient}, {"beta", in[kNormGamma], Role::gradient}};
}

}  // namespace

void register_norm_pool(OpRegistry& registry) {
  OpDefinition pool;
  pool.kind = "norm_pool";
  pool.infer = infer_forward;
  pool.workspace = forward_workspace;
  pool.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  registry.add(pool);

  OpDefinition back;
  back.kind = kBackward;
  back.infer = infer_backward;
  back.workspace = backward_workspace;
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.in_place = {{kNormX, 0}};
  registry.add(back);
}

}  // namespace thimble
