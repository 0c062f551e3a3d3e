// The gradients of a tap convolution in one pass: a warp has four rows of x and of its gradient and goes through the
// rows of dy that these went into. Each is weighed into the rows' gradient and multiplied with the rows of x, which is
// the gradient of the taps.
#pragma once

#include "tap_kernels.h"

namespace thimble {

/// Four rows of which lane l holds row i ^ (l / 8) as number i: what lanes exchange first lies where it is kept.
template <int V, bool kAligned>
__device__ inline void load_held_rows(const TapField& f, const float* from, int row, int length, int channel,
                                      Unit<V> (&held)[kWarpRows]) {
  const int turn = static_cast<int>(threadIdx.x) % 32 / 8;
  SIMT_UNROLL
  for (int i = 0; i < kWarpRows; ++i) {
    const int at = row + (i ^ turn);
    held[i] = {};
    if (at < length && channel < f.head_channels)
      held[i] = load_unit<V, kAligned>(from + static_cast<std::int64_t>(at) * f.channels + channel);
  }
}

/// The product of row l / 8 with `other` over the channels of four lanes, in lane l; that of all is the sum over l % 8.
template <int V>
__device__ inline float held_product(const Unit<V> (&held)[kWarpRows], const Unit<V>& other) {
  float products[kWarpRows] = {};
  SIMT_UNROLL
  for (int i = 0; i < kWarpRows; ++i) SIMT_UNROLL
  for (int v = 0; v < V; ++v) products[i] = fmaf(held[i].values[v], other.values[v], products[i]);
  const float first = products[0] + __shfl_xor_sync(kWholeWarp, products[2], 16);
  const float second = products[1] + __shfl_xor_sync(kWholeWarp, products[3], 16);
  return first + __shfl_xor_sync(kWholeWarp, second, 8);
}

constexpr int kOthers = 4;  // rows that the held ones are multiplied with at a time

/// Which product a lane has of those of the held rows with kOthers others; one of two lanes.
struct HeldPair {
  int held, other;
  bool is_first;

  __device__ static HeldPair of(int lane) { return {lane / 8, lane % 8 / 2, lane % 2 == 0}; }
  __device__ static float sum(const float (&products)[kOthers]) { return sum_over_lanes(products, 4); }
};

/// Of the rows of dy that flow into a tile, from TapTile::begin on, [row][tap] in shared memory.
struct TapGradients {
  float* marked;    ///< the softmax, its sign set where the tap is dropped
  float* products;  ///< the gradient of what is left of the softmax
  int kernel;
  float scale;

  static std::size_t bytes(const TapField& f) {
    return 2 * sizeof(float) * static_cast<std::size_t>(f.window * f.kernel);
  }
  __device__ static TapGradients at(const TapField& f, float* shared) {
    return {shared, shared + f.window * f.kernel, f.kernel, f.scale};
  }
  __device__ void begin(int row, int k, float softmax, float factor) const {
    marked[row * kernel + k] = factor == 0 ? -softmax : softmax;
    products[row * kernel + k] = 0;
  }
  __device__ float softmax(int row, int k) const { return fabsf(marked[row * kernel + k]); }
  /// The gradient of the softmax.
  __device__ float passed(int row, int k) const {
    const bool is_dropped = __float_as_uint(marked[row * kernel + k]) >> 31 != 0;
    return is_dropped ? 0.0f : scale * products[row * kernel + k];
  }
};

/// Weighs some rows of dy, at most kOthers, into the rows that a warp has, and returns its lane's product.
template <int V>
__device__ inline float weigh_and_multiply(const float* sources, const float* weights, int count,
                                           const Unit<V> (&held)[kWarpRows], Unit<V> (&sums)[kWarpRows]) {
  float products[kOthers] = {};
  SIMT_UNROLL
  for (int j = 0; j < kOthers; ++j)
    if (j < count) {
      const Unit<V> source = load_unit<V>(sources + j * 32 * V);
      add_weighed(sums, load_unit<kWarpRows>(weights + j * kWarpRows), source);
      products[j] = held_product(held, source);
    }
  return HeldPair::sum(products);
}

/// What a block has in shared memory.
struct GradientSpace {
  float* staged;
  TapBand band;
  TapGradients gradients;

