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
  // Two numbers a shuffle: of eight columns of left both rows, of eight rows of right both columns.
  const auto pair = [](float first, float second) {
    return static_cast<unsigned long long>(__float_as_uint(second)) << 32 | __float_as_uint(first);
  };
  const auto first_of = [](unsigned long long both) { return __uint_as_float(static_cast<unsigned>(both)); };
  const auto second_of = [](unsigned long long both) { return __uint_as_float(static_cast<unsigned>(both >> 32)); };
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  constexpr unsigned kAll = 0xffffffffu;
  float above[8], below[8], even[8], odd[8];
  for (int j = 0; j < 4; ++j) {
    for (int half = 0; half < 2; ++half) {
      const unsigned long long rows = __shfl_sync(kAll, pair(left[2 * half], left[2 * half + 1]), 4 * g + j);
      above[4 * half + j] = first_of(rows);
      below[4 * half + j] = second_of(rows);
    }
    const unsigned long long ours = pair(right[0], right[1]);
    const unsigned long long of_even = __shfl_sync(kAll, ours, 8 * t + j),
                             of_odd = __shfl_sync(kAll, ours, 8 * t + 4 + j);
    even[j] = first_of(of_even);
    even[4 + j] = second_of(of_even);
    odd[j] = first_of(of_odd);
    odd[4 + j] = second_of(of_odd);
  }
  for (int k = 0; k < 8; ++k) {
    sums[0] = fmaf(above[k], even[k], sums[0]);
    sums[1] = fmaf(above[k], odd[k], sums[1]);
    sums[2] = fmaf(below[k], even[k], sums[2]);
    sums[3] = fmaf(below[k], odd[k], sums[3]);
  }
#endif
}

}  // namespace thimble
