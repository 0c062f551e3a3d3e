// The gradient of group normalisation on CUDA; the arithmetic in norm_gradient.cu, every sample a segment.
#include "normalization_cuda.h"

namespace thimble {
namespace {

void backward(const OpShape& shape, const KernelArguments& a) {
  const bool is_gated = flag(shape.attributes, "relu");
  launch_norm_gradient({.rows = NormRows::of(shape.inputs[0], true),
                        .groups = groups_per_sample(shape.inputs[3]),
                        .epsilon = real_attribute(shape.attributes, "epsilon"),
                        .dy = floats(a.inputs[0]),
                        .x = floats(a.inputs[1]),
                        .gamma = floats(a.inputs[2]),
                        .mean = floats(a.inputs[3]),
                        .variance = floats(a.inputs[4]),
                        .gate = is_gated ? ReluGate::input : ReluGate::none,
                        .beta = is_gated ? floats(a.inputs[5]) : nullptr,
                        .dx = floats(a.outputs[0]),
                        .dgamma = floats(a.outputs[1]),
                        .dbeta = floats(a.outputs[2])},
                       a.workspace, stream_of(a));
}

}  // namespace

void register_group_norm_backward_cuda(OpRegistry& registry) {
  registry.add_kernels(
      "group_norm_backward", kCudaBackend,
      {.workspace = [](const OpShape& s) { return norm_gradient_workspace_cuda(NormRows::of(s.inputs[0], true)); },
       .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); },
       .cost =
           [](const OpShape& s) {
             return normalization_cost(s, 3, {0, 1});
           }});
}

}  // namespace thimble