  static std::size_t bytes(const TapField& f) { return staged_bytes(f) + TapBand::bytes(f) + TapGradients::bytes(f); }
  template <int V>
  __device__ static GradientSpace at(const TapField& f, float* shared) {
    float* const band = shared + f.window * 32 * V;
    const TapBand of_tile = TapBand::at(f, band);
    return {shared, of_tile, TapGradients::at(f, band + f.tile * of_tile.steps)};
  }
};

/// The same number, from which the compiler makes nothing earlier: there are no registers for it.
__device__ inline int made_now(int value) {
#if SIMT_GPU
  asm volatile("" : "+r"(value));
#endif
  return value;
}

/// Sets a tile's rows of dx and, for all threads of the block to see, what its rows of x add to the taps' gradients.
template <int V, bool kAligned>
__device__ inline void make_gradients(const TapField& f, const TapTile& tile, const float* dy, const float* x,
                                      float* dx, const GradientSpace& space) {
  const TapBand& band = space.band;
  const TapGradients& gradients = space.gradients;
  const int thread = made_now(static_cast<int>(threadIdx.x)), lane = thread % 32, warp = thread / 32;
  const int row = tile.first + warp * kWarpRows, start = row - tile.before;
  const std::int64_t at = f.first_channel(tile.sentence, tile.head);
  Unit<V> held[kWarpRows];
  const auto begin_chunk = [&](int chunk) {
    const int channel = (chunk * 32 + lane) * V;
    stage_rows<V, kAligned>(f, dy + at, made_now(tile.begin), tile.end, channel, space.staged);
    load_held_rows<V, kAligned>(f, x + at, made_now(row), tile.length, channel, held);
  };
  begin_chunk(0);
  band.clear_corners(warp, f.kernel);
  visit_taps(f, tile, tile.begin, tile.end, [&](int from, int k, float softmax, float factor) {
    band.set_mirrored(f, tile.first, from, k, factor * softmax);
    gradients.begin(from - tile.begin, k, softmax, factor);
  });

  const int low = max(0, tile.begin - start), high = row < tile.length ? min(band.steps, tile.end - start) : low;
  const float *sources = space.staged + ((start - tile.begin) * 32 + lane) * V, *weights = band.of_warp(warp);
  // Of step 0, this lane's; no tap for the second lane of a pair.
  const HeldPair pair = HeldPair::of(lane);
  const int first_tap = pair.is_first ? f.kernel - 1 - pair.other + pair.held : -1;
  const int first_product = (start - tile.begin + pair.other) * f.kernel + first_tap;
  for (int chunk = 0;;) {
    wait_for_copies();
    __syncthreads();
    Unit<V> sums[kWarpRows] = {};
    const auto add_products = [&](int step, int count) {
      const float product =
          weigh_and_multiply<V>(sources + step * 32 * V, weights + step * kWarpRows, count, held, sums);
      const int k = first_tap - step;
      if (pair.other < count && static_cast<unsigned>(k) < static_cast<unsigned>(f.kernel))
        gradients.products[first_product + step * (f.kernel - 1)] += product;
    };
    int step = low;
    for (; step + kOthers <= high; step += kOthers) add_products(step, kOthers);
    for (; step < high; ++step) add_products(step, 1);
    store_rows<V, kAligned>(f, dx + at, made_now(row), tile.length, (chunk * 32 + lane) * V, sums);
    __syncthreads();  // products are there, what was staged has been read
    if (++chunk == f.chunks) return;
    begin_chunk(chunk);
  }
}

/// How a warp goes through [row][tap]: 2^log lanes side by side have a row, one or two taps each.
struct RowsOfTaps {
  int log;

  __device__ static RowsOfTaps of(const TapField& f) { return {min(5, f.lanes_log + 2)}; }
  __device__ int lanes() const { return 1 << log; }
  __device__ int at_once() const { return 32 >> log; }
  __device__ int row() const { return static_cast<int>(threadIdx.x) % 32 >> log; }
  __device__ int tap() const { return static_cast<int>(threadIdx.x) % 32 & (lanes() - 1); }
};
constexpr int kLaneTaps = static_cast<int>(kMostTaps) / 32;

}  // namespace thimble
