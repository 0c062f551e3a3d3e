// norm_pool and its gradient on CUDA; the arithmetic in global_average_pool.cu and norm_gradient.cu.
#include "mean_pool_cuda.h"

namespace thimble {
namespace {

enum Input : std::size_t { kX, kMean, kVariance, kGamma, kBeta, kDy };  // the last of norm_pool_backward

void forward(const OpShape& shape, const KernelArguments& a) {
  const NormRows rows = NormRows::of(shape.inputs[kX], true);
  const std::int64_t groups = groups_per_sample(shape.inputs[kMean]);
  PoolNorm norm{};
  norm.mean = floats(a.inputs[kMean]);
  norm.variance = floats(a.inputs[kVariance]);
  norm.gamma = floats(a.inputs[kGamma]);
  norm.beta = floats(a.inputs[kBeta]);
  norm.epsilon = real_attribute(shape.attributes, "epsilon");
  norm.width = groups == 0 ? 1 : static_cast<int>(rows.channels / groups);
  norm.groups = groups;
  launch_mean_pool(rows, norm, floats(a.inputs[kX]), floats(a.outputs[0]), stream_of(a));
}

NormRows gradient_rows(const OpShape& shape) {
  return NormRows::of(shape.inputs[kX], groups_per_sample(shape.inputs[kMean]) != 0);
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const NormRows rows = gradient_rows(shape);
  launch_norm_gradient({.rows = rows,
                        .groups = rows.is_per_sample ? groups_per_sample(shape.inputs[kMean]) : rows.channels,
                        .epsilon = real_attribute(shape.attributes, "epsilon"),
                        .dy = floats(a.inputs[kDy]),
                        .dy_is_of_mean = true,
                        .x = floats(a.inputs[kX]),
                        .gamma = floats(a.inputs[kGamma]),
                        .mean = floats(a.inputs[kMean]),
                        .variance = floats(a.inputs[kVariance]),
                        .gate = ReluGate::input,
                        .beta = floats(a.inputs[kBeta]),
                        .dx = floats(a.outputs[0]),
                        .dgamma = floats(a.outputs[1]),
                        .dbeta = floats(a.outputs[2])},
                       a.workspace, stream_of(a));
}

}  // namespace

void register_norm_pool_cuda(OpRegistry& registry) {
  registry.add_kernels("norm_pool", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels("norm_pool_backward", kCudaBackend,
                       {.workspace = [](const OpShape& s) { return norm_gradient_workspace_cuda(gradient_rows(s)); },
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
