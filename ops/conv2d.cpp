// conv2d and its two backward passes.
#include "convolution_engine.h"
#include "registration.h"

namespace thimble {
namespace {

std::int64_t extent_after(std::int64_t extent, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  const std::int64_t room = extent + 2 * padding - kernel;
  return room < 0 ? 0 : room / stride + 1;
}

// x, w and y name the tensors' types wherever they stand in the op at hand.
ConvolutionSizes sizes_of(const TensorType& x, std::int64_t kernel_height, std::int64_t kernel_width,
                          const TensorType& y, const Attributes& attributes) {
  return {.samples = x.shape[0],
          .height = x.shape[1],
          .width = x.shape[2],
          .inputs = x.shape[3],
          .out_height = y.shape[1],
          .out_width = y.shape[2],
          .outputs = y.shape[3],
          .kernel_height = kernel_height,
          .kernel_width = kernel_width,
          .stride = int_attribute(attributes, "stride"),
          .padding = int_attribute(attributes, "padding")};
}

ConvolutionSizes sizes_of(ConvolutionPass pass, const OpShape& shape) {
  if (pass == ConvolutionPass::forward)
    return sizes_of(shape.inputs[0], shape.inputs[1].shape[2], shape.inputs[1].shape[3], shape.outputs[0],
                    shape.attributes);
  if (pass == ConvolutionPass::backward_data)
    return sizes_of(shape.outputs[0], shape.inputs[1].shape[2], shape.inputs[1].shape[3], shape.inputs[0],
                    shape.attributes);
  return sizes_of(shape.inputs[0], shape.outputs[0].shape[2], shape.outputs[0].shape[3], shape.inputs[1],
                  shape.attributes);
}

class ConvolutionKernel final : public Kernel {
 public:
  ConvolutionKernel(ConvolutionPass pass, const OpShape& shape)
      : engine_(pass, sizes_of(pass, shape)), threads_(shape.device.threads) {}
  void run(const KernelArguments& a) override {
    engine_.run(a.inputs[0], a.inputs[1], a.outputs[0], a.workspace, threads_);
  }

 private:
  ConvolutionEngine engine_;
  int threads_;
};

void check_window(const Attributes& attributes) {
  const std::int64_t stride = int_attribute(attributes, "stride"), padding = int_attribute(attributes, "padding");
  if (stride < 1 || padding < 0 || stride > 1 << 16 || padding > 1 << 16)
    throw InvalidArgument("conv2d: stride " + std::to_string(stride) + " and padding " + std::to_string(padding) +
                          "; stride is at least 1, padding at least 0, both at most 65536");
}

std::vector<OutputSpec> infer_forward(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("conv2d", in, 2);
  expect_activation("conv2d", in[0]);
  expect_rank("conv2d", in[1], 4);
  check_window(attributes);
  const std::int64_t stride = int_attribute(attributes, "stride"), padding = int_attribute(attributes, "padding");
  const std::int64_t height = extent_after(in[0].shape[1], in[1].shape[2], stride, padding);
  const std::int64_t width = extent_after(in[0].shape[2], in[1].shape[3], stride, padding);
  if (in[0].shape[3] != in[1].shape[1])
    throw InvalidArgument("conv2d: the input has " + std::to_string(in[0].shape[3]) + " channels, the weights " +
                          std::to_string(in[1].shape[1]));
  if (height < 1 || width < 1) throw InvalidArgument("conv2d: the window is larger than the padded input");
  return outputs_like({DType::f32, {in[0].shape[0], height, width, in[1].shape[0]}, true});
}

std::vector<OutputSpec> infer_data(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("conv2d_backward_data", in, 2);
  expect_activation("conv2d_backward_data", in[0]);
  expect_rank("conv2d_backward_data", in[1], 4);
  const TensorType x{DType::f32,
                     {in[0].shape[0], int_attribute(attributes, "height"), int_attribute(attributes, "width"),
                      in[1].shape[1]},
                     true};
  if (x.shape[1] < 1 || x.shape[2] < 1 || infer_forward({x, in[1]}, attributes)[0].type != in[0])
    throw InvalidArgument("conv2d_backward_data: the gradient does not fit the input it is asked for");
  return outputs_like(x);
}

std::vector<OutputSpec> infer_weights(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("conv2d_backward_weights", in, 2);
  expect_activation("conv2d_backward_weights", in[0]);
  expect_activation("conv2d_backward_weights", in[1]);
  const TensorType w{DType::f32,
                     {in[1].shape[3], in[0].shape[3], int_attribute(attributes, "kernel_height"),
                      int_attribute(attributes, "kernel_width")},
                     false};
  if (w.shape[2] < 1 || w.shape[3] < 1 || infer_forward({in[0], w}, attributes)[0].type != in[1])
    throw InvalidArgument("conv2d_backward_weights: the gradient does not fit the input");
  return {{"", w, Role::gradient}};
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

OpCost cost(ConvolutionPass pass, const OpShape& shape) {
  const ConvolutionSizes s = sizes_of(pass, shape);
  OpCost total = bytes_moved(shape);
  total.flops = 2.0 * static_cast<double>(s.samples * s.out_height * s.out_width * s.outputs) *
                static_cast<double>(s.inputs * s.kernel_height * s.kernel_width);
  return total;
}

OpDefinition definition(const char* kind, ConvolutionPass pass) {
  OpDefinition d;
  d.kind = kind;
  d.cost = [pass](const OpShape& shape) { return cost(pass, shape); };
  d.workspace = [pass](const OpShape& shape) { return ConvolutionEngine(pass, sizes_of(pass, shape)).workspace(); };
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
  registry.add(weights);
}

}  // namespace thimble
