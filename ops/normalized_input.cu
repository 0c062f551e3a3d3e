#include "normalized_input_cuda.h"

namespace thimble {
namespace {

// One thread a channel of a sample, or of the batch.
__global__ void prologue_kernel(const float* mean, const float* variance, const float* gamma, const float* beta,
                                double epsilon, int channels, int width, std::int64_t count, float* scales,
                                float* shifts) {
  const std::int64_t i = global_thread();
  if (i >= count) return;
  const int c = static_cast<int>(i % channels);
  const std::int64_t group = i / width;  // groups of a sample are all of its channels
  const ChannelFactors factors = channel_factors(mean[group], variance[group], gamma[c], beta[c], epsilon);
  scales[i] = factors.scale;
  shifts[i] = factors.shift;
}

constexpr std::int64_t kGroups = 8;  // as many as the slices of channels that the data gradient has

}  // namespace

NormalizedInputCuda NormalizedInputCuda::of(const OpShape& shape, const KernelArguments& a) {
  const TensorType& x = shape.inputs[kNormX];
  const std::int64_t groups = groups_per_sample(shape.inputs[kNormMean]);
  return {.rows = NormRows::of(x, groups != 0),
          .groups = groups != 0 ? groups : x.shape[3],
          .epsilon = real_attribute(shape.attributes, "epsilon"),
          .x = floats(a.inputs[kNormX]),
          .mean = floats(a.inputs[kNormMean]),
          .variance = floats(a.inputs[kNormVariance]),
          .gamma = floats(a.inputs[kNormGamma]),
          .beta = floats(a.inputs[kNormBeta])};
}

Bytes prologue_workspace(const OpShape& shape) {
  const TensorType& x = shape.inputs[kNormX];
  const bool is_per_sample = groups_per_sample(shape.inputs[kNormMean]) != 0;
  return align_up(Bytes{8 * x.shape[3] * (is_per_sample ? x.shape[0] : 1)}, kAlignment);
}

ConvolutionPrologue launch_prologue(const NormalizedInputCuda& input, std::byte* workspace, cudaStream_t stream) {
  const std::int64_t channels = input.rows.channels, count = channels * input.rows.segments();
  float *scales = floats(workspace), *shifts = scales + count;
  simt::launch(prologue_kernel, blocks_for(count), kBlock, 0, stream, input.mean, input.variance, input.gamma,
               input.beta, input.epsilon, static_cast<int>(channels), static_cast<int>(channels / input.groups), count,
               scales, shifts);
  return {scales, shifts, input.rows.is_per_sample ? channels : 0};
}

void launch_normalized_samples(const NormalizedInputCuda& input, HalfOpen samples, float* to, cudaStream_t stream) {
  NormForward norm{.rows = input.rows,
                   .groups = input.groups,
                   .epsilon = input.epsilon,
                   .x = input.x + samples.begin * input.rows.rows_per_sample * input.rows.channels,
                   .gamma = input.gamma,
                   .beta = input.beta,
                   .y = to,
                   .relu = true};
  norm.rows.samples = samples.size();
  const std::int64_t moments = input.rows.is_per_sample ? samples.begin * input.groups : 0;
  launch_norm_inference(norm, input.mean + moments, input.variance + moments, stream);
}

std::int64_t samples_at_once(const OpShape& shape, std::int64_t samples) {
  const std::int64_t least = (samples + kGroups - 1) / kGroups;
  const std::int64_t asked = shape.attributes.count("group") != 0 ? int_attribute(shape.attributes, "group") : 0;
  return std::min(samples, std::max(least, asked));
}

std::vector<Attributes> larger_groups(const OpShape& shape, std::int64_t samples) {
  std::vector<Attributes> larger;
  for (std::int64_t group = samples_at_once(shape, samples); group < samples;) {
    group = std::min(2 * group, samples);
    larger.push_back(shape.attributes);
    larger.back()["group"] = group;
  }
  return larger;
}

}  // namespace thimble
