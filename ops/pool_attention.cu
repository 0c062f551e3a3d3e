// Attention over pools on CUDA: the rows of the sentences at hand begin where these do.
#include "attention_cuda.h"

namespace thimble {
namespace {

void run(const OpShape& shape, const KernelArguments& a) {
  const TensorType& q = shape.inputs[0];
  const std::int64_t room = int_attribute(shape.attributes, "room"), first = a.samples.begin * room;
  if (first + q.shape[0] * room > shape.inputs[1].shape[0])
    throw InvalidArgument("pool_attention: a pool of " + std::to_string(shape.inputs[1].shape[0]) + " rows; " +
                          std::to_string(a.samples.begin + q.shape[0]) + " sentences of " + std::to_string(room) +
                          " rows do not fit");
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
