// Weights' gradients of convolutions: sums over all pixels of dy times what the window saw there. A block sums a part
// of the gradient over a range of tiles of pixels, its warps taking pixels in turn; in the end it joins what its warps
// have. Where the samples are cut in splits, their partial sums are joined by a second kernel.
//
// A window of 3x3 slides along a row: a thread keeps all nine taps of four outputs and two inputs, and the window's
// values in registers, of which one column is new from pixel to pixel. Other windows are made a tap at a time.
#include "convolution_tiles.h"

namespace thimble {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kTilePixels = 128;
constexpr int kMade = 32;  // output channels of a block

struct WeightsConvolution {
  Pictures x;  // of the channels in question
  ConvolutionPrologue prologue;
  Pictures dy;
  PixelTiles tiles;  // of dy's pixels
  SmallDivisor tile_columns, tile_pixels;
  PatchShape patch;
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

__device__ inline WeightsBlock weights_block(const WeightsConvolution& call, int read_per_block, int taps) {
  int index = static_cast<int>(blockIdx.x);
  WeightsBlock block{};
  block.read = index % call.read_tiles * read_per_block;
  index /= call.read_tiles;
  block.made = index % call.made_tiles * kMade;
  index /= call.made_tiles;
  block.tap = index % taps;
  block.split = index / taps;
  const std::int64_t tiles = call.tiles.count();
  block.tile = static_cast<int>(tiles * block.split / call.splits);
  block.last_tile = static_cast<int>(tiles * (block.split + 1) / call.splits);
  return block;
}

// Pixels of a tile under a window's tap, or dy's own: [pixels][kMade] of channels from `channel` on.
struct PixelRows {
  const Pictures& from;
  int channel;
  int stride, row, column;  // of the picture: how far apart, and where the tile's first pixel lies
};

// Calls visit(four floats in shared memory, offset in the picture, sample, channel, whether it exists) for the
// thread's own.
template <class Visit>
__device__ inline void visit_rows(const WeightsConvolution& call, const PixelTile& tile, const PixelRows& rows,
                                  float* shared, Visit visit) {
  constexpr int kQuads = kMade / 4;
  const int pixels = static_cast<int>(call.tile_pixels.divisor);
  const int count = call.tiles.samples * pixels * kQuads;
  for (int e = static_cast<int>(threadIdx.x); e < count; e += kThreads) {
    const int pixel = e / kQuads, c = rows.channel + e % kQuads * 4;
    const int sample = call.tile_pixels.quotient(pixel), inside = pixel - sample * pixels;
    const int i = call.tile_columns.quotient(inside), j = inside - i * call.tiles.columns;
    const int row = rows.row + i * rows.stride, column = rows.column + j * rows.stride;
    const bool exists = sample < tile.samples && i < tile.rows && j < tile.columns && row >= 0 &&
                        row < rows.from.rows && column >= 0 && column < rows.from.columns && c < rows.from.channels;
    visit(shared + 4 * e, exists ? rows.from.pixel(tile.sample + sample, row, column) + c : 0, tile.sample + sample, c,
          exists);
  }
}

__device__ inline void copy_rows(const WeightsConvolution& call, const PixelTile& tile, const PixelRows& rows,
                                 float* shared) {
  visit_rows(call, tile, rows, shared, [&](float* to, std::int64_t offset, int, int c, bool exists) {
    copy_channels(rows.from, to, offset, c, exists);
  });
}

__device__ inline PixelRows rows_of_dy(const WeightsConvolution& call, const PixelTile& tile, int channel) {
  return {call.dy, channel, 1, tile.row, tile.column};
}

// Sums of the warps join in the first one's registers, in a fixed order; `shared` holds half of them.
template <int kValues>
__device__ inline void join_warps(float (&sums)[kValues], int warp, int lane, float* shared) {
  SIMT_UNROLL
  for (int half = kWarps / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (warp >= half && warp < 2 * half) SIMT_UNROLL
    for (int i = 0; i < kValues; ++i) shared[((warp - half) * kValues + i) * 32 + lane] = sums[i];
    __syncthreads();
    if (warp < half) SIMT_UNROLL
    for (int i = 0; i < kValues; ++i) sums[i] += shared[(warp * kValues + i) * 32 + lane];
  }
  __syncthreads();
}

__device__ inline void write_sum(const WeightsConvolution& call, int split, std::int64_t at, float sum) {
  const std::int64_t place = split * call.split_pitch + at;
  call.sums[place] = call.added != nullptr ? sum + call.added[place] : sum;
}

constexpr int kSlidingRead = 8;  // input channels of a block

template <int kStride>
__global__ void __launch_bounds__(kThreads, 2) sliding_weights_kernel(WeightsConvolution call) {
  constexpr int kWindow = 3, kTaps = kWindow * kWindow, kValues = 8 * kTaps;
  SIMT_DYN_SHARED(float, shared);
  const WeightsBlock block = weights_block(call, kSlidingRead, 1);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int patch_floats = kSlidingRead * call.patch.plane;
  const int buffer_floats = patch_floats + call.tiles.samples * static_cast<int>(call.tile_pixels.divisor) * kMade;
  const auto tile_of = [&](int t) { return tile_at(call.tiles, t, call.samples, call.dy.rows, call.dy.columns); };
  const auto place_of = [&](const PixelTile& tile) {
    return PatchPlace{tile.sample, tile.samples, tile.row * kStride - call.pad, tile.column * kStride - call.pad};
  };
  const auto buffer_of = [&](int t) { return shared + t % 2 * buffer_floats; };
  const auto copy = [&](int t) {
    const PixelTile tile = tile_of(t);
    copy_patch(call.x, call.patch, place_of(tile), block.read, buffer_of(t));
    copy_rows(call, tile, rows_of_dy(call, tile, block.made), buffer_of(t) + patch_floats);
  };

  float sums[kValues] = {};  // [output channel][input channel][tap]
  copy(block.tile);
  for (int t = block.tile; t < block.last_tile; ++t) {
    const PixelTile tile = tile_of(t);
    float* buffer = buffer_of(t);
    wait_for_copies();
    prepare_patch<false>(call.x, call.prologue, call.patch, place_of(tile), block.read, buffer);
    __syncthreads();
    if (t + 1 < block.last_tile) copy(t + 1);
    const float* patch = buffer + lane % 4 / 2 * 4 * call.patch.plane + lane % 2 * 2;
    const float* dy = buffer + patch_floats + lane / 4 * 4;
    for (int r = warp; r < tile.samples * tile.rows; r += kWarps) {
      const int sample = r / tile.rows, row = r - sample * tile.rows;
      const float* x = patch + 4 * (sample * call.patch.rows + row * kStride) * call.patch.columns;
      const float* gradient = dy + (sample * call.tiles.rows + row) * call.tiles.columns * kMade;
      float2 seen[kWindow][kWindow];  // column q of the patch in place q % 3
      SIMT_UNROLL
      for (int i = 0; i < kWindow; ++i) SIMT_UNROLL
      for (int q = 0; q < kWindow - kStride; ++q) seen[i][q] = simt::load2(x + 4 * (i * call.patch.columns + q));
      for (int j = 0; j < tile.columns; j += kWindow) {
        SIMT_UNROLL
        for (int u = 0; u < kWindow; ++u) {
          if (j + u >= tile.columns) break;
          SIMT_UNROLL
          for (int i = 0; i < kWindow; ++i) SIMT_UNROLL
          for (int s = kWindow - kStride; s < kWindow; ++s)
            seen[i][(u * kStride + s) % kWindow] =
                simt::load2(x + 4 * (i * call.patch.columns + (j + u) * kStride + s));
          const float4 four = simt::load4(gradient + (j + u) * kMade);
          const float d[4] = {four.x, four.y, four.z, four.w};
          SIMT_UNROLL
          for (int k = 0; k < 4; ++k) SIMT_UNROLL
          for (int tap = 0; tap < kTaps; ++tap) {
            const float2 value = seen[tap / kWindow][(u * kStride + tap % kWindow) % kWindow];
            sums[(2 * k) * kTaps + tap] = fmaf(d[k], value.x, sums[(2 * k) * kTaps + tap]);
            sums[(2 * k + 1) * kTaps + tap] = fmaf(d[k], value.y, sums[(2 * k + 1) * kTaps + tap]);
          }
        }
      }
    }
  }

  join_warps(sums, warp, lane, shared);
  // As they lie in the gradient: taps of neighbouring input channels side by side.
  constexpr int kRun = kSlidingRead * kTaps;
  if (warp == 0) SIMT_UNROLL
  for (int k = 0; k < 4; ++k) SIMT_UNROLL
  for (int i = 0; i < 2 * kTaps; ++i)
    shared[(lane / 4 * 4 + k) * kRun + lane % 4 * 2 * kTaps + i] = sums[k * 2 * kTaps + i];
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < kMade * kRun; e += kThreads) {
    const int k = block.made + e / kRun, i = block.read * kTaps + e % kRun;
    if (k < call.dy.channels && i < call.x.channels * kTaps)
      write_sum(call, block.split, static_cast<std::int64_t>(k) * call.made_pitch + i, shared[e]);
  }
}

constexpr int kTapRead = 32;

// One tap: a product of two matrices, pixels times channels.
__global__ void __launch_bounds__(kThreads, 2) tap_weights_kernel(WeightsConvolution call) {
  static_assert(kTapRead == kMade);
  constexpr int kValues = 32;  // eight output channels times four input channels
  SIMT_DYN_SHARED(float, shared);
  const int taps = call.window_rows * call.window_columns;
  const WeightsBlock block = weights_block(call, kTapRead, taps);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int pixels = call.tiles.samples * static_cast<int>(call.tile_pixels.divisor), rows_floats = pixels * kMade;
  const auto tile_of = [&](int t) { return tile_at(call.tiles, t, call.samples, call.dy.rows, call.dy.columns); };
  const auto rows_of_x = [&](const PixelTile& tile) {
    return PixelRows{call.x, block.read, call.stride,
                     tile.row * call.stride - call.pad + block.tap / call.window_columns,
                     tile.column * call.stride - call.pad + block.tap % call.window_columns};
  };
  const auto buffer_of = [&](int t) { return shared + t % 2 * 2 * rows_floats; };
  const auto copy = [&](int t) {
    const PixelTile tile = tile_of(t);
    copy_rows(call, tile, rows_of_x(tile), buffer_of(t));
    copy_rows(call, tile, rows_of_dy(call, tile, block.made), buffer_of(t) + rows_floats);
  };

  float sums[kValues] = {};  // [output channel][input channel]
  copy(block.tile);
  for (int t = block.tile; t < block.last_tile; ++t) {
    float* buffer = buffer_of(t);
    wait_for_copies();
    if (call.prologue.scale != nullptr) {
      const PixelTile tile = tile_of(t);
      visit_rows(call, tile, rows_of_x(tile), buffer, [&](float* at, std::int64_t, int sample, int c, bool exists) {
        if (exists) prepare_channels<false>(call.x, call.prologue, at, sample, c);
      });
    }
    __syncthreads();
    if (t + 1 < block.last_tile) copy(t + 1);
    const float* x = buffer + lane % 8 * 4;
    const float* dy = buffer + rows_floats + lane / 8 * 4;
    for (int p = warp; p < pixels; p += kWarps) {
      const float4 value = simt::load4(x + p * kTapRead);
      SIMT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float4 four = simt::load4(dy + p * kMade + half * 16);
        const float d[4] = {four.x, four.y, four.z, four.w};
        SIMT_UNROLL
        for (int k = 0; k < 4; ++k) {
          float* sum = sums + (half * 4 + k) * 4;
          sum[0] = fmaf(d[k], value.x, sum[0]);
          sum[1] = fmaf(d[k], value.y, sum[1]);
          sum[2] = fmaf(d[k], value.z, sum[2]);
          sum[3] = fmaf(d[k], value.w, sum[3]);
        }
      }
    }
  }

