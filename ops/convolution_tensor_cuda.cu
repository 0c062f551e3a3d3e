// Convolutions on tensor cores: tiles whose products are of 16 pixels, 8 made channels and 8 read channels at a time,
// of numbers rounded to tf32 when they come into shared memory. Weights lie there as they lie in w, row by row: what a
// lane takes of them are single numbers anyway, and 16 bytes can be copied at once.
#include "convolution_kernel.h"
#include "tensor_product.h"

namespace thimble {
namespace {

// The weights of a step in shared memory: rows of w's outer channel, each a run of its inner one's with their taps.
struct WeightRows {
  int rows, run;            // of a full step
  int pitch;                // floats from row to row; chosen so that lanes read other banks
  int out_pitch, in_pitch;  // from one made, one read channel to the next
};

template <int kChannels>
__host__ __device__ inline WeightRows weight_rows(const TiledConvolution& call) {
  const int taps = call.reads_whole_window != 0 ? call.window_rows * call.window_columns : 1;
  if (call.is_backward == 0) {
    const int run = call.block_channels * taps, pitch = tiles_of(run, 8) * 8 + 4;
    return {kChannels, run, pitch, pitch, taps};
  }
  const int run = kChannels * taps, pitch = tiles_of(run, 16) * 16 + 8;
  return {call.block_channels, run, pitch, taps, pitch};
}

// kRowTiles x 16 pixels times kColumnTiles x 8 channels a warp; kWarps warps lie along pixels.
template <int kRowTiles, int kColumnTiles, int kWarps>
struct TensorTile {
  static constexpr bool kRounds = true;
  static constexpr int kChannelsAtOnce = 16;
  static constexpr int kPixels = kWarps * 16 * kRowTiles, kChannels = 8 * kColumnTiles;
  static constexpr int kWarpsOfTile = kWarps, kValues = 4 * kRowTiles * kColumnTiles;

  float sums[kValues];
  int patch_offset[2 * kRowTiles];
  int warp, lane;

  // The `half` of the sixteen pixels of a row tile whose sums the lane has.
  __device__ static int pixel(int warp, int lane, int half) {
    return (warp * kRowTiles + half / 2) * 16 + half % 2 * 8 + lane / 4;
  }

  template <class PatchOffset>
  __device__ void begin(int warp_of_tile, int lane_of_warp, PatchOffset offset_of) {
    warp = warp_of_tile;
    lane = lane_of_warp;
    for (int i = 0; i < 2 * kRowTiles; ++i) patch_offset[i] = offset_of(pixel(warp, lane, i)) + lane % 4;
    for (float& sum : sums) sum = 0;
  }

  static std::int64_t weight_floats(const TiledConvolution& call) {
    const WeightRows rows = weight_rows<kChannels>(call);
    return std::int64_t{rows.rows} * rows.pitch;
  }

  __device__ static void copy_weights(const TiledConvolution& call, const BlockWork& work, const Tap*,
                                      const ReadStep& step, float* weights) {
    const WeightRows rows = weight_rows<kChannels>(call);
    const bool is_whole = call.reads_whole_window != 0, is_forward = call.is_backward == 0;
    const int ins = call.source.channels - step.channel, outs = call.out_channels - work.first_channel;
    const int there = is_forward ? outs : ins, taps = is_forward ? rows.in_pitch : rows.out_pitch;
    const int run = min(rows.run, (is_forward ? ins : outs) * taps), quads = tiles_of(rows.run, 4);
    const int row_pitch = is_forward ? call.w_out_pitch : call.w_in_pitch;
    const int inner_pitch = is_whole ? 1 : min(call.w_out_pitch, call.w_in_pitch);
    const int first = work.first_channel * call.w_out_pitch + step.channel * call.w_in_pitch +
                      (is_whole ? 0 : first_weight(call, work, step));
    // From one of the thread's quads to its next, row by row.
    const SmallDivisor per_row = SmallDivisor::of(quads);
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const int row_step = per_row.quotient(threads), quad_step = threads - row_step * quads;
    int row = per_row.quotient(thread), quad = thread - row * quads;
    while (row < rows.rows) {
      float* to = weights + row * rows.pitch + 4 * quad;
      const int offset = first + row * row_pitch + 4 * quad * inner_pitch, count = row < there ? run - 4 * quad : 0;
      if (is_whole && call.w_is_vector != 0) {
        copy_four(to, call.w + static_cast<unsigned>(count > 0 ? offset : 0), count > 0);
      } else {
        for (int k = 0; k < 4; ++k) copy_float(to + k, call.w + (k < count ? offset + k * inner_pitch : 0), k < count);
      }
      row += row_step;
      quad += quad_step;
      if (quad >= quads) {
        quad -= quads;
        ++row;
      }
    }
  }

