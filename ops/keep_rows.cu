// Sentences for a pool on CUDA: one copy.
#include "decoding_cuda.h"

namespace thimble {
namespace {

enum Input : std::size_t { kX, kPool };

void run(const OpShape& shape, const KernelArguments& a) {
  const TensorType &x = shape.inputs[kX], &pool = shape.inputs[kPool];
  const std::int64_t first = first_pool_row("keep_rows", a, pool, x.shape[0], x.shape[1]);
  launch_copy_pool(pool, a.inputs[kPool], a.outputs[0], stream_of(a));
  launch_copy(floats(a.inputs[kX]), floats(a.outputs[0]) + first * x.shape[2], element_count(x), stream_of(a));
}

}  // namespace

void register_keep_rows_cuda(OpRegistry& registry) {
  registry.add_kernels("keep_rows", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, run); }});
}

}  // namespace thimble