  join_warps(sums, warp, lane, shared);
  if (warp != 0) return;
  SIMT_UNROLL
  for (int i = 0; i < kValues; ++i) {
    const int k = block.made + i / 16 * 16 + lane / 8 * 4 + i / 4 % 4, c = block.read + lane % 8 * 4 + i % 4;
    if (k < call.dy.channels && c < call.x.channels)
      write_sum(call, block.split, static_cast<std::int64_t>(k) * call.made_pitch + c * taps + block.tap, sums[i]);
  }
}

// dw = [added +] the partial sums in order: 32 values a block, whose splits eight threads each sum in turn.
__global__ void join_splits_kernel(const float* partials, int splits, std::int64_t run, std::int64_t rows,
                                   std::int64_t pitch, const float* added, float* dw) {
  constexpr int kParts = kThreads / 32;
  SIMT_SHARED(float, parts, [kParts][32]);
  const int lane = static_cast<int>(threadIdx.x) % 32, part = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t count = run * rows, i = static_cast<std::int64_t>(blockIdx.x) * 32 + lane;
  float sum = 0;
  if (i < count)
    for (int s = part; s < splits; s += kParts) sum += partials[s * count + i];
  parts[part][lane] = sum;
  __syncthreads();
  if (part != 0 || i >= count) return;
  for (int p = 1; p < kParts; ++p) sum += parts[p][lane];
  const std::int64_t at = i / run * pitch + i % run;
  dw[at] = added != nullptr ? sum + added[at] : sum;
}

