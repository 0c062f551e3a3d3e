// The rows of tap convolutions on CUDA, forward and mirrored: what flows back to a row is gathered from the rows that
// it went to, so nothing is added atomically.
#include "tap_kernels.h"

namespace thimble {
namespace {

// Weights lie in shared memory as they are used: those of the four rows of a warp for one of the rows that these are
// made of, side by side. Step i of a warp is row `start + i`.
template <int V>
__global__ void __launch_bounds__(kMostTileRows / kWarpRows * 32)
    tap_rows_kernel(TapField f, const float* from, float* to, bool mirrored, bool aligned) {
  SIMT_DYN_SHARED(float, staged);
  float* const band = staged + f.window * 32 * V;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  int part_of_grid = static_cast<int>(blockIdx.x);
  const int chunk = part_of_grid % f.chunks;
  part_of_grid /= f.chunks;
  const int head = part_of_grid % f.heads;
  part_of_grid /= f.heads;
  const int first = part_of_grid % f.tiles * f.tile, sentence = part_of_grid / f.tiles;

  const int length = f.length(sentence), steps = f.kernel + kWarpRows - 1;
  const int before = mirrored ? f.kernel - 1 - f.left : f.left;
  const int begin = max(0, first - before), end = min(length, first + f.tile + f.kernel - 1 - before);
  const int channel = (chunk * 32 + lane) * V;
  const std::int64_t at = f.first_channel(sentence, head);
  stage_rows<V>(f, from + at, begin, end, channel, aligned, staged);
  for (int i = static_cast<int>(threadIdx.x); i < warps * steps * kWarpRows; i += static_cast<int>(blockDim.x))
    band[i] = 0;
  __syncthreads();

  // A tap belongs to the row it is a tap of, in the mirror to the row it is multiplied with.
  const int low = mirrored ? begin : first, high = mirrored ? end : min(length, first + f.tile);
  const int rows_at_once = 32 / f.lanes, part = lane % f.lanes;
  for (int next = low + warp * rows_at_once; next < high; next += warps * rows_at_once) {
    const int row = next + lane / f.lanes;
    const FourTaps taps = row_taps(f, sentence, head, row, part, row < high);
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int k = 4 * part + i, out = (mirrored ? row + k - f.left : row) - first;
      const int step = (mirrored ? f.kernel - 1 - k : k) + out % kWarpRows;
      if (row < high && k < f.kernel && out >= 0 && out < f.tile)
        band[(out / kWarpRows * steps + step) * kWarpRows + out % kWarpRows] = taps.factor[i] * taps.softmax[i];
    }
  }
  __syncthreads();

  const int row = first + warp * kWarpRows, start = row - before;
  Unit<V> sums[kWarpRows] = {};
  const int last = row < length ? min(steps, end - start) : 0;
  SIMT_UNROLL_BY(4)
  for (int i = max(0, begin - start); i < last; ++i) {
    const Unit<V> source = load_unit<V>(staged + ((start + i - begin) * 32 + lane) * V, true);
    const Unit<kWarpRows> weights = load_unit<kWarpRows>(band + (warp * steps + i) * kWarpRows, true);
    SIMT_UNROLL
    for (int r = 0; r < kWarpRows; ++r) SIMT_UNROLL
    for (int v = 0; v < V; ++v) sums[r].values[v] = fmaf(weights.values[r], source.values[v], sums[r].values[v]);
  }
  SIMT_UNROLL
  for (int r = 0; r < kWarpRows; ++r)
    if (row + r < f.room && channel < f.head_channels)
      store_unit<V>(to + at + static_cast<std::int64_t>(row + r) * f.channels + channel,
                    row + r < length ? sums[r] : Unit<V>{}, aligned);
}

}  // namespace

void launch_tap_rows(const TapField& field, std::int64_t sentences, const KernelArguments& a, bool mirrored) {
  const int warps = field.tile / kWarpRows;
  const std::size_t band = sizeof(float) * static_cast<std::size_t>(field.tile * (field.kernel + kWarpRows - 1));
  const bool aligned = are_aligned(field, {a.inputs[0], a.outputs[0]});
  with_unit(field, [&](auto unit) {
    simt::launch(tap_rows_kernel<unit()>, sentences * field.tiles * field.heads * field.chunks, warps * 32,
                 staged_bytes(field) + band, stream_of(a), field, floats(a.inputs[0]), floats(a.outputs[0]), mirrored,
                 aligned);
  });
}

}  // namespace thimble
