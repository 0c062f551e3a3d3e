// Weights' gradients of convolutions on tensor cores: dy's channels times x's, eight pixels at a time, for every tap of
// a window of 3x3, or for one of another window's.
#include "convolution_weights.h"
#include "tensor_product.h"

namespace thimble {
namespace {

// A warp makes kMadeOfWarp x 8 * kEights channels of every tap; two warps lie along dy's channels, two along x's, and
// two such groups take pixels in turn.
constexpr int kMadeOfWarp = 32, kMade = 2 * kMadeOfWarp, kGroups = 2;
constexpr int kPitch = kMade + 8;  // of dy's pixels: lanes read four of them, eight channels each, in other banks

template <int kWindow, int kEights>
__global__ void __launch_bounds__(kThreads, 2) tensor_weights_kernel(WeightsConvolution call) {
  constexpr int kTaps = kWindow * kWindow, kRows = kMadeOfWarp / 16, kReadOfWarp = 8 * kEights, kRead = 2 * kReadOfWarp;
  constexpr int kValues = kTaps * kEights * kRows * 4;
  SIMT_DYN_SHARED(float, shared);
  const WeightsBlock block = weights_block(call, {kMade, kRead, kTaps});
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int made = warp % 2 * kMadeOfWarp, read = warp / 2 % 2 * kReadOfWarp, group = warp / 4;
  const auto tile_of = [&](int t) { return tile_at(call.tiles, t, call.samples, call.dy.rows, call.dy.columns); };
  const auto place_of = [&](const PixelTile& tile) {
    return PatchPlace{tile.sample, tile.samples, tile.row * call.stride - call.pad + block.tap / call.window_columns,
                      tile.column * call.stride - call.pad + block.tap % call.window_columns};
  };
  const auto buffer_of = [&](int t) { return shared + t % 2 * call.buffer_floats; };
  const auto copy = [&](int t) {
    const PixelTile tile = tile_of(t);
    copy_patch(call.x, call.patch, place_of(tile), block.read, buffer_of(t));
    copy_rows<kMade, kPitch>(call, tile, rows_of_dy(call, tile, block.made), buffer_of(t) + call.patch_floats);
  };
  const int tile_pixels = static_cast<int>(call.tile_pixels.divisor), pixels = call.tiles.samples * tile_pixels;
  const int step = call.patch.tile_step / call.patch.spacing;

  float sums[kValues] = {};  // [tap][eight][sixteen of dy's channels][of a product]
  copy(block.tile);
  for (int t = block.tile; t < block.last_tile; ++t) {
    const PixelTile tile = tile_of(t);
    float* buffer = buffer_of(t);
    wait_for_copies();
    prepare_patch<true>(call.x, call.prologue, call.patch, place_of(tile), block.read, buffer);
    visit_rows<kMade, kPitch>(call, tile, rows_of_dy(call, tile, block.made), buffer + call.patch_floats,
                              [](float* at, std::int64_t, int, int, bool) {
                                const float4 v = simt::load4(at);
                                simt::store4(at, make_float4(to_tf32(v.x), to_tf32(v.y), to_tf32(v.z), to_tf32(v.w)));
                              });
    __syncthreads();
    if (t + 1 < block.last_tile) copy(t + 1);
    const float* dy = buffer + call.patch_floats + made + lane / 4;
    const float* x = buffer + read * call.patch.plane + lane / 16 * 4 * call.patch.plane + lane / 4 % 4;
    for (int first = 8 * group; first < pixels; first += 8 * kGroups) {
      float left[kRows][4];
      int seen[2];
      SIMT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int p = first + 4 * half + lane % 4;
        const int sample = call.tile_pixels.quotient(p), inside = p - sample * tile_pixels;
        const int row = call.tile_columns.quotient(inside), column = inside - row * call.tiles.columns;
        const bool exists = sample < tile.samples;
        seen[half] = exists ? 4 * (sample * static_cast<int>(call.patch.per_sample.divisor) +
                                   (row * call.patch.columns + column) * step)
                            : 0;
        SIMT_UNROLL
        for (int m = 0; m < kRows; ++m) {
          left[m][2 * half] = exists ? dy[p * kPitch + 16 * m] : 0.0f;
          left[m][2 * half + 1] = exists ? dy[p * kPitch + 16 * m + 8] : 0.0f;
        }
      }
      SIMT_UNROLL
      for (int tap = 0; tap < kTaps; ++tap) {
        const int moved = 4 * (tap / kWindow * call.patch.columns + tap % kWindow);
        SIMT_UNROLL
        for (int e = 0; e < kEights; ++e) {
          const float* from = x + 8 * e * call.patch.plane + moved;
          const float right[2] = {from[seen[0]], from[seen[1]]};
          SIMT_UNROLL
          for (int m = 0; m < kRows; ++m)
            add_tensor_product(sums + 4 * ((tap * kEights + e) * kRows + m), left[m], right);
        }
      }
    }
  }

  join_sums<kGroups>(sums, shared);
  if (group == 0) {
    SIMT_UNROLL
    for (int i = 0; i < kValues; ++i) {
      const int k = made + i / 4 % kRows * 16 + i / 2 % 2 * 8 + lane / 4;
      const int c = read + i / (4 * kRows) % kEights * 8 + lane % 4 * 2 + i % 2, tap = i / (4 * kRows * kEights);
      shared[(k * kRead + c) * kTaps + tap] = sums[i];
    }
  }
  __syncthreads();
  write_sums<kMade, kRead, kTaps>(call, block, shared);
}

template <int kWindow, int kEights>
void launch(WeightsConvolution call, int stride, std::int64_t blocks, cudaStream_t stream) {
  constexpr int kRead = 16 * kEights, kTaps = kWindow * kWindow;
  const int step = kWindow == 1 ? 1 : stride;
  call.patch = PatchShape::of(call.tiles, step, stride / step, kWindow, kWindow, kRead);
  call.patch_floats = kRead * call.patch.plane;
  call.buffer_floats = call.patch_floats + kPitch * call.tiles.samples * call.tiles.rows * call.tiles.columns;
  const int result = kMade * kRead * kTaps;
  const auto shared = static_cast<std::size_t>(4 * std::max(2 * call.buffer_floats, result));
  simt::launch(tensor_weights_kernel<kWindow, kEights>, blocks, kThreads, shared, stream, call);
}

}  // namespace

void launch_tensor_weights(WeightsConvolution call, const ConvolutionGeometry& g, std::int64_t blocks,
                           cudaStream_t stream) {
  if (makes_whole_window(g)) return launch<3, 1>(call, g.stride, blocks, stream);
  launch<1, 4>(call, g.stride, blocks, stream);
}

}  // namespace thimble