// Host side.

bool slides(const ConvolutionGeometry& g) { return g.r == 3 && g.s == 3 && (g.stride == 1 || g.stride == 2); }

PixelTiles tiles_of_pixels(const ConvolutionGeometry& g) {
  return slides(g) ? pixel_tiles(g.n, g.out_h, g.out_w, kTilePixels, g.stride, 3, 3)
                   : pixel_tiles(g.n, g.out_h, g.out_w, kTilePixels, 1, 1, 1);
}

std::int64_t blocks_of_split(const ConvolutionGeometry& g, int channels) {
  const std::int64_t made = tiles_of(g.k, kMade);
  return slides(g) ? made * tiles_of(channels, kSlidingRead) : made * tiles_of(channels, kTapRead) * g.r * g.s;
}

Bytes bytes_of_split(const ConvolutionGeometry& g, int channels) {
  return Bytes{std::int64_t{4} * g.k * channels * g.r * g.s};
}

// In units of one block's time for one tile, alone on its multiprocessor. Two there take less than twice as long.
double time_of_splits(const ConvolutionGeometry& g, int channels, int splits) {
  constexpr double kBesideAnother = 0.65, kPerBlock = 1, kJoining = 2, kBytesPerTile = 2e6;
  const double tiles = tiles_of(tiles_of_pixels(g).count(), splits) + kPerBlock;
  const std::int64_t blocks = tiles_of(blocks_of_split(g, channels) * splits, std::int64_t{kMultiprocessors});
  const double joining =
      splits == 1 ? 0 : kJoining + static_cast<double>(bytes_of_split(g, channels).value) * splits / kBytesPerTile;
  return (blocks == 1 ? tiles : kBesideAnother * static_cast<double>(blocks) * tiles) + joining;
}

