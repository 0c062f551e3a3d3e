// Sums of two tensors on CUDA, and of one over the microbatches of a step.
#include "cuda_ops.h"
#include "element_wise_cuda.h"
#include "formulas.h"

namespace thimble {
namespace {

void add(const OpShape& shape, const KernelArguments& a) {
  launch_element_wise(Sum{}, element_count(shape.inputs[0]), stream_of(a), floats(a.outputs[0]), floats(a.inputs[0]),
                      floats(a.inputs[1]));
}

void accumulate(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]);
  float* sum = floats(a.outputs[0]);
  if (a.first_microbatch)
    launch_element_wise(Copy{}, n, stream_of(a), sum, floats(a.inputs[0]));
  else
    launch_element_wise(Sum{}, n, stream_of(a), sum, static_cast<const float*>(sum), floats(a.inputs[0]));
}

}  // namespace

void register_add_cuda(OpRegistry& registry) {
  registry.add_kernels("add", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, add); }});
  registry.add_kernels(kAccumulateKind, kCudaBackend, {.workspace = {}, .make_kernel = [](const OpShape& s) {
                                                         return function_kernel(s, accumulate);
                                                       }});
}

}  // namespace thimble
