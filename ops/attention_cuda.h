// What kernels of attention share: a head of a sentence, and the two kinds of products it is made of, by a block from
// and to shared memory. Lengths are known on the device only, so blocks find out what is there for them.
#pragma once

#include "cuda_ops.h"
#include "thimble/philox.h"
#include "tokens.h"

namespace thimble {

/// Sizes that all heads have, and where their lengths and random numbers come from. Tensors are {sentences, rows or
/// columns, channels}, as in attention_head.h.
struct HeadsOnDevice {
  int sentences, rows, columns, channels, heads;
  float rate, scale;
  std::uint32_t stream, first_sample;
  const std::int32_t *row_lengths, *column_lengths;
  const StepScalars* scalars;
  bool by_four;  // heads and addresses allow 16 bytes at a time

  static HeadsOnDevice of(const OpShape& shape, const KernelArguments& a, const TensorType& q, std::int64_t columns,
                          std::size_t first_length);
  /// Whether all of these addresses do, too.
  void look_at(std::initializer_list<const void*> addresses);
  __host__ __device__ int head_channels() const { return channels / heads; }
};

/// y and, where they are wanted, the logarithms of the rows' sums.
void launch_attention(const HeadsOnDevice& heads, const float* q, const float* k, const float* v, float* y, float* sums,
                      cudaStream_t stream);

/// Rows of a head's channels in a tensor.
struct HeadRows {
  const float* first;
  int stride, count;
};

/// One head of one sentence; where there is nothing to attend to, no row is there either.
struct HeadOnDevice {
  int sentence, head, rows, columns;

