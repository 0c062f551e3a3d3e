// Lightweight convolution on CUDA: the rows are those of tap_convolution.cu. With the gradient of x each block sums
// that of the softmax over some tiles; these sums are added in their order and passed through the softmax at the end.
#include "tap_gradient.h"

namespace thimble {
namespace {

constexpr int kChunks = 1024;  // blocks a head: some for each place on a GPU, so that all end about together

int chunk_count(const TapField& field) { return std::min(field.all_tiles, kChunks); }

template <int V, bool kAligned>
__global__ void __launch_bounds__(kMostTileRows / kWarpRows * 32, V == 4 ? 3 : 4)
    light_gradients_kernel(TapField f, const float* dy, const float* x, float* dx, float* sums) {
  SIMT_DYN_SHARED(float, shared);
  SIMT_SHARED(float, part_sums, [kMostTileRows / kWarpRows][kMostTaps]);
  const GradientSpace space = GradientSpace::at<V>(f, shared);
  const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
  const int head = static_cast<int>(blockIdx.x), chunk = static_cast<int>(blockIdx.y);
  const int chunks = static_cast<int>(gridDim.y);
  const RowsOfTaps rows = RowsOfTaps::of(f);
  float* const totals = part_sums[warp] + static_cast<int>(threadIdx.x) % 32;  // the lane's own, 32 apart
  for (int i = 0; i < kLaneTaps; ++i) totals[32 * i] = 0;
  for (int index = chunk; index < f.all_tiles; index += chunks) {
    if (index != chunk) __syncthreads();  // the last tile's gradients have been read
    const TapTile tile = TapTile::of(f, index, head, true);
    make_gradients<V, kAligned>(f, tile, dy, x, dx, space);
    for (int row = warp * rows.at_once() + rows.row(); row < tile.end - tile.begin; row += warps * rows.at_once())
      SIMT_UNROLL
    for (int i = 0; i < kLaneTaps; ++i)
      if (const int k = rows.tap() + 32 * i; k < f.kernel) totals[32 * i] += space.gradients.passed(row, k);
  }
  SIMT_UNROLL
  for (int i = 0; i < kLaneTaps; ++i) {
    float total = totals[32 * i];
    for (int h = rows.lanes(); h < 32; h *= 2) total += __shfl_xor_sync(kWholeWarp, total, h);
    totals[32 * i] = total;
  }
  __syncthreads();
  const int k = static_cast<int>(threadIdx.x);
  for (int tap = k; tap < f.kernel; tap += static_cast<int>(blockDim.x)) {
    float sum = 0;
    for (int w = 0; w < warps; ++w) sum += part_sums[w][tap];
    sums[(chunk * f.heads + head) * f.kernel + tap] = sum;
  }
}

// A block a head: a warp sums every kWarps-th chunk of each tap, the first warp what these have and passes it on.
constexpr int kWarps = 32;

__global__ void light_finish_kernel(TapField f, const float* sums, float* dweights, int chunks) {
  SIMT_SHARED(float, part_sums, [kWarps][kMostTaps]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int head = static_cast<int>(blockIdx.x);
  for (int tap = lane; tap < f.kernel; tap += 32) {
    float sum = 0;
    for (int chunk = warp; chunk < chunks; chunk += kWarps) sum += sums[(chunk * f.heads + head) * f.kernel + tap];
    part_sums[warp][tap] = sum;
  }
  __syncthreads();
  if (warp != 0) return;
  f.rate = 0;
  const int part = lane & (f.lanes() - 1);
  const FourTaps taps = row_taps(f, 0, head, 0, part, true);
  float passed[4], mean = 0;
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) {
    passed[i] = 0;
    if (4 * part + i < f.kernel)
      for (int w = 0; w < kWarps; ++w) passed[i] += part_sums[w][4 * part + i];
    mean = fmaf(taps.softmax[i], passed[i], mean);
  }
  for (int h = f.lanes() / 2; h > 0; h /= 2) mean += __shfl_xor_sync(kWholeWarp, mean, h);
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i)
    if (lane < f.lanes() && 4 * part + i < f.kernel)
      dweights[head * f.kernel + 4 * part + i] = taps.softmax[i] * (passed[i] - mean);
}

void forward(const OpShape& shape, const KernelArguments& a) { launch_tap_rows(tap_field(shape, a, 0), a, false); }

void backward(const OpShape& shape, const KernelArguments& a) {
  const TapField field = tap_field(shape, a, 1);
  const int chunks = chunk_count(field);
  const dim3 grid(static_cast<unsigned>(field.heads), static_cast<unsigned>(chunks));
  with_unit(field, [&](auto unit, auto aligned) {
    simt::launch(light_gradients_kernel<unit(), aligned()>, grid, field.tile / kWarpRows * 32,
                 GradientSpace::bytes(field), stream_of(a), field, floats(a.inputs[0]), floats(a.inputs[1]),
                 floats(a.outputs[0]), floats(a.workspace));
  });
  simt::launch(light_finish_kernel, field.heads, kWarps * 32, 0, stream_of(a), field, floats(a.workspace),
               floats(a.outputs[1]), chunks);
}

Bytes backward_workspace(const OpShape& shape) {
  return Bytes{4 * std::int64_t{chunk_count(tap_sizes(shape, 1))} * element_count(shape.inputs[2])};
}

}  // namespace

void register_light_conv_cuda(OpRegistry& registry) {
  registry.add_kernels("light_conv", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels(
      "light_conv_backward", kCudaBackend,
      {.workspace = backward_workspace, .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
