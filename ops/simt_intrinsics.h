// What CUDA offers that needs no other thread, for g++: vector types, atomics, bits, arithmetic with a rounding in its
// name. Functions are global, as in CUDA. Atomics are relaxed, as in CUDA, and ThreadSanitizer sees them.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct dim3 {
  // NOLINTNEXTLINE(google-explicit-constructor): a 1-dimensional one is written as a number
  constexpr dim3(unsigned wide = 1, unsigned high = 1, unsigned deep = 1) : x(wide), y(high), z(deep) {}
  unsigned x, y, z;
};
using cudaStream_t = struct CUstream_st*;

constexpr int2 make_int2(int x, int y) { return {x, y}; }
constexpr int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
constexpr uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
constexpr uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
constexpr uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
constexpr float2 make_float2(float x, float y) { return {x, y}; }
constexpr float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class T>
concept SimtNumber = std::is_arithmetic_v<T>;

// Two types would be a conversion nobody sees: only equal ones.
template <SimtNumber T>
constexpr T min(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return std::fmin(a, b);
  else
    return b < a ? b : a;
}
template <SimtNumber T>
constexpr T max(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return std::fmax(a, b);
  else
    return a < b ? b : a;
}

template <class T>
T __ldg(const T* from) {
  return *from;
}

inline int __popc(unsigned v) { return std::popcount(v); }
inline int __popcll(unsigned long long v) { return std::popcount(v); }
inline int __clz(int v) { return std::countl_zero(static_cast<unsigned>(v)); }
inline int __clzll(long long v) { return std::countl_zero(static_cast<unsigned long long>(v)); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned __brev(unsigned v) {
  v = (v >> 16) | (v << 16);
  v = ((v & 0xff00ff00U) >> 8) | ((v & 0x00ff00ffU) << 8);
  v = ((v & 0xf0f0f0f0U) >> 4) | ((v & 0x0f0f0f0fU) << 4);
  v = ((v & 0xccccccccU) >> 2) | ((v & 0x33333333U) << 2);
  return ((v & 0xaaaaaaaaU) >> 1) | ((v & 0x55555555U) << 1);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((std::uint64_t{a} * b) >> 32); }

inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
inline long long __double_as_longlong(double v) { return std::bit_cast<long long>(v); }
inline double __longlong_as_double(long long v) { return std::bit_cast<double>(v); }

inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1.0F / v; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float v) { return std::fmin(std::fmax(v, 0.0F), 1.0F); }
inline float simt_rsqrt(float v) { return 1.0F / std::sqrt(v); }

// Macros, because glibc declares functions of these names.
#define __expf(...) std::exp(static_cast<float>(__VA_ARGS__))
#define __logf(...) std::log(static_cast<float>(__VA_ARGS__))
#define rsqrtf(...) simt_rsqrt(__VA_ARGS__)

// The second argument never takes part in deduction, so that atomicAdd(counter, 1) works for an unsigned counter, as in
// CUDA.
template <class T>
concept SimtAtomic = std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>;
template <class T>
concept SimtAddable = SimtAtomic<T> || std::is_same_v<T, float> || std::is_same_v<T, double>;
template <class T>
concept SimtComparable = SimtAtomic<T> || std::is_same_v<T, long long>;

template <SimtAddable T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*at).fetch_add(value, std::memory_order_relaxed);
}
template <SimtAtomic T>
T atomicSub(T* at, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*at).fetch_sub(value, std::memory_order_relaxed);
}
template <SimtAtomic T>
T atomicOr(T* at, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*at).fetch_or(value, std::memory_order_relaxed);
}
template <SimtAtomic T>
T atomicAnd(T* at, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*at).fetch_and(value, std::memory_order_relaxed);
}
template <SimtAtomic T>
T atomicXor(T* at, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*at).fetch_xor(value, std::memory_order_relaxed);
}
template <class T>
requires(SimtAtomic<T> || std::is_same_v<T, float>) T atomicExch(T* at, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*at).exchange(value, std::memory_order_relaxed);
}
template <SimtAtomic T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*at).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}
template <SimtComparable T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  std::atomic_ref<T> cell(*at);
  T seen = cell.load(std::memory_order_relaxed);
  while (seen < value && !cell.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
  return seen;
}
template <SimtComparable T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  std::atomic_ref<T> cell(*at);
  T seen = cell.load(std::memory_order_relaxed);
  while (value < seen && !cell.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
  return seen;
}
