// Weights' gradients of convolutions on tensor cores: dy's channels times x's, eight pixels at a time, for every tap of
// a window of 3x3, or for one of another window's. Pixels that a tile lacks are zeros on both sides.
#include "convolution_weights.h"
#include "tensor_product.h"

namespace thimble {
namespace {

// A warp makes kMadeOfWarp x 8 * kEights channels of every tap. So many warps lie along dy's channels and along x's;
// groups of such warps take pixels in turn.
constexpr int kMadeOfWarp = 32;

template <int kWindow, int kEights, int kMadeWarps, int kReadWarps>
struct TensorParts {
  static constexpr int kTaps = kWindow * kWindow, kGroups = kWarps / (kMadeWarps * kReadWarps);
  static constexpr int kReadOfWarp = 8 * kEights, kRead = kReadWarps * kReadOfWarp, kMade = kMadeWarps * kMadeOfWarp;
  static constexpr int kPitch = kMade + 8;  // of dy's pixels: lanes read four of them, eight channels each
  static constexpr int kRows = kMadeOfWarp / 16, kValues = kTaps * kEights * kRows * 4;
};

template <int kWindow, int kEights, int kMadeWarps, int kReadWarps>
__global__ void __launch_bounds__(kThreads, 2) tensor_weights_kernel(WeightsConvolution call) {
  using Parts = TensorParts<kWindow, kEights, kMadeWarps, kReadWarps>;
  constexpr int kRows = Parts::kRows, kTaps = Parts::kTaps, kPitch = Parts::kPitch;
  SIMT_DYN_SHARED(float, shared);
  const WeightsBlock block = weights_block(call, {Parts::kMade, Parts::kRead, kTaps});
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int made = warp % kMadeWarps * kMadeOfWarp, read = warp / kMadeWarps % kReadWarps * Parts::kReadOfWarp;
  const int group = warp / (kMadeWarps * kReadWarps);

  // Where each of dy's pixels lies in x's patch.
  int* places = reinterpret_cast<int*>(dy_table_of(call, shared) + call.made_pixels.pixels);
  const SmallDivisor per_row = SmallDivisor::of(call.tiles.columns);
  const SmallDivisor per_sample = SmallDivisor::of(call.tiles.rows * call.tiles.columns);
  for (int p = static_cast<int>(threadIdx.x); p < call.made_pixels.pixels; p += kThreads) {
    const int sample = per_sample.quotient(p), inside = p - sample * call.tiles.rows * call.tiles.columns;
    const int row = per_row.quotient(inside), column = inside - row * call.tiles.columns;
    const int place = sample * call.patch.pixels_of_sample() + (row * call.patch.columns + column) * call.patch.step;
    places[p] = sample < call.tiles.samples ? 4 * place : 0;
  }

  float sums[Parts::kValues] = {};  // [tap][eight of x's channels][sixteen of dy's][of a product]
  multiply_tiles<true>(call, block, shared, [&](const PixelTile&, const float* x, const float* dy) {
    dy += made + lane / 4;
    x += (read / 4 + lane / 16) * call.patch.shared.quad_pitch + lane / 4 % 4;
    for (int first = 8 * group; first < call.made_pixels.pixels; first += 8 * Parts::kGroups) {
      float left[kRows][4];
      const float* seen[2];
      SIMT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int p = first + 4 * half + lane % 4;
        seen[half] = x + places[p];
        SIMT_UNROLL
        for (int m = 0; m < 2 * kRows; ++m) left[m / 2][2 * half + m % 2] = to_tf32(dy[p * kPitch + 8 * m]);
      }
      SIMT_UNROLL
      for (int tap = 0; tap < kTaps; ++tap) {
        const int moved = 4 * (tap / kWindow * call.patch.columns + tap % kWindow);
        SIMT_UNROLL
        for (int e = 0; e < kEights; ++e) {
          const int at = 2 * e * call.patch.shared.quad_pitch + moved;
          const float right[2] = {seen[0][at], seen[1][at]};
          SIMT_UNROLL
          for (int m = 0; m < kRows; ++m)
            add_tensor_product(sums + 4 * ((tap * kEights + e) * kRows + m), left[m], right);
        }
      }
    }
  });

  join_sums<Parts::kGroups>(sums, shared);
  if (group == 0) {
    SIMT_UNROLL
    for (int i = 0; i < Parts::kValues; ++i) {
      const int k = made + i / 4 % kRows * 16 + i / 2 % 2 * 8 + lane / 4;
      const int c = read + i / (4 * kRows) % kEights * 8 + lane % 4 * 2 + i % 2, tap = i / (4 * kRows * kEights);
      shared[(k * Parts::kRead + c) * kTaps + tap] = sums[i];
    }
  }
  __syncthreads();
  write_sums<Parts::kMade, Parts::kRead, kTaps>(call, block, shared);
}

template <int kWindow, int kEights, int kMadeWarps, int kReadWarps>
void launch(WeightsConvolution call, int stride, std::int64_t blocks, cudaStream_t stream) {
  using Parts = TensorParts<kWindow, kEights, kMadeWarps, kReadWarps>;
  const int step = kWindow == 1 ? 1 : stride, pixels = call.tiles.samples * call.tiles.rows * call.tiles.columns;
  call.patch = PatchShape::of(call.tiles, step, stride / step, kWindow, kWindow, Parts::kRead);
  call.made_pixels = {tiles_of(pixels, 8) * 8, kMadeWarps == 2 ? 4 : 3, Parts::kPitch, 4};
  call.x_floats = static_cast<int>(call.patch.shared.floats());
  call.buffer_floats = call.x_floats + static_cast<int>(call.made_pixels.floats());
  call.prologue.per_sample = SmallDivisor::of(call.patch.rows * call.patch.columns);
  const std::int64_t result = std::int64_t{4} * Parts::kMade * Parts::kRead * Parts::kTaps;
  const std::int64_t joining = std::int64_t{4} * Parts::kValues * kThreads / 2;
  const std::int64_t tiles = weights_shared_bytes(call) + 4 * call.made_pixels.pixels;
  simt::launch(tensor_weights_kernel<kWindow, kEights, kMadeWarps, kReadWarps>, blocks, kThreads,
               static_cast<std::size_t>(std::max({tiles, result, joining})), stream, call);
}

}  // namespace

void launch_tensor_weights(WeightsConvolution call, const ConvolutionGeometry& g, const WeightsParts& parts,
                           std::int64_t blocks, cudaStream_t stream) {
  if (parts.taps == 1) {
    if (parts.made == 64) return launch<1, 4, 2, 2>(call, g.stride, blocks, stream);
    return launch<1, 4, 1, 1>(call, g.stride, blocks, stream);
  }
  if (parts.made == 64) return launch<3, 1, 2, 2>(call, g.stride, blocks, stream);
  if (parts.read == 32) return launch<3, 1, 1, 4>(call, g.stride, blocks, stream);
  launch<3, 1, 1, 2>(call, g.stride, blocks, stream);
}

}  // namespace thimble
