// Dynamic convolution on CUDA. A block that has a whole sentence of a head makes both gradients at once: that of the
// logits may lie over them, and nobody else reads these. Where a sentence has several tiles, the gradient of x is that
// of tap_convolution.cu, and the gradient of the logits, of which it reads those of a whole window, comes after it.
#include "tap_gradient.h"

namespace thimble {
namespace {

/// From the gradients of its softmax to those of a row's logits.
__device__ inline void store_logits_gradient(const TapField& f, const TapGradients& gradients, int row, bool there,
                                             const RowsOfTaps& rows, float* to) {
  float softmax[kLaneTaps] = {}, passed[kLaneTaps] = {}, mean = 0;
  SIMT_UNROLL
  for (int i = 0; i < kLaneTaps; ++i) {
    const int k = rows.tap() + 32 * i;
    if (!there || k >= f.kernel) continue;
    softmax[i] = gradients.softmax(row, k);
    passed[i] = gradients.passed(row, k);
    mean = fmaf(softmax[i], passed[i], mean);
  }
  for (int h = rows.lanes() / 2; h > 0; h /= 2) mean += __shfl_xor_sync(kWholeWarp, mean, h);
  SIMT_UNROLL
  for (int i = 0; i < kLaneTaps; ++i)
    if (row < f.room && rows.tap() + 32 * i < f.kernel) to[rows.tap() + 32 * i] = softmax[i] * (passed[i] - mean);
}

template <int V, bool kAligned>
__global__ void __launch_bounds__(kMostTileRows / kWarpRows * 32, V == 4 ? 3 : 4)
    dynamic_gradients_kernel(TapField f, const float* dy, const float* x, float* dx, float* dlogits) {
  SIMT_DYN_SHARED(float, shared);
  const GradientSpace space = GradientSpace::at<V>(f, shared);
  if (tile_of_block() >= f.all_tiles) return;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  const TapTile tile = TapTile::of(f, tile_of_block(), static_cast<int>(blockIdx.x), true);
  make_gradients<V, kAligned>(f, tile, dy, x, dx, space);

  const RowsOfTaps rows = RowsOfTaps::of(f);
  float* to = dlogits + tile.sentence * f.sentence_logits + tile.head * f.kernel;
  for (int next = warp * rows.at_once(); next < f.room; next += warps * rows.at_once()) {
    const int row = next + rows.row();
    store_logits_gradient(f, space.gradients, row, row < tile.length, rows, to + row * f.row_logits);
  }
}

/// The gradient of what the taps of a tile's rows were multiplied by: gradient[r * kernel + k] for the four rows r of
/// the calling warp (its own part of shared memory). Zero for rows that are not there. All threads of a block call it.
template <int V, bool kAligned>
__device__ inline void tile_gradient(const TapField& f, const TapTile& tile, const float* dy, const float* x,
                                     float* staged, float* gradient) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = tile.first + static_cast<int>(threadIdx.x) / 32 * kWarpRows;  // the warp's first
  const int start = row - tile.before;
  const int low = max(0, start), high = row < tile.length ? min(tile.length, start + TapBand::steps_of(f)) : 0;
  for (int i = lane; i < kWarpRows * f.kernel; i += 32) gradient[i] = 0;
  const std::int64_t at = f.first_channel(tile.sentence, tile.head);
  const HeldPair pair = HeldPair::of(lane);
  for (int chunk = 0; chunk < f.chunks; ++chunk) {
    const int channel = (chunk * 32 + lane) * V;
    __syncthreads();  // what was staged before has been read, gradients are zero
    stage_rows<V, kAligned>(f, x + at, tile.begin, tile.end, channel, staged);
    Unit<V> held[kWarpRows];
    load_held_rows<V, kAligned>(f, dy + at, row, tile.length, channel, held);
    wait_for_copies();
    __syncthreads();
    for (int s = low; s < high; s += kOthers) {
      float products[kOthers] = {};
      SIMT_UNROLL
      for (int j = 0; j < kOthers; ++j)
        if (s + j < high)
          products[j] = held_product(held, load_unit<V>(staged + ((s + j - tile.begin) * 32 + lane) * V));
      const float product = HeldPair::sum(products);
      const int source = s + pair.other, k = source - start - pair.held;
      if (pair.is_first && source < high && k >= 0 && k < f.kernel) gradient[pair.held * f.kernel + k] += product;
    }
  }
  __syncwarp();
}

template <int V, bool kAligned>
__global__ void __launch_bounds__(kMostTileRows / kWarpRows * 32, 3)
    dynamic_taps_backward_kernel(TapField f, const float* dy, const float* x, float* dlogits) {
  SIMT_DYN_SHARED(float, staged);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  float* const gradient = staged + f.window * 32 * V + warp * kWarpRows * f.kernel;
  if (tile_of_block() >= f.all_tiles) return;
  const TapTile tile = TapTile::of(f, tile_of_block(), static_cast<int>(blockIdx.x), false);
  if (tile.first < tile.length) tile_gradient<V, kAligned>(f, tile, dy, x, staged, gradient);

  // Only the lanes of a row read its logits, all before the first of them writes.
  const int part = lane & (f.lanes() - 1);
  for (int next = 0; next < kWarpRows; next += 32 >> f.lanes_log) {
    const int r = next + (lane >> f.lanes_log), row = tile.first + warp * kWarpRows + r;
    const bool there = r < kWarpRows && row < tile.length;
    const FourTaps taps = row_taps(f, tile.sentence, tile.head, row, part, there);
    float passed[4], mean = 0;
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int k = 4 * part + i;
      passed[i] = there && k < f.kernel ? taps.factor[i] * gradient[r * f.kernel + k] : 0.0f;
      mean = fmaf(taps.softmax[i], passed[i], mean);
    }
    for (int h = f.lanes() / 2; h > 0; h /= 2) mean += __shfl_xor_sync(kWholeWarp, mean, h);
    float* to = dlogits + tile.sentence * f.sentence_logits + row * f.row_logits + tile.head * f.kernel;
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i)
      if (r < kWarpRows && row < f.room && 4 * part + i < f.kernel)
        to[4 * part + i] = there ? taps.softmax[i] * (passed[i] - mean) : 0.0f;
  }
}

void forward(const OpShape& shape, const KernelArguments& a) { launch_tap_rows(tap_field(shape, a, 0), a, false); }

void backward(const OpShape& shape, const KernelArguments& a) {
  const TapField field = tap_field(shape, a, 1);
  const dim3 grid = tap_grid(field, field.heads);
  const int threads = field.tile / kWarpRows * 32;
  const float *dy = floats(a.inputs[0]), *x = floats(a.inputs[1]);
  float *dx = floats(a.outputs[0]), *dlogits = floats(a.outputs[1]);
  if (field.tiles == 1) {
    with_unit(field, [&](auto unit, auto aligned) {
      simt::launch(dynamic_gradients_kernel<unit(), aligned()>, grid, threads, GradientSpace::bytes(field),
                   stream_of(a), field, dy, x, dx, dlogits);
    });
    return;
  }
  launch_tap_rows(field, a, true);
  const std::size_t shared = staged_bytes(field) + sizeof(float) * static_cast<std::size_t>(field.tile * field.kernel);
  with_unit(field, [&](auto unit, auto aligned) {
    simt::launch(dynamic_taps_backward_kernel<unit(), aligned()>, grid, threads, shared, stream_of(a), field, dy, x,
                 dlogits);
  });
}

}  // namespace

void register_dynamic_conv_cuda(OpRegistry& registry) {
  registry.add_kernels("dynamic_conv", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels("dynamic_conv_backward", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
