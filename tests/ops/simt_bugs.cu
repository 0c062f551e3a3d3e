// Each kernel has its bug where kMended is false. The line of the bug is what a report should name.
#include "simt_bugs.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "simt.h"

namespace thimble {
namespace {

constexpr unsigned kAll = 0xffffffffU;
constexpr int kThreads = 128;

std::vector<float> ramp(int count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = static_cast<float>(i);
  return values;
}
std::vector<float> nans(int count) {
  return std::vector<float>(static_cast<std::size_t>(count), std::numeric_limits<float>::quiet_NaN());
}
template <class Expected>
bool matches(const std::vector<float>& out, Expected expected) {
  for (std::size_t i = 0; i < out.size(); ++i)
    if (out[i] != static_cast<float>(expected(static_cast<int>(i)))) return false;
  return true;
}

__device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ int global_thread() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

template <bool kMended>
__global__ void missing_barrier_kernel(const float* in, float* out) {
  SIMT_SHARED(float, tile, [kThreads]);
  const int t = thread();
  tile[t] = in[t];
  if constexpr (kMended) __syncthreads();
  out[t] = tile[min(t + 1, kThreads - 1)];
}
template <bool kMended>
bool missing_barrier() {
  const auto in = ramp(kThreads);
  auto out = nans(kThreads);
  simt::launch(missing_barrier_kernel<kMended>, 1, kThreads, 0, nullptr, in.data(), out.data());
  return matches(out, [](int i) { return min(i + 1, kThreads - 1); });
}

// Written again while others still read what was there.
template <bool kMended>
__global__ void reused_buffer_kernel(const float* in, float* out) {
  SIMT_SHARED(float, tile, [kThreads]);
  const int t = thread();
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    tile[t] = in[round * kThreads + t];
    __syncthreads();
    sum += tile[kThreads - 1 - t];
    if constexpr (kMended) __syncthreads();
  }
  out[t] = sum;
}
template <bool kMended>
bool reused_buffer() {
  const auto in = ramp(3 * kThreads);
  auto out = nans(kThreads);
  simt::launch(reused_buffer_kernel<kMended>, 1, kThreads, 0, nullptr, in.data(), out.data());
  return matches(out, [](int i) { return 3 * (kThreads - 1 - i) + 3 * kThreads; });
}

template <bool kMended>
__global__ void missing_syncwarp_kernel(const float* in, float* out) {
  SIMT_SHARED(float, tile, [32]);
  const int t = thread();
  tile[t] = in[t];
  if constexpr (kMended) __syncwarp();
  out[t] = tile[min(t + 1, 31)];
}
template <bool kMended>
bool missing_syncwarp() {
  const auto in = ramp(32);
  auto out = nans(32);
  simt::launch(missing_syncwarp_kernel<kMended>, 1, 32, 0, nullptr, in.data(), out.data());
  return matches(out, [](int i) { return min(i + 1, 31); });
}

// The lanes meet in the shuffle, but a shuffle orders no memory.
template <bool kMended>
__global__ void shuffle_as_fence_kernel(const float* in, float* out) {
  SIMT_SHARED(float, tile, [32]);
  const int t = thread();
  tile[t] = in[t];
  const float first = __shfl_sync(kAll, in[t], 0);
  if constexpr (kMended) __syncwarp();
  out[t] = first + tile[t ^ 1];
}
template <bool kMended>
bool shuffle_as_fence() {
  const auto in = ramp(32);
  auto out = nans(32);
  simt::launch(shuffle_as_fence_kernel<kMended>, 1, 32, 0, nullptr, in.data(), out.data());
  return matches(out, [](int i) { return i ^ 1; });
}

template <bool kMended>
__global__ void plain_increment_kernel(float* out) {
  SIMT_SHARED(unsigned, counts, [4]);
  const int t = thread();
  if (t < 4) counts[t] = 0;
  __syncthreads();
  if constexpr (kMended)
    atomicAdd(&counts[t % 4], 1);
  else
    counts[t % 4]++;
  __syncthreads();
  if (t < 4) out[t] = static_cast<float>(counts[t]);
}
template <bool kMended>
bool plain_increment() {
  auto out = nans(4);
  simt::launch(plain_increment_kernel<kMended>, 1, kThreads, 0, nullptr, out.data());
  return matches(out, [](int) { return kThreads / 4; });
}

template <bool kMended>
__global__ void plain_sum_kernel(float* out) {
  if (thread() != 0) return;
  if constexpr (kMended)
    atomicAdd(out, 1.0F);
  else
    *out += 1.0F;
}
template <bool kMended>
bool plain_sum() {
  std::vector<float> out(1);
  simt::launch(plain_sum_kernel<kMended>, 20, 32, 0, nullptr, out.data());
  return matches(out, [](int) { return 20; });
}

template <bool kMended>
__global__ void block_order_kernel(float* scale, float* out) {
  const int t = global_thread();
  if (t == 0) *scale = 2.0F;
  out[t] = kMended ? 2.0F : *scale;
}
template <bool kMended>
bool block_order() {
  std::vector<float> scale(1);
  auto out = nans(4 * 32);
  simt::launch(block_order_kernel<kMended>, 4, 32, 0, nullptr, scale.data(), out.data());
  return matches(out, [](int) { return 2; });
}

template <bool kMended>
__global__ void barrier_in_branches_kernel(float* out) {
  if constexpr (kMended) {
    __syncthreads();
  } else if (thread() < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[thread()] = 1;
}
template <bool kMended>
bool barrier_in_branches() {
  auto out = nans(kThreads);
  simt::launch(barrier_in_branches_kernel<kMended>, 1, kThreads, 0, nullptr, out.data());
  return matches(out, [](int) { return 1; });
}

template <bool kMended>
__global__ void barrier_in_if_kernel(float* out) {
  if (kMended || thread() < 64) __syncthreads();
  out[thread()] = 1;
}
template <bool kMended>
bool barrier_in_if() {
  auto out = nans(kThreads);
  simt::launch(barrier_in_if_kernel<kMended>, 1, kThreads, 0, nullptr, out.data());
  return matches(out, [](int) { return 1; });
}

template <bool kMended>
__global__ void return_before_barrier_kernel(const float* in, float* out, int count) {
  SIMT_SHARED(float, tile, [kThreads]);
  const int t = thread();
  if (!kMended && t >= count) return;
  tile[t] = t < count ? in[t] : 0.0F;
  __syncthreads();
  if (t < count) out[t] = tile[count - 1 - t];
}
template <bool kMended>
bool return_before_barrier() {
  const auto in = ramp(100);
  auto out = nans(100);
  simt::launch(return_before_barrier_kernel<kMended>, 1, kThreads, 0, nullptr, in.data(), out.data(), 100);
  return matches(out, [](int i) { return 99 - i; });
}

template <bool kMended>
__global__ void ballot_in_if_kernel(float* out) {
  const int t = thread();
  unsigned bits = 0;
  if (kMended || t % 2 == 0) bits = __ballot_sync(kAll, t % 2 == 0);
  out[t] = static_cast<float>(__popc(bits));
}
template <bool kMended>
bool ballot_in_if() {
  auto out = nans(32);
  simt::launch(ballot_in_if_kernel<kMended>, 1, 32, 0, nullptr, out.data());
  return matches(out, [](int) { return 16; });
}

template <bool kMended>
__global__ void ballot_after_return_kernel(const float* in, unsigned* bits, int count) {
  const int t = thread();
  if (!kMended && t >= count) return;
  const unsigned word = __ballot_sync(kAll, t < count && in[t] > 3.0F);
  if (t == 0) *bits = word;
}
template <bool kMended>
bool ballot_after_return() {
  const auto in = ramp(20);
  unsigned bits = 0;
  simt::launch(ballot_after_return_kernel<kMended>, 1, 32, 0, nullptr, in.data(), &bits, 20);
  return bits == 0xffff0U;
}

// Half a warp adds up; without a width the upper of its lanes read from the other half.
template <bool kMended>
__global__ void shuffle_outside_mask_kernel(const float* in, float* out) {
  const int t = thread();
  if (t >= 16) return;
  float sum = in[t];
  for (int distance = 8; distance > 0; distance /= 2)
    sum += __shfl_down_sync(0xffffU, sum, static_cast<unsigned>(distance), kMended ? 16 : 32);
  if (t == 0) *out = sum;
}
template <bool kMended>
bool shuffle_outside_mask() {
  const auto in = ramp(16);
  auto out = nans(1);
  simt::launch(shuffle_outside_mask_kernel<kMended>, 1, 32, 0, nullptr, in.data(), out.data());
  return matches(out, [](int) { return 120; });
}

template <bool kMended>
__global__ void shared_index_kernel(const float* in, float* out) {
  SIMT_SHARED(float, tile, [kThreads]);
  const int t = thread();
  tile[kMended ? t : t + 1] = in[t];
  __syncthreads();
  out[t] = tile[kMended ? t : t + 1];
}
template <bool kMended>
bool shared_index() {
  const auto in = ramp(kThreads);
  auto out = nans(kThreads);
  simt::launch(shared_index_kernel<kMended>, 1, kThreads, 0, nullptr, in.data(), out.data());
  return matches(out, [](int i) { return i; });
}

template <bool kMended>
__global__ void dynamic_shared_index_kernel(const float* in, float* out) {
  SIMT_DYN_SHARED(float, tile);
  const int t = thread();
  tile[t] = in[t];
  __syncthreads();
  out[t] = tile[kMended ? min(t + 1, kThreads - 1) : t + 1] - tile[t];
}
template <bool kMended>
bool dynamic_shared_index() {
  const auto in = ramp(kThreads);
  auto out = nans(kThreads);
  simt::launch(dynamic_shared_index_kernel<kMended>, 1, kThreads, kThreads * sizeof(float), nullptr, in.data(),
               out.data());
  return matches(out, [](int i) { return i < kThreads - 1 ? 1 : 0; });
}

template <bool kMended>
__global__ void counters_not_cleared_kernel(float* out) {
  SIMT_SHARED(unsigned, counts, [4]);
  const int t = thread();
  if (kMended && t < 4) counts[t] = 0;
  __syncthreads();
  atomicAdd(&counts[t % 4], 1);
  __syncthreads();
  if (t < 4) out[t] = static_cast<float>(counts[t]);
}
template <bool kMended>
bool counters_not_cleared() {
  auto out = nans(4);
  simt::launch(counters_not_cleared_kernel<kMended>, 1, kThreads, 0, nullptr, out.data());
  return matches(out, [](int) { return kThreads / 4; });
}

template <bool kMended>
__global__ void global_index_kernel(float* out, int count) {
  const int t = global_thread();
  if (!kMended || t < count) out[t] = 1;
}
template <bool kMended>
bool global_index() {
  // A guard behind the end shows it without a sanitizer, which would not see it with one.
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::size_t kGuard = 0;
#else
  constexpr std::size_t kGuard = 64;
#endif
  constexpr std::size_t kCount = 100;
  std::vector<float> out(kCount + kGuard);
  simt::launch(global_index_kernel<kMended>, 4, 32, 0, nullptr, out.data(), static_cast<int>(kCount));
  for (std::size_t i = kCount; i < out.size(); ++i)
    if (out[i] != 0) return false;
  return out[kCount - 1] == 1;
}

template <bool kMended>
__global__ void index_overflow_kernel(float* out, int row, int row_length) {
  using Index = std::conditional_t<kMended, std::int64_t, int>;
  const Index offset = static_cast<Index>(row) * row_length + thread();
  out[thread()] = static_cast<float>(offset % 1000);
}
template <bool kMended>
bool index_overflow() {
  auto out = nans(32);
  simt::launch(index_overflow_kernel<kMended>, 1, 32, 0, nullptr, out.data(), 70000, 70000);
  return matches(out, [](int i) { return i; });
}

template <bool kMended>
__global__ void misaligned_vector_kernel(const float* in, float* out) {
  const float4 four = simt::load4(in + (kMended ? 4 : 1) * thread());
  out[thread()] = four.x + four.y + four.z + four.w;
}
template <bool kMended>
bool misaligned_vector() {
  const auto in = ramp(128);
  auto out = nans(32);
  simt::launch(misaligned_vector_kernel<kMended>, 1, 32, 0, nullptr, in.data(), out.data());
  return matches(out, [](int i) { return kMended ? 16 * i + 6 : 4 * i + 6; });
}

template <bool kMended>
__global__ void too_much_shared_kernel(float* out) {
  SIMT_DYN_SHARED(float, tile);
  SIMT_SHARED(float, more, [256]);
  more[thread()] = 1;
  tile[thread()] = more[thread()];
  out[thread()] = tile[thread()];
}
template <bool kMended>
bool too_much_shared() {
  auto out = nans(32);
  simt::launch(too_much_shared_kernel<kMended>, 1, 32, kMended ? 226 * 1024 : 227 * 1024, nullptr, out.data());
  return matches(out, [](int) { return 1; });
}

// The grid is rounded down: the last elements stay what they were.
template <bool kMended>
__global__ void not_written_kernel(float* out, int count) {
  if (global_thread() < count) out[global_thread()] = 1;
}
template <bool kMended>
bool not_written() {
  auto out = nans(100);
  simt::launch(not_written_kernel<kMended>, kMended ? 4 : 3, 32, 0, nullptr, out.data(), 100);
  return matches(out, [](int) { return 1; });
}

#define BUG(name)                                                            \
  SimtBug {                                                                  \
#name, [](bool mended) { return mended ? name<true>() : name<false>(); } \
  }
constexpr SimtBug kBugs[] = {
    BUG(missing_barrier),       BUG(reused_buffer),       BUG(missing_syncwarp),
    BUG(shuffle_as_fence),      BUG(plain_increment),     BUG(plain_sum),
    BUG(block_order),           BUG(barrier_in_branches), BUG(barrier_in_if),
    BUG(return_before_barrier), BUG(ballot_in_if),        BUG(ballot_after_return),
    BUG(shuffle_outside_mask),  BUG(shared_index),        BUG(dynamic_shared_index),
    BUG(counters_not_cleared),  BUG(global_index),        BUG(index_overflow),
    BUG(misaligned_vector),     BUG(too_much_shared),     BUG(not_written),
};
#undef BUG

}  // namespace

std::span<const SimtBug> simt_bugs() { return kBugs; }

std::string run_simt_bug(std::string_view name, bool mended) {
  for (const SimtBug& bug : kBugs) {
    if (bug.name != name) continue;
    try {
      return bug.run(mended) ? "right" : "wrong";
    } catch (const Error& error) {
      return std::string("caught: ") + error.what();
    }
  }
  throw InvalidArgument("no bug is called '" + std::string(name) + "'");
}

}  // namespace thimble