// The quickest whose partial sums are so many bytes.
int splits_within(const ConvolutionGeometry& g, int channels, Bytes limit) {
  const std::int64_t tiles = tiles_of_pixels(g).count();
  const std::int64_t most = std::min({tiles, limit.value / bytes_of_split(g, channels).value,
                                      tiles_of<std::int64_t>(4 * kMultiprocessors, blocks_of_split(g, channels))});
  int best = 1;
  for (int splits = 2; splits <= most; ++splits)
    if (time_of_splits(g, channels, splits) < time_of_splits(g, channels, best)) best = splits;
  return best;
}

constexpr Bytes kModest{1280 * 1024}, kGenerous{64 * 1024 * 1024};

}  // namespace

int default_splits(const ConvolutionGeometry& g, int channels) { return splits_within(g, channels, kModest); }
int most_splits(const ConvolutionGeometry& g, int channels) { return splits_within(g, channels, kGenerous); }

Bytes backward_weights_workspace(const ConvolutionGeometry& g, int channels, int splits) {
  return splits == 1 ? Bytes{} : bytes_of_split(g, channels) * splits;
}

int splits_of(const OpShape& shape, const ConvolutionGeometry& g, int channels) {
  if (shape.attributes.count(kSplits) == 0) return default_splits(g, channels);
  const std::int64_t wanted = int_attribute(shape.attributes, kSplits), tiles = tiles_of_pixels(g).count();
  return static_cast<int>(std::clamp<std::int64_t>(wanted, 1, tiles));
}

