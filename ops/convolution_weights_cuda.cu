// Weights' gradients of convolutions in floats, and the door to both maths.
//
// A window of 3x3 slides along a row: a thread keeps all nine taps of four outputs and two inputs, and the window's
// values in registers, of which one column is new from pixel to pixel. Other windows are made a tap at a time.
#include "convolution_weights.h"

namespace thimble {
namespace {

constexpr int kMade = 32;

template <int kStride>
__global__ void __launch_bounds__(kThreads, 2) sliding_weights_kernel(WeightsConvolution call) {
  constexpr int kWindow = 3, kTaps = kWindow * kWindow, kValues = 8 * kTaps;
  constexpr int kRead = 8;
  SIMT_DYN_SHARED(float, shared);
  const WeightsBlock block = weights_block(call, {kMade, kRead, kTaps});
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float sums[kValues] = {};  // [output channel][input channel][tap]
  multiply_tiles<false>(call, block, shared, [&](const PixelTile& tile, const float* patch, const float* dy) {
    patch += lane % 4 / 2 * call.patch.shared.quad_pitch + lane % 2 * 2;
    dy += lane / 4 * 4;
    for (int r = warp; r < tile.samples * tile.rows; r += kWarps) {
      const int sample = r / tile.rows, row = r - sample * tile.rows;
      const float* x = patch + 4 * (sample * call.patch.rows + row * kStride) * call.patch.columns;
      const float* gradient = dy + (sample * call.tiles.rows + row) * call.tiles.columns * kMade;
      float2 seen[kWindow][kWindow];  // column q of the patch in place q % 3
      SIMT_UNROLL
      for (int i = 0; i < kWindow; ++i) {
        SIMT_UNROLL
        for (int q = 0; q < kWindow - kStride; ++q) seen[i][q] = simt::load2(x + 4 * (i * call.patch.columns + q));
      }
      for (int j = 0; j < tile.columns; j += kWindow) {
        SIMT_UNROLL
        for (int u = 0; u < kWindow; ++u) {
          if (j + u >= tile.columns) break;
          SIMT_UNROLL
          for (int i = 0; i < kWindow; ++i) {
            SIMT_UNROLL
            for (int s = kWindow - kStride; s < kWindow; ++s)
              seen[i][(u * kStride + s) % kWindow] =
                  simt::load2(x + 4 * (i * call.patch.columns + (j + u) * kStride + s));
          }
          const float4 four = simt::load4(gradient + (j + u) * kMade);
          const float d[4] = {four.x, four.y, four.z, four.w};
          SIMT_UNROLL
          for (int k = 0; k < 4; ++k) {
            SIMT_UNROLL
            for (int tap = 0; tap < kTaps; ++tap) {
              const float2 value = seen[tap / kWindow][(u * kStride + tap % kWindow) % kWindow];
              sums[2 * k * kTaps + tap] = fmaf(d[k], value.x, sums[2 * k * kTaps + tap]);
              sums[(2 * k + 1) * kTaps + tap] = fmaf(d[k], value.y, sums[(2 * k + 1) * kTaps + tap]);
            }
          }
        }
      }
    }
  });

  join_sums<kWarps>(sums, shared);
  if (warp == 0) {
    SIMT_UNROLL
    for (int i = 0; i < kValues; ++i) {
      const int made = lane / 4 * 4 + i / (2 * kTaps);
      shared[made * kRead * kTaps + lane % 4 * 2 * kTaps + i % (2 * kTaps)] = sums[i];
    }
  }
  __syncthreads();
  write_sums<kMade, kRead, kTaps>(call, block, shared);
}

// One tap: a product of two matrices, pixels times channels.
__global__ void __launch_bounds__(kThreads, 2) tap_weights_kernel(WeightsConvolution call) {
  constexpr int kRead = 32, kValues = 32;  // eight output channels times four input channels
  SIMT_DYN_SHARED(float, shared);
  const WeightsBlock block = weights_block(call, {kMade, kRead, 1});
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int pixels = call.made_pixels.pixels;
  float sums[kValues] = {};  // [output channel][input channel]
  multiply_tiles<false>(call, block, shared, [&](const PixelTile&, const float* x, const float* dy) {
    x += lane % 8 * 4;
    dy += lane / 8 * 4;
    for (int p = warp; p < pixels; p += kWarps) {
      const float4 value = simt::load4(x + p * kRead);
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
  });

  join_sums<kWarps>(sums, shared);
  if (warp == 0) {
    SIMT_UNROLL
    for (int i = 0; i < kValues; ++i)
      shared[(i / 16 * 16 + lane / 8 * 4 + i / 4 % 4) * kRead + lane % 8 * 4 + i % 4] = sums[i];
  }
  __syncthreads();
  write_sums<kMade, kRead, 1>(call, block, shared);
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

void launch_float_weights(WeightsConvolution call, const ConvolutionGeometry& g, std::int64_t blocks,
                          cudaStream_t stream) {
  const int pixels = call.tiles.samples * call.tiles.rows * call.tiles.columns;
  const bool slides = makes_whole_window(g);
  call.made_pixels = {pixels, 3, kMade, 4};
  if (slides) {
    call.patch = PatchShape::of(call.tiles, g.stride, 1, 3, 3, 8);
  } else {
    call.patch = PatchShape::of(call.tiles, 1, g.stride, 1, 1, 32);
    call.patch.shared = {pixels, 3, 32, 4};
  }
  call.x_floats = static_cast<int>(call.patch.shared.floats());
  call.buffer_floats = call.x_floats + static_cast<int>(call.made_pixels.floats());
  call.prologue.per_sample = SmallDivisor::of(call.patch.rows * call.patch.columns);
  const std::int64_t joining = std::int64_t{4} * (slides ? 72 : 32) * kThreads / 2;
  const auto shared = static_cast<std::size_t>(std::max(weights_shared_bytes(call), joining));
  simt::launch(!slides         ? tap_weights_kernel
               : g.stride == 1 ? sliding_weights_kernel<1>
                               : sliding_weights_kernel<2>,
               blocks, kThreads, shared, stream, call);
}

}  // namespace

void convolve_backward_weights(const BackwardWeightsConvolution& b, cudaStream_t stream) {
  const ConvolutionGeometry& g = b.geometry;
  const int channels = (b.c_end != 0 ? b.c_end : g.c) - b.c_begin, taps = g.r * g.s;
  WeightsConvolution call{};
  const float* x = b.x + b.c_begin;
  call.x = {x, g.h, g.w, channels, g.c, moves_by_four(x, g.c, channels) ? 1 : 0};
  call.prologue = PatchPrologue::of(b.prologue, b.c_begin);
  call.dy = {b.dy, g.out_h, g.out_w, g.k, g.k, moves_by_four(b.dy, g.k, g.k) ? 1 : 0};
  call.tiles = weights_tiles(g);
  call.samples = g.n;
  call.window_rows = g.r;
  call.window_columns = g.s;
  call.stride = g.stride;
  call.pad = g.pad;
  const WeightsParts parts = weights_parts(g, channels, b.math);
  call.made_tiles = tiles_of(g.k, parts.made);
  call.read_tiles = tiles_of(channels, parts.read);
  call.splits = b.splits;
  float* dw = b.dw + std::int64_t{b.c_begin} * taps;
  const float* added = b.added != nullptr ? b.added + std::int64_t{b.c_begin} * taps : nullptr;
  const bool joins = b.splits > 1;
  call.sums = joins ? floats(b.workspace) : dw;
  call.added = joins ? nullptr : added;
  call.made_pitch = (joins ? channels : g.c) * taps;
  call.split_pitch = std::int64_t{g.k} * channels * taps;

  const std::int64_t blocks = std::int64_t{call.made_tiles} * call.read_tiles * (taps / parts.taps) * b.splits;
  if (b.math == ConvolutionMath::tf32)
    launch_tensor_weights(call, g, parts, blocks, stream);
  else
    launch_float_weights(call, g, blocks, stream);
  if (!joins) return;
  const std::int64_t run = std::int64_t{channels} * taps;
  simt::launch(join_splits_kernel, tiles_of<std::int64_t>(run * g.k, 32), kThreads, 0, stream, floats(b.workspace),
               b.splits, run, std::int64_t{g.k}, std::int64_t{g.c} * taps, added, dw);
}

}  // namespace thimble
