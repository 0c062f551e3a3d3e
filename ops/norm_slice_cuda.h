// How the blocks of a normalisation divide an activation: a block has a slice of the channels and a part of a segment's
// rows, a thread four neighbouring channels of some of those rows. Who does what depends on sizes only, so that bits do
// not depend on where the values lie.
#pragma once

#include <cstdint>
#include <limits>

#include "normalization_cuda.h"

namespace thimble {

constexpr int kSummingThreads = 512, kApplyingThreads = 256;  // of a block
constexpr int kWidestSlice = 32;
/// Blocks a launch is cut into where there is work for so many: some on each multiprocessor.
constexpr std::int64_t kWantedBlocks = 4 * kMultiprocessors;
constexpr std::int64_t kMostRows = 1 << 20;  // of a part

/// What one launch covers.
struct SliceGrid {
  std::int64_t segments, rows, stride;  // rows of a segment
  std::int64_t rows_per_part;
  int channels, parts, slice, slices;

  static SliceGrid of(const NormRows& r, std::int64_t rows_per_part, int slice) {
    return {r.segments(),
            r.rows(),
            r.stride,
            rows_per_part,
            static_cast<int>(r.channels),
            static_cast<int>((r.rows() + rows_per_part - 1) / rows_per_part),
            slice,
            static_cast<int>((r.channels + slice - 1) / slice)};
  }
  std::int64_t blocks() const { return segments * parts * slices; }
};

/// Channels of a block that sums: fewer where there are few, since the rows are not cut into more parts then.
constexpr int summing_slice(std::int64_t channels) {
  return static_cast<int>(channels < 16 ? channels : channels < 64 ? 16 : kWidestSlice);
}

constexpr int lanes_of(std::int64_t channels) { return static_cast<int>((channels + 3) / 4); }

/// The grid of a launch that sums nothing, so that any cut of the rows will do: a thread has `rows_at_once` rows at
/// least, and a part whole words of a mask.
inline SliceGrid applying_grid(const NormRows& r, std::int64_t rows_at_once) {
  const int slice = static_cast<int>(std::min<std::int64_t>(r.channels, kWidestSlice));
  const std::int64_t slices = (r.channels + slice - 1) / slice, slots = kApplyingThreads / lanes_of(slice);
  const std::int64_t wanted = std::max<std::int64_t>(1, kWantedBlocks / (r.segments() * slices));
  const std::int64_t rows = std::min(kMostRows, std::max(rows_at_once * slots, (r.rows() + wanted - 1) / wanted));
  return SliceGrid::of(r, (rows + 7) / 8 * 8, slice);
}

/// Where the calling thread is in that.
struct SliceThread {
  std::int64_t segment, row;   // the first row of the block's part, counted through all segments
  int first;                   // channel of the slice
  int part, rows;              // which part of the segment, of so many rows
  int channels, lanes, slots;  // of the slice, threads to a row, rows at a time
  int lane, slot, valid;       // `valid` channels are there of the thread's four; none where it has nothing to do

