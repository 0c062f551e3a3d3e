// The gradient of group normalisation and of the ReLU behind it, whose gate is computed from the input.
#include "group_norm_gradient.h"
#include "registration.h"

namespace thimble {
namespace {

ReluGate gate_of(const Attributes& attributes) { return flag(attributes, "relu") ? ReluGate::input : ReluGate::none; }

void backward(const OpShape& shape, const KernelArguments& a) {
  const NormSizes sizes = NormSizes::of(shape.inputs[0]);
  const ReluGate gate = gate_of(shape.attributes);
  const GroupNormGradient gradient(
      {.sizes = sizes,
       .stride = sizes.channels,
       .epsilon = real_attribute(shape.attributes, "epsilon"),
       .dy = nullptr,
       .x = floats(a.inputs[1]),
       .gamma = floats(a.inputs[2]),
       .moments = {floats(a.inputs[3]), floats(a.inputs[4]), groups_per_sample(shape.inputs[3])},
       .gate = gate,
       .beta = gate == ReluGate::input ? floats(a.inputs[5]) : nullptr,
       .dx = floats(a.outputs[0]),
       .dgamma = floats(a.outputs[1]),
       .dbeta = floats(a.outputs[2])},
      a.workspace);
  gradient.run_all(floats(a.inputs[0]), sizes.elements_per_sample(), shape.device.threads);
}

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  const std::string kind = "group_norm_backward";
  const bool gates = gate_of(attributes) == ReluGate::input;
  expect_inputs(kind, in, gates ? 6 : 5);
  expect_activation(kind, in[0]);
  expect_same(kind, in[0], in[1]);
  expect_channel_vectors(kind, in, 2, 3);
  if (!in[3].batched) throw InvalidArgument(kind + ": its statistics are not every sample's own");
  expect_moments(kind, in, 3, in[0]);
  if (gates) expect_channel_vectors(kind, in, 5, 6);
  real_attribute(attributes, "epsilon");
  return {{"", in[0]}, {"gamma", in[2], Role::gradient}, {"beta", in[2], Role::gradient}};
}

}  // namespace

void register_group_norm_backward(OpRegistry& registry) {
  OpDefinition back;
  back.kind = "group_norm_backward";
  back.infer = infer;
  back.workspace = [](const OpShape& shape) {
    return GroupNormGradient::workspace(NormSizes::of(shape.inputs[0]), groups_per_sample(shape.inputs[3]),
                                        gate_of(shape.attributes));
  };
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.in_place = {{0, 0}};
  registry.add(back);
}

}  // namespace thimble
