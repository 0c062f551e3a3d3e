// Batch normalisation on CUDA; the arithmetic in normalization.cu.
#include "normalization_cuda.h"

namespace thimble {
namespace {

NormForward norm_of(const OpShape& shape, const KernelArguments& a) {
  const NormRows rows = NormRows::of(shape.inputs[0]);
  return {.rows = rows,
          .groups = rows.channels,
          .epsilon = real_attribute(shape.attributes, "epsilon"),
          .x = floats(a.inputs[0]),
          .gamma = floats(a.inputs[1]),
          .beta = floats(a.inputs[2]),
          .y = floats(a.outputs[0]),
          .relu = flag(shape.attributes, "relu"),
          .mask = flag(shape.attributes, "mask") ? reinterpret_cast<std::uint32_t*>(a.outputs[3]) : nullptr};
}

// Workspace: of the moments.
void forward(const OpShape& shape, const KernelArguments& a) {
  launch_norm(norm_of(shape, a), floats(a.outputs[1]), floats(a.outputs[2]), a.workspace, stream_of(a));
}

void statistics(const OpShape& shape, const KernelArguments& a) {
  const NormRows rows = NormRows::of(shape.inputs[0]);
  launch_moments(rows, rows.channels, floats(a.inputs[0]), floats(a.outputs[0]), floats(a.outputs[1]), a.workspace,
                 stream_of(a));
}

void inference(const OpShape& shape, const KernelArguments& a) {
  launch_norm_inference(norm_of(shape, a), floats(a.inputs[3]), floats(a.inputs[4]), stream_of(a));
}

// One after the other, so that the outputs may be what the running statistics were.
__global__ void running_statistics_kernel(const float* mean, const float* variance, const float* old_mean,
                                          const float* old_variance, float* new_mean, float* new_variance,
                                          float momentum, float unbiased, std::int64_t channels) {
  const std::int64_t c = global_thread();
  if (c >= channels) return;
  new_mean[c] = (1 - momentum) * old_mean[c] + momentum * mean[c];
  new_variance[c] = (1 - momentum) * old_variance[c] + momentum * (unbiased * variance[c]);
}

void running_statistics(const OpShape& shape, const KernelArguments& a) {
  const auto count = static_cast<double>(a.samples.size() * int_attribute(shape.attributes, "elements_per_sample"));
  const std::int64_t channels = shape.inputs[0].shape[0];
  simt::launch(running_statistics_kernel, blocks_for(channels), kBlock, 0, stream_of(a), floats(a.inputs[0]),
               floats(a.inputs[1]), floats(a.inputs[2]), floats(a.inputs[3]), floats(a.outputs[0]),
               floats(a.outputs[1]), static_cast<float>(real_attribute(shape.attributes, "momentum")),
               static_cast<float>(count > 1 ? count / (count - 1) : 1.0), channels);
}

Bytes workspace(const OpShape& shape) {
  const NormRows rows = NormRows::of(shape.inputs[0]);
  return moments_workspace(rows, rows.channels);
}

}  // namespace

void register_batch_norm_cuda(OpRegistry& registry) {
  registry.add_kernels("batch_norm", kCudaBackend,
                       {.workspace = workspace,
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); },
                        .cost = [](const OpShape& s) { return normalization_cost(s, 3, {0}); }});
  registry.add_kernels("batch_statistics", kCudaBackend,
                       {.workspace = workspace,
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, statistics); },
                        .cost = [](const OpShape& s) { return normalization_cost(s, 2, {}); }});
  registry.add_kernels("batch_norm_inference", kCudaBackend, {.workspace = {}, .make_kernel = [](const OpShape& s) {
                                                                return function_kernel(s, inference);
                                                              }});
  registry.add_kernels("running_statistics", kCudaBackend, {.workspace = {}, .make_kernel = [](const OpShape& s) {
                                                              return function_kernel(s, running_statistics);
                                                            }});
}

}  // namespace thimble
