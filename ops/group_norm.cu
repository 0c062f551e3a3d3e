// Group normalisation on CUDA; the arithmetic in normalization.cu, every sample a segment.
#include "normalization_cuda.h"

namespace thimble {
namespace {

NormRows rows_of(const OpShape& shape) { return NormRows::of(shape.inputs[0], true); }

void forward(const OpShape& shape, const KernelArguments& a) {
  launch_norm({.rows = rows_of(shape),
               .groups = int_attribute(shape.attributes, "groups"),
               .epsilon = real_attribute(shape.attributes, "epsilon"),
               .x = floats(a.inputs[0]),
               .gamma = floats(a.inputs[1]),
               .beta = floats(a.inputs[2]),
               .y = floats(a.outputs[0]),
               .relu = flag(shape.attributes, "relu")},
              floats(a.outputs[1]), floats(a.outputs[2]), a.workspace, stream_of(a));
}

void statistics(const OpShape& shape, const KernelArguments& a) {
  launch_moments(rows_of(shape), int_attribute(shape.attributes, "groups"), floats(a.inputs[0]), floats(a.outputs[0]),
                 floats(a.outputs[1]), a.workspace, stream_of(a));
}

Bytes workspace(const OpShape& shape) {
  return moments_workspace(rows_of(shape), int_attribute(shape.attributes, "groups"));
}

}  // namespace

void register_group_norm_cuda(OpRegistry& registry) {
  registry.add_kernels("group_norm", kCudaBackend,
                       {.workspace = workspace,
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); },
                        .cost = [](const OpShape& s) { return normalization_cost(s, 3, {0}); }});
  registry.add_kernels("group_statistics", kCudaBackend,
                       {.workspace = workspace,
                        .make_kernel = [](const OpShape& s) { return function_kernel(s, statistics); },
                        .cost = [](const OpShape& s) { return normalization_cost(s, 2, {}); }});
}

}  // namespace thimble
