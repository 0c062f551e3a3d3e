// What the kernels of convolutions' weights' gradients share: which part of the gradient and which pixels a block has,
// rows of pixels in shared memory, and the way of the sums out.
//
// A block sums a part of the gradient over a range of tiles of pixels, its groups of warps taking pixels in turn; in
// the end it joins what they have. Where the samples are cut in splits, another kernel joins their partial sums.
#pragma once

#include "convolution_tiles.h"

namespace thimble {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;

/// How the gradient is cut into blocks: so many of dy's and of x's channels, and all taps or one.
struct WeightsParts {
  int made, read, taps;
};
WeightsParts weights_parts(const ConvolutionGeometry& geometry, int channels, ConvolutionMath math);

/// Whether a block makes all taps of a window of 3x3.
inline bool makes_whole_window(const ConvolutionGeometry& g) {
  return g.r == 3 && g.s == 3 && (g.stride == 1 || g.stride == 2);
}

/// Tiles of dy's pixels.
PixelTiles weights_tiles(const ConvolutionGeometry& geometry);

struct WeightsConvolution {
  Pictures x;  // of the channels in question
  PatchPrologue prologue;
  Pictures dy;
  PixelTiles tiles;             // of dy's pixels
  PatchShape patch;             // of x
  SharedPixels made_pixels;     // of dy
  int x_floats, buffer_floats;  // of a tile: x, then dy
  int samples;
  int window_rows, window_columns, stride, pad;
  int made_tiles, read_tiles, splits;
  float* sums;  // of split 0
  const float* added;
  std::int64_t split_pitch;
  int made_pitch;  // floats from one output channel's weights to the next's
};

// What a block works on.
struct WeightsBlock {
  int made, read, tap;  // first channels of dy and of x, and the tap
  int tile, last_tile;
  int split;
};

__device__ inline WeightsBlock weights_block(const WeightsConvolution& call, const WeightsParts& parts) {
  const int taps = call.window_rows * call.window_columns / parts.taps;
  int index = static_cast<int>(blockIdx.x);
  WeightsBlock block{};
  block.read = index % call.read_tiles * parts.read;
  index /= call.read_tiles;
  block.made = index % call.made_tiles * parts.made;
  index /= call.made_tiles;
  block.tap = index % taps;
  block.split = index / taps;
  const std::int64_t tiles = call.tiles.count();
  block.tile = static_cast<int>(tiles * block.split / call.splits);
  block.last_tile = static_cast<int>(tiles * (block.split + 1) / call.splits);
  return block;
}

// What a block reads of a tile.
struct TileWindows {
  PixelTile tile;
  PixelWindow x, dy;
};

__device__ inline TileWindows tile_windows(const WeightsConvolution& call, const WeightsBlock& block, int index) {
  const PixelTile tile = tile_at(call.tiles, index, call.samples, call.dy.rows, call.dy.columns);
  const int row = tile.row * call.stride - call.pad + block.tap / call.window_columns;
  const int column = tile.column * call.stride - call.pad + block.tap % call.window_columns;
  return {.tile = tile,
          .x = {.origin = call.x.pixel(tile.sample, row, column) + block.read,
                .channel = block.read,
                .pixels = tile.samples * call.patch.pixels_of_sample(),
                .row = row,
                .column = column,
                .rows = call.x.rows,
                .columns = call.x.columns,
                .sample = tile.sample},
          .dy = {.origin = call.dy.pixel(tile.sample, tile.row, tile.column) + block.made,
                 .channel = block.made,
                 .pixels = tile.samples * call.tiles.rows * call.tiles.columns,
                 .row = 0,
                 .column = 0,
                 .rows = tile.rows,
                 .columns = tile.columns,
                 .sample = tile.sample}};
}

// Shared memory: two tiles, then the tables of x's and dy's pixels, then what the kernel wants beside.
__device__ inline TablePixel* x_table_of(const WeightsConvolution& call, float* shared) {
  return reinterpret_cast<TablePixel*>(shared + 2 * call.buffer_floats);
}
__device__ inline TablePixel* dy_table_of(const WeightsConvolution& call, float* shared) {
  return x_table_of(call, shared) + call.patch.shared.pixels;
}
inline std::int64_t weights_shared_bytes(const WeightsConvolution& call) {
  return std::int64_t{8} * call.buffer_floats +
         static_cast<std::int64_t>(sizeof(TablePixel)) * (call.patch.shared.pixels + call.made_pixels.pixels);
}

// Calls multiply(tile, x, dy) for the block's tiles, the next one on its way meanwhile.
template <bool kRounds, class Multiply>
__device__ inline void multiply_tiles(const WeightsConvolution& call, const WeightsBlock& block, float* shared,
                                      Multiply multiply) {
  TablePixel *x_table = x_table_of(call, shared), *dy_table = dy_table_of(call, shared);
  fill_table(x_table, call.x, call.patch.shared.pixels, call.patch.rows, call.patch.columns, call.patch.spacing);
  fill_table(dy_table, call.dy, call.made_pixels.pixels, call.tiles.rows, call.tiles.columns, 1);
  __syncthreads();
  const auto copy = [&](const TileWindows& from, float* buffer) {
    copy_pixels(call.x, call.patch.shared, x_table, from.x, buffer);
    copy_pixels(call.dy, call.made_pixels, dy_table, from.dy, buffer + call.x_floats);
  };
  TileWindows next = tile_windows(call, block, block.tile);
  copy(next, shared);
  for (int t = block.tile; t < block.last_tile; ++t) {
    float* buffer = shared + (t - block.tile) % 2 * call.buffer_floats;
    wait_for_copies();
    prepare_pixels<kRounds>(call.x, call.prologue, call.patch.shared, x_table, next.x, buffer);
    __syncthreads();
    const PixelTile tile = next.tile;
    if (t + 1 < block.last_tile) {
      next = tile_windows(call, block, t + 1);
      copy(next, shared + (t + 1 - block.tile) % 2 * call.buffer_floats);
    }
    multiply(tile, buffer, buffer + call.x_floats);
  }
}

// Sums of kGroups groups of threads that have the same part of the gradient join in the first one's registers, in a
// fixed order; `shared` holds half of them.
template <int kGroups, int kValues>
__device__ inline void join_sums(float (&sums)[kValues], float* shared) {
  constexpr int kThreadsOfGroup = kThreads / kGroups;
  const int group = static_cast<int>(threadIdx.x) / kThreadsOfGroup;
  const int thread = static_cast<int>(threadIdx.x) % kThreadsOfGroup;
  SIMT_UNROLL
  for (int half = kGroups / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (group >= half && group < 2 * half) {
      SIMT_UNROLL
      for (int i = 0; i < kValues; ++i) shared[((group - half) * kValues + i) * kThreadsOfGroup + thread] = sums[i];
    }
    __syncthreads();
    if (group < half) {
      SIMT_UNROLL
      for (int i = 0; i < kValues; ++i) sums[i] += shared[(group * kValues + i) * kThreadsOfGroup + thread];
    }
  }
  __syncthreads();
}

// A block's part of the gradient from shared memory: [output channel][input channel][tap].
template <int kMade, int kRead, int kTaps>
__device__ inline void write_sums(const WeightsConvolution& call, const WeightsBlock& block, const float* shared) {
  constexpr int kRun = kRead * kTaps;
  const int all_taps = call.window_rows * call.window_columns;
  for (int e = static_cast<int>(threadIdx.x); e < kMade * kRun; e += kThreads) {
    const int k = block.made + e / kRun, c = block.read + e % kRun / kTaps, tap = block.tap + e % kTaps;
    if (k >= call.dy.channels || c >= call.x.channels) continue;
    const std::int64_t at = block.split * call.split_pitch + std::int64_t{k} * call.made_pitch + c * all_taps + tap;
    call.sums[at] = call.added != nullptr ? shared[e] + call.added[at] : shared[e];
  }
}

/// The tensor cores' kernel, for a call that is ready but for its patches.
void launch_tensor_weights(WeightsConvolution call, const ConvolutionGeometry& geometry, const WeightsParts& parts,
                           std::int64_t blocks, cudaStream_t stream);

}  // namespace thimble
