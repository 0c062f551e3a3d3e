// The gradient of w where y = conv2d(relu(batch_norm(x)), w), on CUDA: x is normalised while it is read, so groups of
// samples and slices of channels have no meaning here, only how many partial sums there are.
#include "normalized_input_cuda.h"

namespace thimble {
namespace {

constexpr const char* kKind = "norm_conv2d_backward_weights";
constexpr std::size_t kDy = kNormInputs;

ConvolutionGeometry geometry_of(const OpShape& s) {
  return thimble::geometry_of(s.inputs[kNormX], s.outputs[0], s.inputs[kDy], s.attributes);
}

int splits_of(const OpShape& shape, const ConvolutionGeometry& g) { return thimble::splits_of(shape, g, g.c); }

// The prologue, then partial sums.
Bytes workspace(const OpShape& shape) {
  const ConvolutionGeometry g = geometry_of(shape);
  return prologue_workspace(shape) + backward_weights_workspace(g, g.c, splits_of(shape, g));
}

void run(const OpShape& shape, const KernelArguments& a) {
  const ConvolutionGeometry g = geometry_of(shape);
  const NormalizedInputCuda input = NormalizedInputCuda::of(shape, a);
  BackwardWeightsConvolution call{.geometry = g,
                                  .x = input.x,
                                  .dy = floats(a.inputs[kDy]),
                                  .dw = floats(a.outputs[0]),
                                  .added = added_to_gradient(shape, a),
                                  .splits = splits_of(shape, g),
                                  .workspace = a.workspace + prologue_workspace(shape).value,
                                  .math = math_of(shape)};
  call.prologue = launch_prologue(input, a.workspace, stream_of(a));
  convolve_backward_weights(call, stream_of(a));
}

OpCost cost(const OpShape& shape) {
  const ConvolutionGeometry g = geometry_of(shape);
  OpCost total = bytes_moved(shape);
  total.flops = convolution_flops(g);
  total.idle_flops = idle_share_of_splits(g, g.c, splits_of(shape, g)) * total.flops;
  convolution_paces(math_of(shape), true).backward_weights.add_to(total);
  return total;
}

}  // namespace

void register_norm_conv2d_backward_weights_cuda(OpRegistry& registry) {
  registry.add_kernels(kKind, kCudaBackend,
                       {.workspace = workspace,
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, run); },
                        .faster =
                            [](const OpShape& s) {
                              const ConvolutionGeometry g = geometry_of(s);
                              return more_splits(s, g, g.c);
                            },
                        .cost = cost});
}

}  // namespace thimble
