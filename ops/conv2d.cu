// conv2d and its two backward passes on CUDA.
#include "convolution_cuda.h"

namespace thimble {
namespace {

enum class Pass { forward, backward_data, backward_weights };

ConvolutionGeometry geometry(Pass pass, const OpShape& s) {
  if (pass == Pass::forward) return geometry_of(s.inputs[0], s.inputs[1], s.outputs[0], s.attributes);
  if (pass == Pass::backward_data) return geometry_of(s.outputs[0], s.inputs[1], s.inputs[0], s.attributes);
  return geometry_of(s.inputs[0], s.outputs[0], s.inputs[1], s.attributes);
}

int weights_splits(const OpShape& shape, const ConvolutionGeometry& g) { return splits_of(shape, g, g.c); }

void forward(const OpShape& shape, const KernelArguments& a) {
  convolve_forward({.geometry = geometry(Pass::forward, shape),
                    .x = floats(a.inputs[0]),
                    .w = floats(a.inputs[1]),
                    .y = floats(a.outputs[0]),
                    .math = math_of(shape)},
                   stream_of(a));
}

void backward_data(const OpShape& shape, const KernelArguments& a) {
  convolve_backward_data({.geometry = geometry(Pass::backward_data, shape),
                          .dy = floats(a.inputs[0]),
                          .w = floats(a.inputs[1]),
                          .dx = floats(a.outputs[0]),
                          .math = math_of(shape)},
                         stream_of(a));
}

void backward_weights(const OpShape& shape, const KernelArguments& a) {
  const ConvolutionGeometry g = geometry(Pass::backward_weights, shape);
  convolve_backward_weights({.geometry = g,
                             .x = floats(a.inputs[0]),
                             .dy = floats(a.inputs[1]),
                             .dw = floats(a.outputs[0]),
                             .added = added_to_gradient(shape, a),
                             .splits = weights_splits(shape, g),
                             .workspace = a.workspace,
                             .math = math_of(shape)},
                            stream_of(a));
}

OpCost weights_cost(const OpShape& shape) {
  const ConvolutionGeometry g = geometry(Pass::backward_weights, shape);
  OpCost cost = bytes_moved(shape);
  cost.flops = convolution_flops(g);
  cost.idle_flops = cost.flops * idle_share_of_splits(g, g.c, weights_splits(shape, g));
  return cost;
}

}  // namespace

void register_conv2d_cuda(OpRegistry& registry) {
  registry.add_kernels("conv2d", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels("conv2d_backward_data", kCudaBackend, {.workspace = {}, .make_kernel = [](const OpShape& s) {
                                                                return function_kernel(s, backward_data);
                                                              }});
  registry.add_kernels("conv2d_backward_weights", kCudaBackend,
                       {.workspace =
                            [](const OpShape& s) {
                              const ConvolutionGeometry g = geometry(Pass::backward_weights, s);
                              return backward_weights_workspace(g, g.c, weights_splits(s, g));
                            },
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, backward_weights); },
                        .faster =
                            [](const OpShape& s) {
                              const ConvolutionGeometry g = geometry(Pass::backward_weights, s);
                              return more_splits(s, g, g.c);
                            },
                        .cost = weights_cost});
}

}  // namespace thimble