  __device__ HeadOnDevice(const HeadsOnDevice& h, int at_sentence, int at_head)
      : sentence(at_sentence), head(at_head), rows(0), columns(0) {
    const int row_length = min(h.row_lengths[sentence], h.rows);
    const int column_length = min(h.column_lengths[sentence], h.columns);
    if (row_length > 0 && column_length > 0) rows = row_length, columns = column_length;
  }
  /// Of a tensor with room for so many rows a sentence.
  __device__ std::int64_t at(const HeadsOnDevice& h, int room, int row) const {
    return (static_cast<std::int64_t>(sentence) * room + row) * h.channels + head * h.head_channels();
  }
  __device__ HeadRows of_rows(const HeadsOnDevice& h, const float* tensor) const {
    return {tensor + at(h, h.rows, 0), h.channels, rows};
  }
  __device__ HeadRows of_columns(const HeadsOnDevice& h, const float* tensor) const {
    return {tensor + at(h, h.columns, 0), h.channels, columns};
  }
  __device__ std::int64_t at_sum(const HeadsOnDevice& h, int row) const {
    return (static_cast<std::int64_t>(sentence) * h.rows + row) * h.heads + head;
  }
  /// What four probabilities from a column (a multiple of four) on are multiplied by: 0 where they are dropped.
  __device__ float4 drop_factors(const HeadsOnDevice& h, int row, int column) const {
    if (h.rate == 0) return make_float4(1, 1, 1, 1);
    constexpr std::uint32_t kBlocksOfRow = kMostPositions / 4;
    const auto block =
        (static_cast<std::uint32_t>(row) * static_cast<std::uint32_t>(h.heads) + static_cast<std::uint32_t>(head)) *
            kBlocksOfRow +
        static_cast<std::uint32_t>(column) / 4;
    const PhiloxBlock words = philox({block, h.first_sample + static_cast<std::uint32_t>(sentence), h.stream,
                                      static_cast<std::uint32_t>(h.scalars->step)},
                                     h.scalars->seed);
    const float kept = 1.0f / (1.0f - h.rate);
    const auto factor = [&](std::uint32_t word) { return uniform_from(word) > h.rate ? kept : 0.0f; };
    return make_float4(factor(words[0]), factor(words[1]), factor(words[2]), factor(words[3]));
  }
};

constexpr int kScoreDepth = 32, kScoreColumns = 32;  // of what is staged at a time
constexpr int kMixWidth = 64, kMixDepth = 32;

/// Threads are in groups of 16; each has `per_thread` rows of a tile.
constexpr int tile_rows(int threads, int per_thread) { return threads / 16 * per_thread; }
/// Floats that both products stage.
constexpr int staged_floats(int rows_of_tile) {
  const int scores = (rows_of_tile + kScoreColumns) * (kScoreDepth + 4), mix = kMixDepth * (kMixWidth + 4);
  return scores > mix ? scores : mix;
}
constexpr int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

/// `items` rows of kWidth floats to shared memory, kWidth + 4 from one to the next; zero beyond what is there.
template <int kThreads, int kWidth>
__device__ void stage_rows(const HeadRows& from, int first, int channel, int width, int items, bool by_four,
                           float* to) {
  constexpr int kFours = kWidth / 4;
  for (int i = static_cast<int>(threadIdx.x); i < items * kFours; i += kThreads) {
    const int item = i / kFours, c = channel + i % kFours * 4;
    float4 value = make_float4(0, 0, 0, 0);
    if (first + item < from.count && c < width) {
      const float* at = from.first + static_cast<std::int64_t>(first + item) * from.stride + c;
      if (by_four) {
        value = simt::load4(at);
      } else {
        value.x = at[0];
        if (c + 1 < width) value.y = at[1];
        if (c + 2 < width) value.z = at[2];
        if (c + 3 < width) value.w = at[3];
      }
    }
    simt::store4(to + item * (kWidth + 4) + i % kFours * 4, value);
  }
}

__device__ inline float add_products(float4 a, float4 b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

/// store(i, j, a_i . b_j) for all pairs of rows, up to whole tiles of kScoreColumns j and of tile_rows i: 0 beyond
/// what is there. What was staged before has been used.
template <int kThreads, int kPer, class Store>
__device__ void score_product(const HeadRows& a, const HeadRows& b, int width, bool by_four, float* staged,
                              Store store) {
  constexpr int kRows = tile_rows(kThreads, kPer), kPitch = kScoreDepth + 4;
  const int group = static_cast<int>(threadIdx.x) / 16, lane = static_cast<int>(threadIdx.x) % 16;
  float* staged_b = staged + kRows * kPitch;
  for (int row = 0; row < a.count; row += kRows)
    for (int column = 0; column < b.count; column += kScoreColumns) {
      float sums[kPer][2] = {};
      for (int channel = 0; channel < width; channel += kScoreDepth) {
        stage_rows<kThreads, kScoreDepth>(a, row, channel, width, kRows, by_four, staged);
        stage_rows<kThreads, kScoreDepth>(b, column, channel, width, kScoreColumns, by_four, staged_b);
        __syncthreads();
        SIMT_UNROLL
        for (int d = 0; d < kScoreDepth; d += 4) {
          const float4 b0 = simt::load4(staged_b + lane * kPitch + d);
          const float4 b1 = simt::load4(staged_b + (lane + 16) * kPitch + d);
          SIMT_UNROLL
          for (int i = 0; i < kPer; ++i) {
            const float4 of_a = simt::load4(staged + (group * kPer + i) * kPitch + d);
            sums[i][0] = add_products(of_a, b0, sums[i][0]);
            sums[i][1] = add_products(of_a, b1, sums[i][1]);
          }
        }
        __syncthreads();
      }
      SIMT_UNROLL
      for (int i = 0; i < kPer; ++i) {
        store(row + group * kPer + i, column + lane, sums[i][0]);
        store(row + group * kPer + i, column + lane + 16, sums[i][1]);
      }
    }
}

/// store(i, channel, four channels of the sum over j of w_ij x_j) for i up to whole tiles, w in shared memory at i *
/// pitch + j, or j * pitch + i where transposed; zero for j from x.count to whole kMixDepth. What was staged before has
/// been used; `w` is read behind a barrier, so the caller needs none.
template <int kThreads, int kPer, bool kTransposed, class Store>
__device__ void mix_product(const float* w, int pitch, int items, const HeadRows& x, int width, bool by_four,
                            float* staged, Store store) {
  static_assert(!kTransposed || kPer == 4);
  constexpr int kRows = tile_rows(kThreads, kPer), kPitch = kMixWidth + 4;
  const int group = static_cast<int>(threadIdx.x) / 16, lane = static_cast<int>(threadIdx.x) % 16;
  for (int item = 0; item < items; item += kRows)
    for (int channel = 0; channel < width; channel += kMixWidth) {
      const float* own = w + (item + group * kPer) * (kTransposed ? 1 : pitch);
      float4 sums[kPer] = {};
      for (int j = 0; j < x.count; j += kMixDepth) {
        stage_rows<kThreads, kMixWidth>(x, j, channel, width, kMixDepth, by_four, staged);
        __syncthreads();
        SIMT_UNROLL
        for (int d = 0; d < kMixDepth; d += 4) {
          float of_w[kPer][4];
          SIMT_UNROLL
          for (int i = 0; i < kPer; ++i) {
            if constexpr (kTransposed) {
              const float4 four = simt::load4(own + (j + d + i) * pitch);
              of_w[0][i] = four.x, of_w[1][i] = four.y, of_w[2][i] = four.z, of_w[3][i] = four.w;
            } else {
              const float4 four = simt::load4(own + i * pitch + j + d);
              of_w[i][0] = four.x, of_w[i][1] = four.y, of_w[i][2] = four.z, of_w[i][3] = four.w;
            }
          }
          SIMT_UNROLL
          for (int e = 0; e < 4; ++e) {
            const float4 of_x = simt::load4(staged + (d + e) * kPitch + 4 * lane);
            SIMT_UNROLL
            for (int i = 0; i < kPer; ++i) {
              sums[i].x = fmaf(of_w[i][e], of_x.x, sums[i].x);
              sums[i].y = fmaf(of_w[i][e], of_x.y, sums[i].y);
              sums[i].z = fmaf(of_w[i][e], of_x.z, sums[i].z);
              sums[i].w = fmaf(of_w[i][e], of_x.w, sums[i].w);
            }
          }
        }
        __syncthreads();
      }
      SIMT_UNROLL
      for (int i = 0; i < kPer; ++i) store(item + group * kPer + i, channel + 4 * lane, sums[i]);
    }
}

/// Up to four floats, of which `left` are the head's.
__device__ inline void write_four(float* to, float4 value, int left, bool by_four) {
  if (left <= 0) return;
  if (by_four) {
    simt::store4(to, value);
    return;
  }
  to[0] = value.x;
  if (left > 1) to[1] = value.y;
  if (left > 2) to[2] = value.z;
  if (left > 3) to[3] = value.w;
}

/// Zero from row `first` to `end` of a tensor with that room, in the head's channels.
template <int kThreads>
__device__ void clear_rows(const HeadsOnDevice& h, const HeadOnDevice& head, float* tensor, int room, int first,
                           int end) {
  const int width = h.head_channels();
  for (int i = static_cast<int>(threadIdx.x); i < (end - first) * width; i += kThreads)
    tensor[head.at(h, room, first + i / width) + i % width] = 0;
}

__device__ inline float sum_of_warp(float value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffU, value, distance);
  return value;
}
__device__ inline float largest_of_warp(float value) {
  for (int distance = 16; distance > 0; distance /= 2)
    value = max(value, __shfl_xor_sync(0xffffffffU, value, distance));
  return value;
}

}  // namespace thimble
