// Floats four at a time in kernels: one access of 16 bytes where rows lie so, else one by one. Which thread has which
// values is the same either way, so bits do not depend on where a tensor lies.
#pragma once

#include "cuda_ops.h"

namespace thimble {

constexpr int kQuad = 4;
constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

/// Whether rows of so many floats, from these addresses on, are whole quads that can be read at once.
inline bool lie_in_quads(std::int64_t row, std::initializer_list<const void*> addresses) {
  return row % kQuad == 0 && are_aligned(addresses);
}

inline std::int64_t quads_of(std::int64_t floats) { return (floats + kQuad - 1) / kQuad; }

/// Values [at, at + 4) of `count`, where `at` divides by 4; zero behind the end. kWhole: they lie in quads.
template <bool kWhole>
__device__ inline float4 load_quad(const float* values, std::int64_t at, std::int64_t count) {
  if (kWhole) return at < count ? simt::load4(values + at) : float4{0, 0, 0, 0};
  return {at < count ? values[at] : 0.0f, at + 1 < count ? values[at + 1] : 0.0f,
          at + 2 < count ? values[at + 2] : 0.0f, at + 3 < count ? values[at + 3] : 0.0f};
}

template <bool kWhole>
__device__ inline void store_quad(float* values, std::int64_t at, std::int64_t count, float4 quad) {
  if (kWhole) {
    if (at < count) simt::store4(values + at, quad);
    return;
  }
  if (at < count) values[at] = quad.x;
  if (at + 1 < count) values[at + 1] = quad.y;
  if (at + 2 < count) values[at + 2] = quad.z;
  if (at + 3 < count) values[at + 3] = quad.w;
}

/// Element by element.
template <class Function>
__device__ inline float4 map_quad(Function f, float4 a) {
  return {f(a.x), f(a.y), f(a.z), f(a.w)};
}
template <class Function>
__device__ inline float4 map_quad(Function f, float4 a, float4 b) {
  return {f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w)};
}
template <class Function>
__device__ inline float4 map_quad(Function f, float4 a, float4 b, float4 c) {
  return {f(a.x, b.x, c.x), f(a.y, b.y, c.y), f(a.z, b.z, c.z), f(a.w, b.w, c.w)};
}

__device__ inline float4 operator+(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
__device__ inline float sum_of_quad(float4 a) { return (a.x + a.y) + (a.z + a.w); }

/// The sum over a warp, in every lane.
template <class T>
__device__ inline T warp_sum(T value) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

/// Lane and warp of a block that has one dimension.
__device__ inline int lane_of_thread() { return static_cast<int>(threadIdx.x) % kLanes; }
__device__ inline int warp_of_thread() { return static_cast<int>(threadIdx.x) / kLanes; }

/// The sum over a block of kThreads, in every thread; a barrier before and one behind.
template <int kThreads>
__device__ inline float block_sum(float value) {
  SIMT_SHARED(float, sums, [kThreads / kLanes]);
  value = warp_sum(value);
  if (lane_of_thread() == 0) sums[warp_of_thread()] = value;
  __syncthreads();
  float sum = 0;
  for (int w = 0; w < kThreads / kLanes; ++w) sum += sums[w];
  __syncthreads();
  return sum;
}

}  // namespace thimble
