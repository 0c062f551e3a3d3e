// Lightweight convolution on CUDA: the rows are those of tap_convolution.cu. The gradient of the softmax is summed over
// some sentences by each block, over the blocks in their order, and passed through the softmax at the end.
#include "tap_kernels.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 128;  // blocks a head

std::int64_t chunk_count(std::int64_t tiles) { return std::min(tiles, kChunks); }

template <int V>
__global__ void __launch_bounds__(kMostTileRows / kWarpRows * 32, 4)
    light_sums_kernel(TapField f, const float* dy, const float* x, float* sums, int all_tiles, int chunks,
                      bool aligned) {
  SIMT_DYN_SHARED(float, staged);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32, part = lane & (f.lanes() - 1);
  float* const gradients = staged + f.window * 32 * V;
  float* const gradient = gradients + warp * kWarpRows * f.kernel;
  const int head = static_cast<int>(blockIdx.x) % f.heads, chunk = static_cast<int>(blockIdx.x) / f.heads;
  float total[4] = {};
  for (int tile = chunk; tile < all_tiles; tile += chunks) {
    const int sentence = tile / f.tiles, first = tile % f.tiles * f.tile, length = f.length(sentence);
    if (first >= length) continue;
    tile_gradient<V>(f, dy, x, sentence, head, first, length, aligned, staged, gradient);
    for (int next = 0; next < kWarpRows; next += 32 >> f.lanes_log) {
      const int r = next + (lane >> f.lanes_log), row = first + warp * kWarpRows + r;
      const bool there = r < kWarpRows && row < length;
      const FourTaps taps = row_taps(f, sentence, head, row, part, there);
      SIMT_UNROLL
      for (int i = 0; i < 4; ++i)
        if (there && 4 * part + i < f.kernel) total[i] += taps.factor[i] * gradient[r * f.kernel + 4 * part + i];
    }
    __syncwarp();  // it is cleared next
  }
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) {
    for (int h = f.lanes(); h < 32; h *= 2) total[i] += __shfl_xor_sync(kWholeWarp, total[i], h);
    if (lane < f.lanes() && 4 * part + i < f.kernel) gradient[4 * part + i] = total[i];
  }
  __syncthreads();
  const int k = static_cast<int>(threadIdx.x);
  for (int tap = k; tap < f.kernel; tap += static_cast<int>(blockDim.x)) {
    float sum = 0;
    for (int w = 0; w < warps; ++w) sum += gradients[w * kWarpRows * f.kernel + tap];
    sums[(chunk * f.heads + head) * f.kernel + tap] = sum;
  }
}

// A block a head: a warp sums every kWarps-th chunk of each tap, the first warp what these have and passes it on.
constexpr int kWarps = 8;

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

void forward(const OpShape& shape, const KernelArguments& a) {
  launch_tap_rows(tap_field(shape, a, 0), shape.inputs[0].shape[0], a, false);
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const TapField field = tap_field(shape, a, 1);
  const std::int64_t sentences = shape.inputs[0].shape[0];
  launch_tap_rows(field, sentences, a, true);
  const std::int64_t tiles = sentences * field.tiles;
  const int chunks = static_cast<int>(chunk_count(tiles));
  const std::size_t shared = staged_bytes(field) + sizeof(float) * static_cast<std::size_t>(field.tile * field.kernel);
  const bool aligned = are_aligned(field, {a.inputs[0], a.inputs[1]});
  with_unit(field, [&](auto unit) {
    simt::launch(light_sums_kernel<unit()>, chunks * field.heads, field.tile / kWarpRows * 32, shared, stream_of(a),
                 field, floats(a.inputs[0]), floats(a.inputs[1]), floats(a.workspace), static_cast<int>(tiles), chunks,
                 aligned);
  });
  simt::launch(light_finish_kernel, field.heads, kWarps * 32, 0, stream_of(a), field, floats(a.workspace),
               floats(a.outputs[1]), chunks);
}

Bytes backward_workspace(const OpShape& shape) {
  const std::int64_t tiles = shape.inputs[0].shape[0] * tap_sizes(shape, 1).tiles;
  return Bytes{4 * chunk_count(tiles) * element_count(shape.inputs[2])};
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
