// Copies into shared memory that run while the thread does something else: `wait_for_copies` waits for the thread's
// own, a barrier shows them to others. What is not there is not read, whatever the address, and becomes zero.
#pragma once

#include "simt.h"

namespace thimble {

__device__ inline void copy_float(float* to, const float* from, bool is_there) {
#if SIMT_GPU
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(is_there ? 4 : 0));
#else
  *to = is_there ? *from : 0.0f;
#endif
}

__device__ inline void copy_two(float* to, const float* from, bool is_there) {
#if SIMT_GPU
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(address), "l"(from), "r"(is_there ? 8 : 0));
#else
  simt::store2(to, is_there ? simt::load2(from) : make_float2(0, 0));
#endif
}

__device__ inline void copy_four(float* to, const float* from, bool is_there) {
#if SIMT_GPU
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(is_there ? 16 : 0));
#else
  simt::store4(to, is_there ? simt::load4(from) : make_float4(0, 0, 0, 0));
#endif
}

__device__ inline void wait_for_copies() {
#if SIMT_GPU
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace thimble
