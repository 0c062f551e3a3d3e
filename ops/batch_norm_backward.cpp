// The gradient of batch normalisation and of the ReLU behind it. The ReLU's gate is its output where that is kept
// anyway, a mask of one bit per element, or the input: then neither of the two has to exist.
#include "norm_gradient.h"
#include "registration.h"

namespace thimble {
namespace {

ReluGate gate_of(const Attributes& attributes) {
  if (!flag(attributes, "relu")) return ReluGate::none;
  if (flag(attributes, "gate_input")) return ReluGate::input;
  return flag(attributes, "use_mask") ? ReluGate::mask : ReluGate::output;
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const NormSizes sizes = NormSizes::of(shape.inputs[0]);
  NormGradient gradient{.sizes = sizes,
                        .stride = sizes.channels,
                        .epsilon = real_attribute(shape.attributes, "epsilon"),
                        .dy = floats(a.inputs[0]),
                        .x = floats(a.inputs[1]),
                        .gamma = floats(a.inputs[2]),
                        .moments = {floats(a.inputs[3]), floats(a.inputs[4]), sizes.channels},
                        .gate = gate_of(shape.attributes),
                        .dx = floats(a.outputs[0]),
                        .dgamma = floats(a.outputs[1]),
                        .dbeta = floats(a.outputs[2])};
  if (gradient.gate == ReluGate::input)
    gradient.beta = floats(a.inputs[5]);
  else if (gradient.gate != ReluGate::none)
    gradient.gate_data = a.inputs[5];
  run_norm_gradient(gradient, a.workspace, shape.device.threads);
}

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  const std::string kind = "batch_norm_backward";
  const ReluGate gate = gate_of(attributes);
  expect_inputs(kind, in, gate == ReluGate::none ? 5 : 6);
  expect_activation(kind, in[0]);
  expect_same(kind, in[0], in[1]);
  expect_channel_vectors(kind, in, 2, gate == ReluGate::input ? 6 : 5);
  real_attribute(attributes, "epsilon");
  if (gate == ReluGate::output) expect_same(kind, in[5], in[0]);
  if (gate == ReluGate::mask) expect_same(kind, in[5], {DType::bit, in[0].shape, true});
  return {{"", in[0]}, {"gamma", in[2], Role::gradient}, {"beta", in[2], Role::gradient}};
}

}  // namespace

void register_batch_norm_backward(OpRegistry& registry) {
  OpDefinition back;
  back.kind = "batch_norm_backward";
  back.infer = infer;
  back.workspace = [](const OpShape& shape) {
    const NormSizes sizes = NormSizes::of(shape.inputs[0]);
    return norm_gradient_workspace(sizes, sizes.channels, gate_of(shape.attributes));
  };
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.in_place = {{0, 0}};
  registry.add(back);
}

}  // namespace thimble
