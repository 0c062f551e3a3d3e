// norm_conv2d_backward_data on CUDA where every sample has statistics of its own: some samples at a time, which the
// workspace takes the gradient of the normalised values of. Their sums are kept for the gradients of gamma and beta.
#include "norm_conv2d_backward_data_cuda.h"
#include "normalized_input_cuda.h"

namespace thimble::norm_conv_data {
namespace {

std::int64_t samples_of(const OpShape& shape) { return shape.inputs[kX].shape[0]; }

std::int64_t samples_at_a_time(const OpShape& shape) { return samples_at_once(shape, samples_of(shape)); }

Bytes sums_bytes(const OpShape& shape) { return norm_gradient_workspace_cuda(rows_of(shape, all_of(shape))); }

}  // namespace

// The sums of all samples, then the gradient of the normalised values of some.
Bytes group_norm_workspace_cuda(const OpShape& shape) {
  return sums_bytes(shape) + Bytes{4 * elements_per_sample(shape.inputs[kX]) * samples_at_a_time(shape)};
}

void run_group_norm_cuda(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t samples = samples_of(shape), group = samples_at_a_time(shape);
  const NormRows all = rows_of(shape, all_of(shape));
  const NormParts parts = NormParts::of(all);
  auto* sums = reinterpret_cast<float2*>(a.workspace);
  float* dy = floats(a.workspace + sums_bytes(shape).value);
  for (std::int64_t n = 0; n < samples; n += group) {
    const SampleChannels part{{n, std::min(samples, n + group)}, all_of(shape).channels};
    launch_data_gradient(shape, a, part, dy);
    NormGradientCuda gradient = norm_gradient(shape, a, part, dy);
    gradient.dgamma = gradient.dbeta = nullptr;
    float2* own = sums + n * all.channels * parts.parts;
    launch_norm_gradient_sums(gradient, parts, own, stream_of(a));
    launch_norm_gradient_apply(gradient, parts, own, stream_of(a));
  }
  launch_norm_gradient_finish(all, parts, sums, floats(a.outputs[1]), floats(a.outputs[2]), stream_of(a));
}

std::int64_t group_norm_launches(const OpShape& shape) {
  const std::int64_t group = samples_at_a_time(shape), groups = (samples_of(shape) + group - 1) / group;
  return groups * (launches_of_data_gradient(shape) + 2) + 1;
}

}  // namespace thimble::norm_conv_data
