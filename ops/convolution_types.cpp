#include "convolution_types.h"

#include "registration.h"

namespace thimble {
namespace {

std::int64_t extent_after(std::int64_t extent, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  const std::int64_t room = extent + 2 * padding - kernel;
  return room < 0 ? 0 : room / stride + 1;
}

void check_window(const std::string& kind, const Attributes& attributes) {
  const std::int64_t stride = int_attribute(attributes, "stride"), padding = int_attribute(attributes, "padding");
  if (stride < 1 || padding < 0 || stride > 1 << 16 || padding > 1 << 16)
    throw InvalidArgument(kind + ": stride " + std::to_string(stride) + " and padding " + std::to_string(padding) +
                          "; stride is at least 1, padding at least 0, both at most 65536");
}

}  // namespace

ConvolutionSizes convolution_sizes(const TensorType& x, const TensorType& w, const TensorType& y,
                                   const Attributes& attributes) {
  return {.samples = x.shape[0],
          .height = x.shape[1],
          .width = x.shape[2],
          .inputs = x.shape[3],
          .out_height = y.shape[1],
          .out_width = y.shape[2],
          .outputs = y.shape[3],
          .kernel_height = w.shape[2],
          .kernel_width = w.shape[3],
          .stride = int_attribute(attributes, "stride"),
          .padding = int_attribute(attributes, "padding")};
}

ConvolutionSizes slice_of(ConvolutionSizes sizes, std::int64_t channels) {
  sizes.inputs_of_weights = sizes.inputs;
  sizes.inputs = channels;
  return sizes;
}

TensorType convolution_output(const std::string& kind, const TensorType& x, const TensorType& w,
                              const Attributes& attributes) {
  expect_activation(kind, x);
  expect_rank(kind, w, 4);
  check_window(kind, attributes);
  const std::int64_t stride = int_attribute(attributes, "stride"), padding = int_attribute(attributes, "padding");
  const std::int64_t height = extent_after(x.shape[1], w.shape[2], stride, padding);
  const std::int64_t width = extent_after(x.shape[2], w.shape[3], stride, padding);
  if (x.shape[3] != w.shape[1])
    throw InvalidArgument(kind + ": the input has " + std::to_string(x.shape[3]) + " channels, the weights " +
                          std::to_string(w.shape[1]));
  if (height < 1 || width < 1) throw InvalidArgument(kind + ": the window is larger than the padded input");
  return {DType::f32, {x.shape[0], height, width, w.shape[0]}, true};
}

TensorType convolution_weights(const std::string& kind, const TensorType& x, const TensorType& y,
                               const Attributes& attributes) {
  expect_activation(kind, x);
  expect_activation(kind, y);
  const TensorType w{
      DType::f32,
      {y.shape[3], x.shape[3], int_attribute(attributes, "kernel_height"), int_attribute(attributes, "kernel_width")},
      false};
  if (w.shape[2] < 1 || w.shape[3] < 1 || convolution_output(kind, x, w, attributes) != y)
    throw InvalidArgument(kind + ": the gradient does not fit the input");
  return w;
}

OpCost convolution_cost(const ConvolutionSizes& s, const OpShape& shape) {
  OpCost total = bytes_moved(shape);
  total.flops = 2.0 * static_cast<double>(s.samples * s.out_height * s.out_width * s.outputs) *
                static_cast<double>(s.inputs * s.kernel_height * s.kernel_width);
  return total;
}

}  // namespace thimble
