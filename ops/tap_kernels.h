// What the CUDA kernels of tap convolutions share. A warp has four rows and up to 32 units of channels of one head, a
// block some such warps below each other: a tile of one sentence. Rows are copied into shared memory once; meanwhile
// the taps of a row are made by a few lanes, four each, which is what a block of random numbers is for.
#pragma once

#include "async_copy.h"
#include "cuda_ops.h"
#include "tap_convolution.h"
#include "thimble/philox.h"

namespace thimble {

constexpr int kWarpRows = 4;
constexpr int kMostTileRows = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

/// What every kernel is told. Of rows outside of a sentence nothing is read.
struct TapField {
  int room, channels, heads, kernel, left, head_channels;
  int tile, tiles;  // rows of a block, a multiple of kWarpRows; so many blocks below each other
  int all_tiles;    // of all sentences
  int window;       // rows that those of a tile are made of, at most
  int unit;         // channels of a lane: 4, 2 or 1
  bool aligned;     // they are read and written at once
  int chunks;       // of 32 units, in a head
  int lanes_log;    // 2^lanes_log lanes make a row's taps
  int row_logits;   // from a row's logits to the next one's; 0: all rows have the same
  std::int64_t sentence_logits;
  float rate, scale;  // of taps dropped; of those that are not
  std::uint32_t stream, first_sample = 0;
  const float* logits = nullptr;
  const std::int32_t* lengths = nullptr;
  const StepScalars* scalars = nullptr;

  __device__ int length(int sentence) const { return min(max(static_cast<int>(lengths[sentence]), 0), room); }
  __device__ int lanes() const { return 1 << lanes_log; }
  __device__ std::int64_t first_channel(int sentence, int head) const {
    return static_cast<std::int64_t>(sentence) * room * channels + head * head_channels;
  }
};

/// Of an op whose input `x` is the rows, followed by logits and lengths; without its addresses.
inline TapField tap_sizes(const OpShape& shape, std::size_t x) {
  const TapSizes sizes = TapSizes::of(shape.inputs[x], shape.attributes);
  const auto whole = [](std::int64_t value) { return static_cast<int>(value); };
  const int room = whole(sizes.room), kernel = whole(sizes.kernel), n = whole(sizes.head_channels());
  const int tile = min(kMostTileRows, (room + kWarpRows - 1) / kWarpRows * kWarpRows);
  const int unit = n % 4 == 0 && n > 64 ? 4 : n % 2 == 0 && n > 32 ? 2 : 1;
  int lanes_log = 0;
  while (4 << lanes_log < kernel) ++lanes_log;
  const bool shared = !shape.inputs[x + 1].batched;
  const int row_logits = shared ? 0 : whole(sizes.heads) * kernel;
  return {.room = room,
          .channels = whole(sizes.channels),
          .heads = whole(sizes.heads),
          .kernel = kernel,
          .left = whole(sizes.left),
          .head_channels = n,
          .tile = tile,
          .tiles = (room + tile - 1) / tile,
          .all_tiles = whole(shape.inputs[x].shape[0]) * ((room + tile - 1) / tile),
          .window = min(room, tile + kernel - 1),
          .unit = unit,
          .aligned = true,
          .chunks = (n + 32 * unit - 1) / (32 * unit),
          .lanes_log = lanes_log,
          .row_logits = row_logits,
          .sentence_logits = std::int64_t{row_logits} * room,
          .rate = sizes.rate,
          .scale = 1.0f / (1.0f - sizes.rate),
          .stream = static_cast<std::uint32_t>(int_attribute(shape.attributes, "stream"))};
}

/// What comes before input `x`, that and output 0 are rows.
inline TapField tap_field(const OpShape& shape, const KernelArguments& a, std::size_t x) {
  std::uintptr_t bits = reinterpret_cast<std::uintptr_t>(a.outputs[0]);
  for (std::size_t i = 0; i <= x; ++i) bits |= reinterpret_cast<std::uintptr_t>(a.inputs[i]);
  TapField field = tap_sizes(shape, x);
  field.aligned = bits % (sizeof(float) * static_cast<unsigned>(field.unit)) == 0;
  field.first_sample = static_cast<std::uint32_t>(a.samples.begin);
  field.logits = floats(a.inputs[x + 1]);
  field.lengths = ints(a.inputs[x + 2]);
  field.scalars = a.scalars;
  return field;
}

/// So many blocks for each tile, beside each other. Tiles are in y and z: a block finds its place without a division.
inline dim3 tap_grid(const TapField& field, int blocks_of_tile) {
  constexpr int kMostHigh = 1024;
  const int deep = field.all_tiles / kMostHigh + 1, high = (field.all_tiles + deep - 1) / deep;
  const auto extent = [](int value) { return static_cast<unsigned>(value); };
  return dim3(extent(blocks_of_tile), extent(high), extent(deep));
}

/// The tile of a block, of all sentences; as many as there are or more for blocks that have none.
__device__ inline int tile_of_block() { return static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y); }

