// The gradient of batch normalisation on CUDA; the arithmetic in norm_gradient.cu.
#include "normalization_cuda.h"

namespace thimble {
namespace {

ReluGate gate_of(const Attributes& attributes) {
  if (!flag(attributes, "relu")) return ReluGate::none;
  if (flag(attributes, "gate_input")) return ReluGate::input;
  return flag(attributes, "use_mask") ? ReluGate::mask : ReluGate::output;
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const NormRows rows = NormRows::of(shape.inputs[0]);
  NormGradientCuda gradient{.rows = rows,
                            .groups = rows.channels,
                            .epsilon = real_attribute(shape.attributes, "epsilon"),
                            .dy = floats(a.inputs[0]),
                            .x = floats(a.inputs[1]),
                            .gamma = floats(a.inputs[2]),
                            .mean = floats(a.inputs[3]),
                            .variance = floats(a.inputs[4]),
                            .gate = gate_of(shape.attributes),
                            .dx = floats(a.outputs[0]),
                            .dgamma = floats(a.outputs[1]),
                            .dbeta = floats(a.outputs[2])};
  if (gradient.gate == ReluGate::input)
    gradient.beta = floats(a.inputs[5]);
  else if (gradient.gate != ReluGate::none)
    gradient.gate_data = a.inputs[5];
  launch_norm_gradient(gradient, a.workspace, stream_of(a));
}

}  // namespace

void register_batch_norm_backward_cuda(OpRegistry& registry) {
  registry.add_kernels(
      "batch_norm_backward", kCudaBackend,
      {.workspace = [](const OpShape& s) { return norm_gradient_workspace_cuda(NormRows::of(s.inputs[0])); },
       .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); },
       .cost =
           [](const OpShape& s) {
             return normalization_cost(s, 3, {0, 1});
           }});
}

}  // namespace thimble
