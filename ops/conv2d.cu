// conv2d and its two backward passes on CUDA.
#include "conv2d_cudnn.h"

namespace thimble {
namespace {

using Pass = CudnnPass;

ConvolutionGeometry geometry(Pass pass, const OpShape& s) {
  if (pass == Pass::forward) return geometry_of(s.inputs[0], s.inputs[1], s.outputs[0], s.attributes);
  if (pass == Pass::backward_data) return geometry_of(s.outputs[0], s.inputs[1], s.inputs[0], s.attributes);
  return geometry_of(s.inputs[0], s.outputs[0], s.inputs[1], s.attributes);
}

int weights_splits(const OpShape& shape, const ConvolutionGeometry& g) { return splits_of(shape, g, g.c); }

std::unique_ptr<Kernel> forward(const OpShape& shape) {
  ForwardConvolution call{.geometry = geometry(Pass::forward, shape), .math = math_of(shape)};
  return function_kernel(shape, [call](const OpShape&, const KernelArguments& a) mutable {
    call.x = floats(a.inputs[0]);
    call.w = floats(a.inputs[1]);
    call.y = floats(a.outputs[0]);
    convolve_forward(call, stream_of(a));
  });
}

std::unique_ptr<Kernel> backward_data(const OpShape& shape) {
  BackwardDataConvolution call{.geometry = geometry(Pass::backward_data, shape), .math = math_of(shape)};
  return function_kernel(shape, [call](const OpShape&, const KernelArguments& a) mutable {
    call.dy = floats(a.inputs[0]);
    call.w = floats(a.inputs[1]);
    call.dx = floats(a.outputs[0]);
    convolve_backward_data(call, stream_of(a));
  });
}

std::unique_ptr<Kernel> backward_weights(const OpShape& shape) {
  BackwardWeightsConvolution call{.geometry = geometry(Pass::backward_weights, shape), .math = math_of(shape)};
  call.splits = weights_splits(shape, call.geometry);
  return function_kernel(shape, [call](const OpShape& s, const KernelArguments& a) mutable {
    call.x = floats(a.inputs[0]);
    call.dy = floats(a.inputs[1]);
    call.dw = floats(a.outputs[0]);
    call.added = added_to_gradient(s, a);
    call.workspace = a.workspace;
    convolve_backward_weights(call, stream_of(a));
  });
}

constexpr ConvolutionPace kCudnnForward{0.45, 7}, kCudnnBackwardData{0.45, 12};  // with the packing of weights

template <Pass pass>
OpKernels with_engines(std::unique_ptr<Kernel> (*own)(const OpShape&)) {
  // A plan widens workspaces that are there: where there are choices, ours has a line of its own that it does not use.
  return {
      .workspace =
          [](const OpShape& s) {
            if (uses_cudnn(s)) return cudnn_workspace(geometry(pass, s));
            return s.device.math == "tf32" ? kAlignment : Bytes{};
          },
      .make_kernel =
          [own](const OpShape& s) { return uses_cudnn(s) ? cudnn_kernel(pass, geometry(pass, s), s, own(s)) : own(s); },
      .faster = [](const OpShape& s) { return cudnn_choices(pass, geometry(pass, s), s); },
      .cost =
          [](const OpShape& s) {
            OpCost cost = bytes_moved(s);
            cost.flops = convolution_flops(geometry(pass, s));
            const ConvolutionPaces ours = convolution_paces(math_of(s));
            if (pass == Pass::forward)
              (uses_cudnn(s) ? kCudnnForward : ours.forward).add_to(cost);
            else
              (uses_cudnn(s) ? kCudnnBackwardData : ours.backward_data).add_to(cost);
            return cost;
          }};
}

OpCost weights_cost(const OpShape& shape) {
  const ConvolutionGeometry g = geometry(Pass::backward_weights, shape);
  OpCost cost = bytes_moved(shape);
  cost.flops = convolution_flops(g);
  cost.idle_flops = cost.flops * idle_share_of_splits(g, g.c, weights_splits(shape, g), math_of(shape));
  convolution_paces(math_of(shape)).backward_weights.add_to(cost);
  return cost;
}

}  // namespace

void register_conv2d_cuda(OpRegistry& registry) {
  registry.add_kernels("conv2d", kCudaBackend, with_engines<Pass::forward>(forward));
  registry.add_kernels("conv2d_backward_data", kCudaBackend, with_engines<Pass::backward_data>(backward_data));
  registry.add_kernels("conv2d_backward_weights", kCudaBackend,
                       {.workspace =
                            [](const OpShape& s) {
                              const ConvolutionGeometry g = geometry(Pass::backward_weights, s);
                              return backward_weights_workspace(g, g.c, weights_splits(s, g));
                            },
                        .make_kernel = backward_weights,
                        .faster =
                            [](const OpShape& s) {
                              const ConvolutionGeometry g = geometry(Pass::backward_weights, s);
                              return more_splits(s, g, g.c);
                            },
                        .cost = weights_cost});
}

}  // namespace thimble