/// Calls `run` with the number of channels that a lane has and whether they are aligned, known to the compiler.
template <class Run>
void with_unit(const TapField& field, Run run) {
  const auto with = [&](auto unit) {
    if (field.aligned)
      run(unit, std::true_type{});
    else
      run(unit, std::false_type{});
  };
  if (field.unit == 4)
    with(std::integral_constant<int, 4>{});
  else if (field.unit == 2)
    with(std::integral_constant<int, 2>{});
  else
    run(std::integral_constant<int, 1>{}, std::true_type{});
}

template <int V>
struct Unit {
  float values[V];
};

template <int V, bool kAligned = true>
__device__ inline Unit<V> load_unit(const float* from) {
  if constexpr (V == 4 && kAligned) {
    const float4 v = simt::load4(from);
    return {{v.x, v.y, v.z, v.w}};
  } else if constexpr (V == 2 && kAligned) {
    const float2 v = simt::load2(from);
    return {{v.x, v.y}};
  } else {
    Unit<V> unit;
    SIMT_UNROLL
    for (int i = 0; i < V; ++i) unit.values[i] = from[i];
    return unit;
  }
}

template <int V, bool kAligned>
__device__ inline void store_unit(float* to, const Unit<V>& unit) {
  const float* v = unit.values;
  if constexpr (V == 4 && kAligned) {
    simt::store4(to, make_float4(v[0], v[1], v[2], v[3]));
  } else if constexpr (V == 2 && kAligned) {
    simt::store2(to, make_float2(v[0], v[1]));
  } else {
    SIMT_UNROLL
    for (int i = 0; i < V; ++i) to[i] = v[i];
  }
}

template <int V, bool kAligned>
__device__ inline void copy_unit(float* to, const float* from, bool is_there) {
  if constexpr (V == 4 && kAligned) {
    copy_four(to, from, is_there);
  } else if constexpr (V == 2 && kAligned) {
    copy_two(to, from, is_there);
  } else {
    SIMT_UNROLL
    for (int i = 0; i < V; ++i) copy_float(to + i, from + i, is_there);
  }
}

/// Begins to copy a head's chunk of rows [begin, end) into shared memory, zeros where the head has no channels.
template <int V, bool kAligned>
__device__ inline void stage_rows(const TapField& f, const float* from, int begin, int end, int channel,
                                  float* staged) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warps = static_cast<int>(blockDim.x) / 32;
  const bool is_there = channel < f.head_channels;
  SIMT_UNROLL_BY(4)
  for (int row = begin + static_cast<int>(threadIdx.x) / 32; row < end; row += warps)
    copy_unit<V, kAligned>(staged + ((row - begin) * 32 + lane) * V,
                           from + static_cast<std::int64_t>(row) * f.channels + channel, is_there);
}