  __device__ SliceThread(const SliceGrid& grid, std::int64_t block) {
    const std::int64_t row_block = block / grid.slices;
    first = static_cast<int>(block - row_block * grid.slices) * grid.slice;
    segment = row_block / grid.parts;
    part = static_cast<int>(row_block - segment * grid.parts);
    const std::int64_t begin = part * grid.rows_per_part;
    rows = static_cast<int>(min(grid.rows_per_part, grid.rows - begin));
    row = segment * grid.rows + begin;
    channels = min(grid.slice, grid.channels - first);
    lanes = lanes_of(channels);
    slots = static_cast<int>(blockDim.x) / lanes;
    slot = static_cast<int>(threadIdx.x) / lanes;
    lane = static_cast<int>(threadIdx.x) - slot * lanes;
    valid = slot < slots ? min(4, channels - 4 * lane) : 0;
    if (valid == 0) slot = rows;
  }
  __device__ int channel() const { return first + 4 * lane; }
};

/// Calls visit(i) for the thread's channels that are there, in a way that keeps arrays in registers.
template <class Visit>
__device__ inline void for_channels(const SliceThread& t, Visit visit) {
  for (int i = 0; i < 4; ++i)
    if (i < t.valid) visit(i);
}

struct Quad {
  float at[4];
};

/// kAligned: all four are there, and 16 bytes aligned.
template <bool kAligned>
__device__ inline Quad load_quad(const float* from, int valid) {
  if constexpr (kAligned) {
    const float4 all = simt::load4(from);
    return {{all.x, all.y, all.z, all.w}};
  } else {
    Quad quad{};
    for (int i = 0; i < 4; ++i)
      if (i < valid) quad.at[i] = from[i];
    return quad;
  }
}

template <bool kAligned>
__device__ inline void store_quad(float* to, const Quad& quad, int valid) {
  if constexpr (kAligned)
    simt::store4(to, make_float4(quad.at[0], quad.at[1], quad.at[2], quad.at[3]));
  else
    for (int i = 0; i < 4; ++i)
      if (i < valid) to[i] = quad.at[i];
}

/// A sum of many values: float, joined in a second one from time to time, so that a long one loses little.
struct LongSum {
  Quad near{}, all{};
  __device__ void close() {
    for (int i = 0; i < 4; ++i) {
      all.at[i] += near.at[i];
      near.at[i] = 0;
    }
  }
};
constexpr int kRowsOfNearSum = 64;

/// Sums of the slice's channels over the block's threads, in double and in a fixed order: calls made(channel of the
/// slice, first, second), once for each. All threads come by.
template <class Made>
__device__ void sum_block(const SliceThread& t, const Quad& first, const Quad& second, Made made) {
  constexpr int kSubsums = 8;
  SIMT_SHARED(float, firsts, [4 * kSummingThreads]);
  SIMT_SHARED(float, seconds, [4 * kSummingThreads]);
  SIMT_SHARED(double, first_sums, [kSummingThreads]);
  SIMT_SHARED(double, second_sums, [kSummingThreads]);
  SIMT_SHARED(double, first_subsums, [kSubsums * kWidestSlice]);
  SIMT_SHARED(double, second_subsums, [kSubsums * kWidestSlice]);
  const int thread = static_cast<int>(threadIdx.x), columns = 4 * t.lanes;
  if (t.valid > 0) {
    simt::store4(firsts + 4 * thread, make_float4(first.at[0], first.at[1], first.at[2], first.at[3]));
    simt::store4(seconds + 4 * thread, make_float4(second.at[0], second.at[1], second.at[2], second.at[3]));
  }
  __syncthreads();
  const int sums = kSummingThreads / columns, column = thread % columns, own = thread / columns;
  if (own < sums) {
    double a = 0, b = 0;
    for (int s = own; s < t.slots; s += sums) {
      a += static_cast<double>(firsts[s * columns + column]);
      b += static_cast<double>(seconds[s * columns + column]);
    }
    first_sums[thread] = a;
    second_sums[thread] = b;
  }
  __syncthreads();
  if (own < kSubsums) {
    double a = 0, b = 0;
    for (int s = own; s < sums; s += kSubsums) {
      a += first_sums[s * columns + column];
      b += second_sums[s * columns + column];
    }
    first_subsums[thread] = a;
    second_subsums[thread] = b;
  }
  __syncthreads();
  if (thread < t.channels) {
    double a = 0, b = 0;
    for (int s = 0; s < kSubsums; ++s) {
      a += first_subsums[s * columns + thread];
      b += second_subsums[s * columns + thread];
    }
    made(thread, a, b);
  }
}

struct SumPair {
  double first, second;
};

/// The sum over a warp, in every lane.
__device__ inline SumPair sum_warp(SumPair sum) {
  for (int distance = 16; distance > 0; distance /= 2) {
    sum.first += __shfl_xor_sync(0xffffffffu, sum.first, distance);
    sum.second += __shfl_xor_sync(0xffffffffu, sum.second, distance);
  }
  return sum;
}

/// Whether threads may read and write their four channels at once.
inline bool has_whole_quads(const NormRows& rows, std::initializer_list<const void*> addresses) {
  return rows.channels % 4 == 0 && rows.stride % 4 == 0 && are_aligned(addresses);
}

}  // namespace thimble
