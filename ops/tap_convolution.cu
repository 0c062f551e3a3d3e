// The rows of tap convolutions on CUDA, forward and mirrored: what flows back to a row is gathered from the rows that
// it went to, so nothing is added atomically.
#include "tap_kernels.h"

namespace thimble {
namespace {

template <int V, bool kAligned, bool kMirrored>
__global__ void __launch_bounds__(kMostTileRows / kWarpRows * 32, 5)
    tap_rows_kernel(TapField f, const float* from, float* to) {
  SIMT_DYN_SHARED(float, staged);
  const TapBand band = TapBand::at(f, staged + f.window * 32 * V);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  if (tile_of_block() >= f.all_tiles) return;
  const int part = static_cast<int>(blockIdx.x), head = f.chunks == 1 ? part : part / f.chunks;
  const TapTile tile = TapTile::of(f, tile_of_block(), head, kMirrored);
  const int channel = ((part - head * f.chunks) * 32 + lane) * V;
  const std::int64_t at = f.first_channel(tile.sentence, tile.head);

  // A tap belongs to the row it is a tap of, in the mirror to the row it is multiplied with.
  stage_rows<V, kAligned>(f, from + at, tile.begin, tile.end, channel, staged);
  band.clear_corners(warp, f.kernel);
  if constexpr (kMirrored)
    visit_taps(f, tile, tile.begin, tile.end, [&](int row, int k, float softmax, float factor) {
      band.set_mirrored(f, tile.first, row, k, factor * softmax);
    });
  else
    visit_taps(f, tile, tile.first, min(tile.length, tile.first + f.tile),
               [&](int row, int k, float softmax, float factor) {
                 band.set(static_cast<unsigned>(row - tile.first), k, factor * softmax);
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

void launch_tap_rows(const TapField& field, const KernelArguments& a, bool mirrored) {
  const std::size_t shared = staged_bytes(field) + TapBand::bytes(field);
  with_unit(field, [&](auto unit, auto aligned) {
    const auto kernel = mirrored ? tap_rows_kernel<unit(), aligned(), true> : tap_rows_kernel<unit(), aligned(), false>;
    simt::launch(kernel, tap_grid(field, field.heads * field.chunks), field.tile / kWarpRows * 32, shared, stream_of(a),
                 field, floats(a.inputs[0]), floats(a.outputs[0]));
  });
}

}  // namespace thimble