/// A tile of a head. Its rows are made of [begin, end); `before` rows lie between a row and the first it is made of.
struct TapTile {
  int sentence, head, first, length, before, begin, end;

  /// Tile `index` of all sentences; mirrored: what flows back to its rows.
  __device__ static TapTile of(const TapField& f, int index, int head, bool mirrored) {
    TapTile tile{};
    tile.sentence = f.tiles == 1 ? index : index / f.tiles;
    tile.head = head;
    tile.first = f.tiles == 1 ? 0 : index % f.tiles * f.tile;
    tile.length = f.length(tile.sentence);
    tile.before = mirrored ? f.kernel - 1 - f.left : f.left;
    tile.begin = max(0, tile.first - tile.before);
    const int end = min(tile.length, tile.first + f.tile + f.kernel - 1 - tile.before);
    tile.end = tile.first < tile.length ? end : tile.begin;
    return tile;
  }
};

/// Taps 4 * part to 4 * part + 3 of a row: the softmax, and by what it is multiplied: 0 for what is dropped.
struct FourTaps {
  float softmax[4], factor[4];
};

__device__ inline void make_factors(const TapField& f, int sentence, int head, int row, int part, float (&factor)[4]) {
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) factor[i] = 1;
  if (f.rate == 0) return;
  const auto block = static_cast<std::uint32_t>((row * f.heads + head) * static_cast<int>(kRandomBlocks) + part);
  const PhiloxBlock words = philox({block, f.first_sample + static_cast<std::uint32_t>(sentence), f.stream,
                                    static_cast<std::uint32_t>(f.scalars->step)},
                                   f.scalars->seed);
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) factor[i] = uniform_from(words[static_cast<std::size_t>(i)]) > f.rate ? f.scale : 0.0f;
}

/// `lanes` lanes side by side have a row; the whole warp takes part, lanes whose row is not there with nothing.
__device__ inline FourTaps row_taps(const TapField& f, int sentence, int head, int row, int part, bool there) {
  FourTaps taps;
  const float* logits = f.logits + sentence * f.sentence_logits + row * f.row_logits + head * f.kernel;
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) taps.softmax[i] = there && 4 * part + i < f.kernel ? logits[4 * part + i] : -INFINITY;
  make_factors(f, sentence, head, row, part, taps.factor);  // while the logits are on their way
  float largest = there ? -INFINITY : 0.0f, sum = 0;
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) largest = fmaxf(largest, taps.softmax[i]);
  for (int h = f.lanes() / 2; h > 0; h /= 2) largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, h));
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) {
    taps.softmax[i] = expf(taps.softmax[i] - largest);  // 0 for what is not there
    sum += taps.softmax[i];
  }
  for (int h = f.lanes() / 2; h > 0; h /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, h);
  const float inverse = there ? 1.0f / sum : 0.0f;
  SIMT_UNROLL
  for (int i = 0; i < 4; ++i) taps.softmax[i] *= inverse;
  return taps;
}

/// Calls visit(row, k, softmax, factor) for each tap of rows [low, high), each in one thread of the block.
template <class Visit>
__device__ inline void visit_taps(const TapField& f, const TapTile& tile, int low, int high, Visit visit) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int rows_at_once = 32 >> f.lanes_log, part = lane & (f.lanes() - 1);
  const int warps = static_cast<int>(blockDim.x) / 32;
  for (int next = low + warp * rows_at_once; next < high; next += warps * rows_at_once) {
    const int row = next + (lane >> f.lanes_log);
    const FourTaps taps = row_taps(f, tile.sentence, tile.head, row, part, row < high);
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i)
      if (row < high && 4 * part + i < f.kernel) visit(row, 4 * part + i, taps.softmax[i], taps.factor[i]);
  }
}

/// Weights as they are used: those of the four rows of a warp for one of the rows that these are made of, side by side.
/// Step i of a warp is `i - before` rows after its first.
struct TapBand {
  float* weights;
  int steps;  ///< of a warp

