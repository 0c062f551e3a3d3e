// What the ops of a decoder's step share on CUDA.
#pragma once

#include "cuda_ops.h"
#include "decoding.h"
#include "quads.h"

namespace thimble {

template <bool kWhole>
__global__ void copy_floats_kernel(const float* from, float* to, std::int64_t count) {
  const std::int64_t at = global_thread() * kQuad;
  store_quad<kWhole>(to, at, count, load_quad<kWhole>(from, at, count));
}

inline void copy_floats_cuda(const float* from, float* to, std::int64_t count, cudaStream_t stream) {
  const auto kernel = lie_in_quads(count, {from, to}) ? copy_floats_kernel<true> : copy_floats_kernel<false>;
  simt::launch(kernel, blocks_for(count, kQuad), kBlock, 0, stream, from, to, count);
}

/// A pool's new version begins as the old one; nothing moves where both are one storage.
inline void copy_pool_cuda(const TensorType& pool, const std::byte* from, std::byte* to, cudaStream_t stream) {
  if (from != to) copy_floats_cuda(floats(from), floats(to), element_count(pool), stream);
}

}  // namespace thimble