std::vector<Attributes> more_splits(const OpShape& shape, const ConvolutionGeometry& g, int channels) {
  std::vector<Attributes> more;
  int splits = splits_of(shape, g, channels);
  for (Bytes limit = kModest * 2; limit <= kGenerous; limit = limit * 2) {
    const int wider = splits_within(g, channels, limit);
    if (wider <= splits) continue;
    splits = wider;
    more.push_back(shape.attributes);
    more.back()[kSplits] = std::int64_t{splits};
  }
  return more;
}

double idle_share_of_splits(const ConvolutionGeometry& g, int channels, int splits) {
  return time_of_splits(g, channels, splits) / time_of_splits(g, channels, most_splits(g, channels)) - 1;
}

void convolve_backward_weights(const BackwardWeightsConvolution& b, cudaStream_t stream) {
  const ConvolutionGeometry& g = b.geometry;
  const int channels = (b.c_end != 0 ? b.c_end : g.c) - b.c_begin, taps = g.r * g.s;
  WeightsConvolution call{};
  const float* x = b.x + b.c_begin;
  call.x = {x, g.h, g.w, channels, g.c, moves_by_four(x, g.c, channels) ? 1 : 0};
  call.prologue = b.prologue;
  if (call.prologue.scale != nullptr) {
    call.prologue.scale += b.c_begin;
    call.prologue.shift += b.c_begin;
  }
  call.dy = {b.dy, g.out_h, g.out_w, g.k, g.k, moves_by_four(b.dy, g.k, g.k) ? 1 : 0};
  call.tiles = tiles_of_pixels(g);
  call.tile_columns = SmallDivisor::of(call.tiles.columns);
  call.tile_pixels = SmallDivisor::of(call.tiles.rows * call.tiles.columns);
  call.samples = g.n;
  call.window_rows = g.r;
  call.window_columns = g.s;
  call.stride = g.stride;
  call.pad = g.pad;
  call.made_tiles = tiles_of(g.k, kMade);
  call.splits = b.splits;
  float* dw = b.dw + std::int64_t{b.c_begin} * taps;
  const float* added = b.added != nullptr ? b.added + std::int64_t{b.c_begin} * taps : nullptr;
  const bool joins = b.splits > 1;
  call.sums = joins ? floats(b.workspace) : dw;
  call.added = joins ? nullptr : added;
  call.made_pitch = (joins ? channels : g.c) * taps;
  call.split_pitch = std::int64_t{g.k} * channels * taps;

  const std::int64_t blocks = blocks_of_split(g, channels) * b.splits;
  const int pixels = call.tiles.samples * call.tiles.rows * call.tiles.columns;
  const auto shared = [&](std::int64_t buffer, std::int64_t values) {
    return static_cast<std::size_t>(4 * std::max(2 * buffer, values * 32 * kWarps / 2));
  };
  if (slides(g)) {
    call.patch = PatchShape::of(call.tiles, g.stride, 1, 3, 3, kSlidingRead);
    call.read_tiles = tiles_of(channels, kSlidingRead);
    const std::size_t bytes = shared(std::int64_t{kSlidingRead} * call.patch.plane + pixels * kMade, 8 * taps);
    simt::launch(g.stride == 1 ? sliding_weights_kernel<1> : sliding_weights_kernel<2>, blocks, kThreads, bytes, stream,
                 call);
  } else {
    call.read_tiles = tiles_of(channels, kTapRead);
    simt::launch(tap_weights_kernel, blocks, kThreads, shared(std::int64_t{2} * pixels * kMade, 32), stream, call);
  }
  if (!joins) return;
  const std::int64_t run = std::int64_t{channels} * taps;
  simt::launch(join_splits_kernel, tiles_of<std::int64_t>(run * g.k, 32), kThreads, 0, stream, floats(b.workspace),
               b.splits, run, std::int64_t{g.k}, std::int64_t{g.c} * taps, added, dw);
}

}  // namespace thimble
