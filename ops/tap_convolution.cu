// The rows of tap convolutions on CUDA, forward and mirrored: what flows back to a row is gathered from the rows that
// it went to, so nothing is added atomically.
#include "tap_kernels.h"

namespace thimble {
namespace {

template <int V, bool kAligned>
__global__ void __launch_bounds__(kMostTileRows / kWarpRows * 32, 5)
    tap_rows_kernel(TapField f, const float* from, float* to, bool mirrored) {
  SIMT_DYN_SHARED(float, staged);
  const TapBand band = TapBand::at(f, staged + f.window * 32 * V);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int block = static_cast<int>(blockIdx.x), of_head = f.chunks == 1 ? block : block / f.chunks;
  const TapTile tile = TapTile::of(f, of_head / f.heads, of_head % f.heads, mirrored);
  const int channel = ((block - of_head * f.chunks) * 32 + lane) * V;
  const std::int64_t at = f.first_channel(tile.sentence, tile.head);

  // A tap belongs to the row it is a tap of, in the mirror to the row it is multiplied with.
  stage_rows<V, kAligned>(f, from + at, tile.begin, tile.end, channel, staged);
  band.clear_corners(warp, f.kernel);
  visit_taps(f, tile, mirrored ? tile.begin : tile.first, mirrored ? tile.end : min(tile.length, tile.first + f.tile),
             [&](int row, int k, float softmax, float factor) {
               const int out = (mirrored ? row + k - f.left : row) - tile.first;
               if (out >= 0 && out < f.tile) band.set(out, mirrored ? f.kernel - 1 - k : k, factor * softmax);
             });
  wait_for_copies();
  __syncthreads();

  const int row = tile.first + warp * kWarpRows, start = row - tile.before;
  const float* weights_of_warp = band.of_warp(warp);
  Unit<V> sums[kWarpRows] = {};
  const int last = row < tile.length ? min(band.steps, tile.end - start) : 0;
  SIMT_UNROLL_BY(4)
  for (int i = max(0, tile.begin - start); i < last; ++i) {
    const Unit<V> source = load_unit<V>(staged + ((start + i - tile.begin) * 32 + lane) * V);
    add_weighed(sums, load_unit<kWarpRows>(weights_of_warp + i * kWarpRows), source);
  }
  store_rows<V, kAligned>(f, to + at, row, tile.length, channel, sums);
}

}  // namespace

void launch_tap_rows(const TapField& field, std::int64_t sentences, const KernelArguments& a, bool mirrored) {
  const int warps = field.tile / kWarpRows;
  with_unit(field, [&](auto unit, auto aligned) {
    simt::launch(tap_rows_kernel<unit(), aligned()>, sentences * field.tiles * field.heads * field.chunks, warps * 32,
                 staged_bytes(field) + TapBand::bytes(field), stream_of(a), field, floats(a.inputs[0]),
                 floats(a.outputs[0]), mirrored);
  });
}

}  // namespace thimble