  // Every `groups`-th part of a step from `group` on: a tap of eight channels.
  __device__ void multiply(const TiledConvolution& call, const BlockWork& work, const Tap* taps, const StepValues& step,
                           int group, int groups) {
    const WeightRows rows = weight_rows<kChannels>(call);
    const int eights = tiles_of(step.channels, 8), plane = call.patch.shared.quad_pitch;
    const float* weights = step.weights + lane % 4 * rows.in_pitch + lane / 4 * rows.out_pitch +
                           (call.reads_whole_window != 0 ? first_weight(call, work, {}) : 0);
    int eight = 0, tap = group;
    for (; tap >= work.taps; tap -= work.taps) ++eight;
    while (eight < eights) {
      const float* x = step.patch + 2 * eight * plane + taps[tap].patch;
      const float* w = weights + 8 * eight * rows.in_pitch + taps[tap].weight;
      float left[kRowTiles][4];
      SIMT_UNROLL
      for (int m = 0; m < kRowTiles; ++m) {
        SIMT_UNROLL
        for (int i = 0; i < 4; ++i) left[m][i] = x[patch_offset[2 * m + i % 2] + i / 2 * plane];
      }
      SIMT_UNROLL
      for (int n = 0; n < kColumnTiles; ++n) {
        const float right[2] = {to_tf32(w[8 * n * rows.out_pitch]),
                                to_tf32(w[8 * n * rows.out_pitch + 4 * rows.in_pitch])};
        SIMT_UNROLL
        for (int m = 0; m < kRowTiles; ++m) add_tensor_product(sums + 4 * (m * kColumnTiles + n), left[m], right);
      }
      for (tap += groups; tap >= work.taps; tap -= work.taps) ++eight;
    }
  }

  // Calls store(pixel, channel, four values). Neighbours swap what they have of each other's pixel.
  template <class Store>
  __device__ void finish(Store store) const {
    const bool is_odd = lane % 2 != 0;
    SIMT_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
      SIMT_UNROLL
      for (int n = 0; n < kColumnTiles; ++n) {
        const float* sum = sums + 4 * (m * kColumnTiles + n);
        const float first = __shfl_xor_sync(0xffffffffu, is_odd ? sum[0] : sum[2], 1);
        const float second = __shfl_xor_sync(0xffffffffu, is_odd ? sum[1] : sum[3], 1);
        const float4 four =
            is_odd ? make_float4(first, second, sum[2], sum[3]) : make_float4(sum[0], sum[1], first, second);
        store(pixel(warp, lane, 2 * m + (is_odd ? 1 : 0)), 8 * n + lane % 4 / 2 * 4, four);
      }
    }
  }
};

constexpr Variant kTensorVariants[] = {
    variant<TensorTile<2, 8, 4>, 2>(1.0),  variant<TensorTile<2, 8, 2>, 4>(0.9),  variant<TensorTile<2, 8, 1>, 8>(0.75),
    variant<TensorTile<2, 4, 4>, 2>(0.8),  variant<TensorTile<2, 4, 2>, 4>(0.75), variant<TensorTile<2, 4, 1>, 8>(0.6),
    variant<TensorTile<4, 2, 2>, 4>(0.6),  variant<TensorTile<4, 2, 1>, 8>(0.5),  variant<TensorTile<4, 1, 2>, 4>(0.4),
    variant<TensorTile<4, 1, 1>, 8>(0.35),
};

}  // namespace

std::span<const Variant> tensor_variants() { return kTensorVariants; }

}  // namespace thimble
