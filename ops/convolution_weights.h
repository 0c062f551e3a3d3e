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
WeightsParts weights_parts(const ConvolutionGeometry& geometry, ConvolutionMath math);

/// Whether a block makes all taps of a window of 3x3.
inline bool makes_whole_window(const ConvolutionGeometry& g) {
  return g.r == 3 && g.s == 3 && (g.stride == 1 || g.stride == 2);
}

/// Tiles of dy's pixels.
PixelTiles weights_tiles(const ConvolutionGeometry& geometry);

struct WeightsConvolution {
  Pictures x;  // of the channels in question
  ConvolutionPrologue prologue;
  Pictures dy;
  PixelTiles tiles;                        // of dy's pixels
  SmallDivisor tile_columns, tile_pixels;  // of a sample in a tile
  PatchShape patch;
  int patch_floats, buffer_floats;  // of x, and of all that is there of a tile
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

// Pixels of a tile under a window's tap, or dy's own: a row of channels from `channel` on each.
struct PixelRows {
  const Pictures& from;
  int channel;
  int stride, row, column;  // of the picture: how far apart, and where the tile's first pixel lies
};

__device__ inline PixelRows rows_of_dy(const WeightsConvolution& call, const PixelTile& tile, int channel) {
  return {call.dy, channel, 1, tile.row, tile.column};
}

// Calls visit(four floats in shared memory, offset in the picture, sample, channel, whether it exists) for the
// thread's own. Rows of kChannels, kPitch floats apart; pixels that the tile lacks are rows, too.
template <int kChannels, int kPitch, class Visit>
__device__ inline void visit_rows(const WeightsConvolution& call, const PixelTile& tile, const PixelRows& rows,
                                  float* shared, Visit visit) {
  constexpr int kQuads = kChannels / 4;
  const int pixels = static_cast<int>(call.tile_pixels.divisor);
  const int count = call.tiles.samples * pixels * kQuads;
  for (int e = static_cast<int>(threadIdx.x); e < count; e += kThreads) {
    const int pixel = e / kQuads, quad = e % kQuads, c = rows.channel + quad * 4;
    const int sample = call.tile_pixels.quotient(pixel), inside = pixel - sample * pixels;
    const int i = call.tile_columns.quotient(inside), j = inside - i * call.tiles.columns;
    const int row = rows.row + i * rows.stride, column = rows.column + j * rows.stride;
    const bool exists = sample < tile.samples && i < tile.rows && j < tile.columns && row >= 0 &&
                        row < rows.from.rows && column >= 0 && column < rows.from.columns && c < rows.from.channels;
    visit(shared + pixel * kPitch + 4 * quad, exists ? rows.from.pixel(tile.sample + sample, row, column) + c : 0,
          tile.sample + sample, c, exists);
  }
}

template <int kChannels, int kPitch>
__device__ inline void copy_rows(const WeightsConvolution& call, const PixelTile& tile, const PixelRows& rows,
                                 float* shared) {
  visit_rows<kChannels, kPitch>(call, tile, rows, shared, [&](float* to, std::int64_t offset, int, int c, bool exists) {
    copy_channels(rows.from, to, offset, c, exists);
  });
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
void launch_tensor_weights(WeightsConvolution call, const ConvolutionGeometry& geometry, std::int64_t blocks,
                           cudaStream_t stream);

}  // namespace thimble
