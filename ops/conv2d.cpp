// conv2d and its two backward passes.
#include "accumulation.h"
#include "convolution_types.h"
#include "registration.h"
#include "remembered.h"

namespace thimble {
namespace {

ConvolutionSizes sizes_of(ConvolutionPass pass, const OpShape& shape) {
  if (pass == ConvolutionPass::forward)
    return convolution_sizes(shape.inputs[0], shape.inputs[1], shape.outputs[0], shape.attributes);
  if (pass == ConvolutionPass::backward_data)
    return convolution_sizes(shape.outputs[0], shape.inputs[1], shape.inputs[0], shape.attributes);
  return convolution_sizes(shape.inputs[0], shape.outputs[0], shape.inputs[1], shape.attributes);
}

class ConvolutionKernel final : public Kernel {
 public:
  ConvolutionKernel(ConvolutionPass pass, const OpShape& shape)
      : pass_(pass), shape_(shape), engine_(pass, sizes_of(pass, shape)) {}
  void run(const KernelArguments& a) override {
    engine_.set_adding(pass_ == ConvolutionPass::backward_weights && adds_to_output(shape_, a));
    engine_.run(a.inputs[0], a.inputs[1], a.outputs[0], a.workspace, shape_.device.threads);
  }

 private:
  ConvolutionPass pass_;
  OpShape shape_;
  ConvolutionEngine engine_;
};

std::vector<OutputSpec> infer_forward(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("conv2d", in, 2);
  return outputs_like(convolution_output("conv2d", in[0], in[1], attributes));
}

std::vector<OutputSpec> infer_data(const std::vector<TensorType>& in, const Attributes& attributes) {
  const std::string kind = "conv2d_backward_data";
  expect_inputs(kind, in, 2);
  expect_activation(kind, in[0]);
  expect_rank(kind, in[1], 4);
  const TensorType x{
      DType::f32,
      {in[0].shape[0], int_attribute(attributes, "height"), int_attribute(attributes, "width"), in[1].shape[1]},
      true};
  if (x.shape[1] < 1 || x.shape[2] < 1 || convolution_output(kind, x, in[1], attributes) != in[0])
    throw InvalidArgument(kind + ": the gradient does not fit the input it is asked for");
  return outputs_like(x);
}

std::vector<OutputSpec> infer_weights(const std::vector<TensorType>& in, const Attributes& attributes) {
  const std::string kind = "conv2d_backward_weights";
  if (in.size() < 2) expect_inputs(kind, in, 2);
  return weights_gradient_output(kind, in, 2, convolution_weights(kind, in[0], in[1], attributes), attributes);
}

// The weights' gradient first: after it the input may die, before the data gradient is made.
void gradient(GradientContext& g) {
  const TensorId dy = g.output_gradient(0);
  const std::vector<std::int64_t> x = g.type(g.input(0)).shape, w = g.type(g.input(1)).shape;
  Attributes attributes{{"stride", g.op().attributes.at("stride")}, {"padding", g.op().attributes.at("padding")}};
  if (g.wants_input_gradient(1)) {
    Attributes with_kernel = attributes;
    with_kernel["kernel_height"] = w[2];
    with_kernel["kernel_width"] = w[3];
    g.set_input_gradient(1, g.emit("conv2d_backward_weights", "d_weight", {g.input(0), dy}, with_kernel).front());
  }
  if (!g.wants_input_gradient(0)) return;
  attributes["height"] = x[1];
  attributes["width"] = x[2];
  g.set_input_gradient(0, g.emit("conv2d_backward_data", "d_input", {dy, g.input(1)}, attributes).front());
}

OpDefinition definition(const char* kind, ConvolutionPass pass) {
  OpDefinition d;
  d.kind = kind;
  d.cost = [pass](const OpShape& shape) { return convolution_cost(sizes_of(pass, shape), shape); };
  d.workspace = remembered([pass](const OpShape& shape) {
    return ConvolutionEngine(pass, sizes_of(pass, shape)).workspace(shape.device.threads);
  });
  d.make_kernel = [pass](const OpShape& shape) { return std::make_unique<ConvolutionKernel>(pass, shape); };
  return d;
}

}  // namespace

void register_conv2d(OpRegistry& registry) {
  OpDefinition forward = definition("conv2d", ConvolutionPass::forward);
  forward.infer = infer_forward;
  forward.gradient = gradient;
  registry.add(forward);
  OpDefinition data = definition("conv2d_backward_data", ConvolutionPass::backward_data);
  data.infer = infer_data;
  registry.add(data);
  OpDefinition weights = definition("conv2d_backward_weights", ConvolutionPass::backward_weights);
  weights.infer = infer_weights;
  weights.may_accumulate = true;
  registry.add(weights);
}

}  // namespace thimble
