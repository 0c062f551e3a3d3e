// What the ops of a decoder's step share on CUDA.
#pragma once

#include "accumulation_cuda.h"
#include "decoding.h"

namespace thimble {

/// A pool's new version begins as the old one; nothing moves where both are one storage.
inline void copy_pool_cuda(const KernelArguments& a, const TensorType& pool, const std::byte* from, std::byte* to) {
  if (from != to) copy_floats_cuda(a, floats(from), floats(to), element_count(pool));
}

}  // namespace thimble
