// One product of a warp on tensor cores, and the same by shuffles where there are none.
#pragma once

#include "simt.h"

namespace thimble {

/// sums += left x right of 16 x 8 and 8 x 8 numbers that are rounded to tf32. Lane (g, t) = (lane / 4, lane % 4) has
/// left at rows g, g + 8, g, g + 8 and columns t, t, t + 4, t + 4, right at rows t and t + 4 of column g, the sums at
/// rows g, g, g + 8, g + 8 and columns 2t, 2t + 1, 2t, 2t + 1. All lanes take part.
__device__ inline void add_tensor_product(float* sums, const float (&left)[4], const float (&right)[2]) {
#if SIMT_GPU
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(__float_as_uint(left[0])), "r"(__float_as_uint(left[1])), "r"(__float_as_uint(left[2])),
        "r"(__float_as_uint(left[3])), "r"(__float_as_uint(right[0])), "r"(__float_as_uint(right[1])));
#else
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  constexpr unsigned kAll = 0xffffffffu;
  for (int k = 0; k < 8; ++k) {
    const int upper = k / 4, column = k % 4;
    const float above = __shfl_sync(kAll, left[2 * upper], 4 * g + column);
    const float below = __shfl_sync(kAll, left[2 * upper + 1], 4 * g + column);
    const float even = __shfl_sync(kAll, right[upper], 4 * (2 * t) + column);
    const float odd = __shfl_sync(kAll, right[upper], 4 * (2 * t + 1) + column);
    sums[0] = fmaf(above, even, sums[0]);
    sums[1] = fmaf(above, odd, sums[1]);
    sums[2] = fmaf(below, even, sums[2]);
    sums[3] = fmaf(below, odd, sums[3]);
  }
#endif
}

}  // namespace thimble
