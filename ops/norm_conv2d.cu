// norm_conv2d on CUDA: a convolution that normalises while it reads. Where the result is to lie over x that cannot be,
// since other blocks still read it: then some samples at a time are normalised into the workspace and convolved from
// there. Both ways give the same bits.
#include "normalized_input_cuda.h"

namespace thimble {
namespace {

using namespace norm_conv_forward;

ConvolutionGeometry geometry_of(const OpShape& s) {
  return thimble::geometry_of(s.inputs[kNormX], s.inputs[kWeights], s.outputs[0], s.attributes);
}

std::int64_t samples_of(const OpShape& shape) { return shape.inputs[kNormX].shape[0]; }

bool may_lie_over_x(const OpShape& shape) { return bytes_of(shape.inputs[kNormX]) == bytes_of(shape.outputs[0]); }

// A prologue, or normalised samples where there could be need of them.
Bytes workspace(const OpShape& shape) {
  const Bytes prologue = prologue_workspace(shape);
  if (!may_lie_over_x(shape)) return prologue;
  return std::max(prologue,
                  Bytes{4 * elements_per_sample(shape.inputs[kNormX]) * samples_at_once(shape, samples_of(shape))});
}

void convolve_in_groups(const OpShape& shape, const KernelArguments& a, const ForwardConvolution& all,
                        const NormalizedInputCuda& input) {
  const std::int64_t samples = samples_of(shape), group = samples_at_once(shape, samples);
  const std::int64_t elements = elements_per_sample(shape.outputs[0]);
  float* scratch = floats(a.workspace);
  for (std::int64_t n = 0; n < samples; n += group) {
    const HalfOpen range{n, std::min(samples, n + group)};
    launch_normalized_samples(input, range, scratch, stream_of(a));
    ForwardConvolution call = all;
    call.geometry.n = static_cast<int>(range.size());
    call.whole_samples = all.geometry.n;
    call.x = scratch;
    call.y += n * elements;
    if (call.added != nullptr) call.added += n * elements;
    convolve_forward(call, stream_of(a));
  }
}

void run(const OpShape& shape, const KernelArguments& a) {
  const NormalizedInputCuda input = NormalizedInputCuda::of(shape, a);
  ForwardConvolution call{.geometry = geometry_of(shape),
                          .x = input.x,
                          .w = floats(a.inputs[kWeights]),
                          .y = floats(a.outputs[0]),
                          .added = flag(shape.attributes, "add") ? floats(a.inputs[kAdded]) : nullptr,
                          .math = math_of(shape)};
  if (a.outputs[0] == a.inputs[kNormX]) return convolve_in_groups(shape, a, call, input);
  call.prologue = launch_prologue(input, a.workspace, stream_of(a));
  convolve_forward(call, stream_of(a));
}

// Half of the launches that a result over x takes beside the first: as often as not it lies elsewhere.
OpCost cost(const OpShape& shape) {
  OpCost total = bytes_moved(shape);
  total.flops = convolution_flops(geometry_of(shape));
  const std::int64_t samples = samples_of(shape), group = samples_at_once(shape, samples);
  const std::int64_t groups = may_lie_over_x(shape) ? (samples + group - 1) / group : 1;
  convolution_paces(math_of(shape), true).forward.add_to(total);
  total.launches += static_cast<double>(groups);
  return total;
}

}  // namespace

void register_norm_conv2d_cuda(OpRegistry& registry) {
  registry.add_kernels("norm_conv2d", kCudaBackend,
                       {.workspace = workspace,
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, run); },
                        .faster =
                            [](const OpShape& s) {
                              return may_lie_over_x(s) ? larger_groups(s, samples_of(s)) : std::vector<Attributes>{};
                            },
                        .cost = cost});
}

}  // namespace thimble
