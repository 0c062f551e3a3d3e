// Attention over pools on CUDA: the rows of the sentences at hand begin where these do.
#include "attention_cuda.h"
#include "decoding.h"

namespace thimble {
namespace {

void run(const OpShape& shape, const KernelArguments& a) {
  const TensorType& q = shape.inputs[0];
  const std::int64_t room = int_attribute(shape.attributes, "room");
  const std::int64_t first = first_pool_row("pool_attention", a, shape.inputs[1], q.shape[0], room);
  const HeadsOnDevice heads = HeadsOnDevice::of(shape, a, q, room, 3);
  launch_attention(heads, floats(a.inputs[0]), floats(a.inputs[1]) + first * q.shape[2],
                   floats(a.inputs[2]) + first * q.shape[2], floats(a.outputs[0]), nullptr, stream_of(a));
}

}  // namespace

void register_pool_attention_cuda(OpRegistry& registry) {
  registry.add_kernels("pool_attention", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, run); }});
}

}  // namespace thimble
