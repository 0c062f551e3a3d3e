// What the ops of a decoder's step share on CUDA.
#pragma once

#include "decoding.h"
#include "element_wise_cuda.h"

namespace thimble {

struct SameValue {
  __device__ float operator()(float x) const { return x; }
};

inline void launch_copy(const float* from, float* to, std::int64_t count, cudaStream_t stream) {
  launch_element_wise(SameValue{}, count, stream, to, from);
}

/// A pool's new version begins as the old one; nothing moves where both are one storage.
inline void launch_copy_pool(const TensorType& pool, const std::byte* from, std::byte* to, cudaStream_t stream) {
  if (from != to) launch_copy(floats(from), floats(to), element_count(pool), stream);
}

}  // namespace thimble