  __host__ __device__ static int steps_of(const TapField& f) { return f.kernel + kWarpRows - 1; }
  static std::size_t bytes(const TapField& f) { return sizeof(float) * static_cast<std::size_t>(f.tile * steps_of(f)); }
  __device__ static TapBand at(const TapField& f, float* shared) { return {shared, steps_of(f)}; }

  __device__ float* of_warp(int warp) const { return weights + warp * steps * kWarpRows; }
  /// The weight of the row that is `distance - before` after row `out` of the tile.
  __device__ void set(unsigned out, int distance, float weight) const {
    const int r = static_cast<int>(out % kWarpRows);
    of_warp(static_cast<int>(out / kWarpRows))[(distance + r) * kWarpRows + r] = weight;
  }
  /// That of tap k of row `row`, for the row that the tap reads, if the tile that begins at `first` has it.
  __device__ void set_mirrored(const TapField& f, int first, int row, int k, float weight) const {
    const unsigned out = static_cast<unsigned>(row + k - f.left - first);
    if (out < static_cast<unsigned>(f.tile)) set(out, f.kernel - 1 - k, weight);
  }
  /// Those that belong to no tap: the corners beside the first taps and the last ones.
  __device__ void clear_corners(int warp, int kernel) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, i = lane / kWarpRows, r = lane % kWarpRows;
    if (i < kWarpRows - 1) of_warp(warp)[(i < r ? i : kernel + i) * kWarpRows + r] = 0;
  }
};

template <int V>
__device__ inline void add_weighed(Unit<V> (&sums)[kWarpRows], const Unit<kWarpRows>& weights, const Unit<V>& source) {
  SIMT_UNROLL
  for (int r = 0; r < kWarpRows; ++r) SIMT_UNROLL
  for (int v = 0; v < V; ++v) sums[r].values[v] = fmaf(weights.values[r], source.values[v], sums[r].values[v]);
}

/// Four rows from `row` on; zeros in the padding.
template <int V, bool kAligned>
__device__ inline void store_rows(const TapField& f, float* to, int row, int length, int channel,
                                  const Unit<V> (&rows)[kWarpRows]) {
  SIMT_UNROLL
  for (int r = 0; r < kWarpRows; ++r)
    if (row + r < f.room && channel < f.head_channels)
      store_unit<V, kAligned>(to + static_cast<std::int64_t>(row + r) * f.channels + channel,
                              row + r < length ? rows[r] : Unit<V>{});
}

/// Sums of N values over the lanes of a warp, value i * N / 32 in lane i; N is a power of two. At each step half of the
/// values go to the other half of the lanes. `bit` is the caller's 16.
template <int N>
__device__ inline float sum_over_lanes(const float (&values)[N], int bit = 16) {
  if constexpr (N == 1) {
    float sum = values[0];
    for (; bit > 0; bit /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, bit);
    return sum;
  } else {
    const bool upper = (static_cast<int>(threadIdx.x) & bit) != 0;
    float halves[N / 2];
    SIMT_UNROLL
    for (int i = 0; i < N / 2; ++i) {
      const float kept = upper ? values[i + N / 2] : values[i], sent = upper ? values[i] : values[i + N / 2];
      halves[i] = kept + __shfl_xor_sync(kWholeWarp, sent, bit);
    }
    return sum_over_lanes<N / 2>(halves, bit / 2);
  }
}

/// y = taps * x, or, mirrored, the gradient of x from dy, which is then `from`: output 0 of both is `to`.
void launch_tap_rows(const TapField& field, const KernelArguments& a, bool mirrored);

/// Bytes of shared memory for a tile's rows of one chunk.
inline std::size_t staged_bytes(const TapField& field) {
  return sizeof(float) * static_cast<std::size_t>(field.window * 32 * field.unit);
}

}  // namespace thimble
