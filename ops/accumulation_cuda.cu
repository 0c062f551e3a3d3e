#include "accumulation_cuda.h"

namespace thimble {
namespace {

__global__ void copy_kernel(const float* from, float* to, std::int64_t n) {
  const std::int64_t i = global_thread();
  if (i < n) to[i] = from[i];
}

__global__ void copy_four_kernel(const float* from, float* to, std::int64_t fours) {
  const std::int64_t i = global_thread();
  if (i < fours) simt::store4(to + 4 * i, simt::load4(from + 4 * i));
}

bool is_aligned(const float* address) { return reinterpret_cast<std::uintptr_t>(address) % sizeof(float4) == 0; }

}  // namespace

void copy_floats_cuda(const KernelArguments& a, const float* from, float* to, std::int64_t count) {
  if (count % 4 == 0 && is_aligned(from) && is_aligned(to))
    simt::launch(copy_four_kernel, blocks_for(count / 4), kBlock, 0, stream_of(a), from, to, count / 4);
  else
    simt::launch(copy_kernel, blocks_for(count), kBlock, 0, stream_of(a), from, to, count);
}

bool adds_to_output_cuda(const OpShape& shape, const KernelArguments& a, std::size_t output) {
  if (!flag(shape.attributes, kAddsToLast)) return flag(shape.attributes, kAccumulates) && !a.first_microbatch;
  if (a.inputs.back() != a.outputs[output])
    copy_floats_cuda(a, floats(a.inputs.back()), floats(a.outputs[output]), element_count(shape.outputs[output]));
  return true;
}

}  // namespace thimble
