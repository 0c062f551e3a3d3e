// Forward convolutions and data gradients: a block makes a tile of pixels times some channels. The patch of the picture
// that its window reads and the weights beside it come into shared memory for a few channels at a time, all taps of the
// window, and are used while the next few are on their way.
//
// A data gradient is a convolution of dy by the mirrored window. With a stride, pixels of one row and column modulo the
// stride (a class) see the same taps, every stride-th of the window, and step through dy one by one.
#pragma once

#include "convolution_tiles.h"

namespace thimble {

constexpr int kMostTaps = 32;            // of a window that is read from one patch
constexpr int kMostShared = 110 * 1024;  // two blocks on a multiprocessor

struct TiledConvolution {
  Pictures source;
  PatchPrologue prologue;
  PixelTiles tiles;  // of the pixels of the largest class
  PatchShape patch;
  int samples, rows, columns;  // of the result
  int whole_samples;           // of which these are some: the tiles are chosen for all of them
  int classes;                 // per direction: 1, or the stride of a data gradient
  int is_backward;
  int window_rows, window_columns, stride, pad;
  int reads_whole_window;           // or one tap after the other
  int patch_taps;                   // at most
  int block_channels;               // read at once
  int patch_floats, buffer_floats;  // of a step: the patch, then the weights
  const float* w;
  int w_out_pitch, w_in_pitch;  // floats from one made, one read channel to the next
  int w_is_vector;              // whether runs of the inner one's channels can be moved four floats at a time
  int out_channels, channel_tiles;
  float* y;
  const float* added;
  int y_pitch, y_is_vector;
  SmallDivisor tile_columns, tile_pixels;  // of a sample in a tile
};

// A class along one direction: `taps` taps from `first` on in the picture, for output 0; their weights.
struct Axis {
  int remainder, count;  // outputs remainder + stride * i, i < count
  int taps, first;
  int weight, weight_step;
};

__device__ inline Axis axis_of(const TiledConvolution& call, int remainder, int outputs, int window) {
  if (call.is_backward == 0) return {0, outputs, window, -call.pad, 0, 1};
  Axis axis{remainder, (outputs - remainder + call.stride - 1) / call.stride, 0, 0, 0, -call.stride};
  const int first_weight = (remainder + call.pad) % call.stride;
  if (first_weight >= window) return axis;
  axis.taps = (window - first_weight + call.stride - 1) / call.stride;
  axis.first = (remainder + call.pad) / call.stride - (axis.taps - 1);
  axis.weight = first_weight + call.stride * (axis.taps - 1);
  return axis;
}

// What a block works on.
struct BlockWork {
  Axis rows, columns;
  PixelTile tile;
  int first_channel;  // made
  int taps;           // in a patch
  SmallDivisor per_tap, per_column;
  int window_parts;  // 1, or taps that are read one after the other
};

__device__ inline BlockWork block_work(const TiledConvolution& call, int channels_per_tile) {
  const int index = static_cast<int>(blockIdx.x);
  const int channel_tile = index % call.channel_tiles, rest = index / call.channel_tiles;
  const int tile = rest % call.tiles.count(), class_index = rest / call.tiles.count();
  const int column_classes = min(call.classes, call.columns);
  BlockWork work{};
  work.rows = axis_of(call, class_index / column_classes, call.rows, call.window_rows);
  work.columns = axis_of(call, class_index % column_classes, call.columns, call.window_columns);
  work.tile = tile_at(call.tiles, tile, call.samples, work.rows.count, work.columns.count);
  work.first_channel = channel_tile * channels_per_tile;
  const int taps = work.rows.taps * work.columns.taps;
  work.taps = call.reads_whole_window != 0 ? taps : min(taps, 1);
  work.window_parts = call.reads_whole_window != 0 ? min(taps, 1) : taps;
  work.per_tap = SmallDivisor::of(max(work.taps, 1));
  work.per_column = SmallDivisor::of(max(work.columns.taps, 1));
  return work;
}

// Where a tap of a patch reads, relative to the first: in a plane of the patch, and in w.
struct Tap {
  int patch, weight;
};

// What a step has in shared memory, of so many read channels.
struct StepValues {
  const float *patch, *weights;
  int channels;
};

// One of the steps in which a block reads: a block of channels, all taps or one of them.
struct ReadStep {
  int channel = 0;  // the first
  int tap_row = 0, tap_column = 0;

  __device__ void advance(const TiledConvolution& call, const BlockWork& work) {
    if (call.reads_whole_window == 0) {
      if (++tap_column < work.columns.taps) return;
      tap_column = 0;
      if (++tap_row < work.rows.taps) return;
      tap_row = 0;
    }
    channel += call.block_channels;
  }
};

__device__ inline PixelWindow window_of(const TiledConvolution& call, const BlockWork& work, const ReadStep& step) {
  const int stride = call.patch.step * call.patch.spacing;
  const int row = work.tile.row * stride + work.rows.first + step.tap_row;
  const int column = work.tile.column * stride + work.columns.first + step.tap_column;
  return {.origin = call.source.pixel(work.tile.sample, row, column) + step.channel,
          .channel = step.channel,
          .pixels = work.tile.samples * call.patch.pixels_of_sample(),
          .row = row,
          .column = column,
          .rows = call.source.rows,
          .columns = call.source.columns,
          .sample = work.tile.sample};
}

// The weights of a step, in w: those of the patch's first tap.
__device__ inline int first_weight(const TiledConvolution& call, const BlockWork& work, const ReadStep& step) {
  const int row = work.rows.weight + step.tap_row * work.rows.weight_step;
  return row * call.window_columns + work.columns.weight + step.tap_column * work.columns.weight_step;
}

// Sums of groups of warps that took every kGroups-th step join in the first group's registers, in a fixed order.
template <class Tile, int kGroups>
__device__ inline void join_groups(Tile& tile, int group, float* shared) {
  constexpr int kThreads = 32 * Tile::kWarpsOfTile;
  const int thread = static_cast<int>(threadIdx.x) % kThreads;
  SIMT_UNROLL
  for (int half = kGroups / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (group >= half && group < 2 * half) {
      SIMT_UNROLL
      for (int i = 0; i < Tile::kValues; ++i)
        shared[((group - half) * Tile::kValues + i) * kThreads + thread] = tile.sums[i];
    }
    __syncthreads();
    if (group < half) {
      SIMT_UNROLL
      for (int i = 0; i < Tile::kValues; ++i) tile.sums[i] += shared[(group * Tile::kValues + i) * kThreads + thread];
    }
  }
}

__device__ inline void store_four(const TiledConvolution& call, std::int64_t at, int channels_left, float4 value) {
  if (channels_left >= 4 && call.y_is_vector != 0) {
    if (call.added != nullptr) {
      const float4 added = simt::load4(call.added + at);
      value = make_float4(value.x + added.x, value.y + added.y, value.z + added.z, value.w + added.w);
    }
    simt::store4(call.y + at, value);
    return;
  }
  const float values[4] = {value.x, value.y, value.z, value.w};
  for (int i = 0; i < 4 && i < channels_left; ++i)
    call.y[at + i] = call.added != nullptr ? values[i] + call.added[at + i] : values[i];
}

template <class Tile, int kGroups>
__global__ void __launch_bounds__(32 * Tile::kWarpsOfTile * kGroups, 2) convolution_kernel(TiledConvolution call) {
  SIMT_SHARED(Tap, taps, [kMostTaps]);
  SIMT_DYN_SHARED(float, shared);  // two steps, then the table of the patch
  TablePixel* table = reinterpret_cast<TablePixel*>(shared + 2 * call.buffer_floats);
  const BlockWork work = block_work(call, Tile::kChannels);
  if (work.tile.rows <= 0 || work.tile.columns <= 0) return;  // of a smaller class
  if (const int t = static_cast<int>(threadIdx.x); t < work.taps) {
    const int row = work.per_column.quotient(t), column = t - row * work.columns.taps;
    taps[t] = {4 * (row * call.patch.columns + column),
               row * work.rows.weight_step * call.window_columns + column * work.columns.weight_step};
  }
  fill_table(table, call.source, call.patch.shared.pixels, call.patch.rows, call.patch.columns, call.patch.spacing);
  __syncthreads();

  const int thread = static_cast<int>(threadIdx.x), group = thread / (32 * Tile::kWarpsOfTile);
  const int tile_pixels = static_cast<int>(call.tile_pixels.divisor);
  const auto position = [&](int pixel) {  // in the tile
    const int sample = call.tile_pixels.quotient(pixel), inside = pixel - sample * tile_pixels;
    const int row = call.tile_columns.quotient(inside);
    return make_int4(sample, row, inside - row * call.tiles.columns, 0);
  };
  const auto is_inside = [&](int4 p) {
    return p.x < work.tile.samples && p.y < work.tile.rows && p.z < work.tile.columns;
  };
  Tile tile;
  tile.begin(thread / 32 % Tile::kWarpsOfTile, thread % 32, [&](int pixel) {
    const int4 p = position(pixel);
    return is_inside(p) ? 4 * (p.x * call.patch.pixels_of_sample() + (p.y * call.patch.columns + p.z) * call.patch.step)
                        : 0;
  });

  const int steps = work.window_parts * tiles_of(call.source.channels, call.block_channels);
  ReadStep next;
  const auto copy = [&](float* buffer) {
    copy_pixels(call.source, call.patch.shared, table, window_of(call, work, next), buffer);
    Tile::copy_weights(call, work, taps, next, buffer + call.patch_floats);
  };
  if (steps > 0) copy(shared);
  for (int s = 0; s < steps; ++s) {
    float* buffer = shared + s % 2 * call.buffer_floats;
    wait_for_copies();
    prepare_pixels<Tile::kRounds>(call.source, call.prologue, call.patch.shared, table, window_of(call, work, next),
                                  buffer);
    __syncthreads();
    const int channels = min(call.block_channels, call.source.channels - next.channel);
    next.advance(call, work);
    if (s + 1 < steps) copy(shared + (s + 1) % 2 * call.buffer_floats);
    tile.multiply(call, work, taps, {buffer, buffer + call.patch_floats, channels}, group, kGroups);
  }
  join_groups<Tile, kGroups>(tile, group, shared);
  if (group != 0) return;
  tile.finish([&](int pixel, int channel, float4 value) {
    const int4 p = position(pixel);
    const int left = call.out_channels - work.first_channel - channel;
    if (!is_inside(p) || left <= 0) return;
    const std::int64_t sample = work.tile.sample + p.x;
    const std::int64_t row = work.rows.remainder + (work.tile.row + p.y) * call.classes;
    const int column = work.columns.remainder + (work.tile.column + p.z) * call.classes;
    const std::int64_t at = ((sample * call.rows + row) * call.columns + column) * call.y_pitch;
    store_four(call, at + work.first_channel + channel, left, value);
  });
}

// Host side.

// How many channels are read at once: enough work between two barriers.
inline int channels_at_once(int channels, int taps, int most) {
  const int wanted = taps >= 8 ? 8 : taps >= 4 ? 16 : 32;
  return std::min(std::max(wanted, most), tiles_of(channels, 8) * 8);
}

template <class Tile>
std::int64_t buffer_floats(const TiledConvolution& call) {
  return call.patch.shared.floats() + Tile::weight_floats(call);
}

template <class Tile>
std::int64_t shared_bytes(const TiledConvolution& call, int groups) {
  const std::int64_t joining = std::int64_t{groups / 2} * Tile::kValues * 32 * Tile::kWarpsOfTile;
  const std::int64_t table = static_cast<std::int64_t>(sizeof(TablePixel)) * call.patch.shared.pixels;
  return std::max(8 * buffer_floats<Tile>(call) + table, 4 * joining);
}

template <class Tile, int kGroups>
void launch_tiles(TiledConvolution call, cudaStream_t stream) {
  const int class_rows = tiles_of(call.rows, call.classes), class_columns = tiles_of(call.columns, call.classes);
  const auto cut = [&](bool reads_whole_window) {
    call.reads_whole_window = reads_whole_window ? 1 : 0;
    const int rows = reads_whole_window ? tiles_of(call.window_rows, call.classes) : 1;
    const int columns = reads_whole_window ? tiles_of(call.window_columns, call.classes) : 1;
    // From one output to the next the picture moves on by the stride, of which a window of one tap needs one pixel.
    const int stride = call.is_backward != 0 ? 1 : call.stride, step = rows * columns == 1 ? 1 : stride;
    call.block_channels = channels_at_once(call.source.channels, rows * columns, Tile::kChannelsAtOnce);
    const PixelTiles tiles =
        pixel_tiles(call.whole_samples, class_rows, class_columns, Tile::kPixels, step, rows, columns);
    call.tiles = tiles_for_tables(tiles, call.whole_samples, class_rows, class_columns, stride, rows, columns,
                                  call.source.pixel_count() * call.source.pixel_pitch);
    const std::int64_t patch = (std::int64_t{call.tiles.rows - 1} * step + rows) *
                               (std::int64_t{call.tiles.columns - 1} * step + columns) * call.tiles.samples;
    call.patch_taps = rows * columns;
    if (call.patch_taps > kMostTaps || patch > kMostShared) return false;
    call.patch = PatchShape::of(call.tiles, step, stride / step, rows, columns, call.block_channels);
    return shared_bytes<Tile>(call, kGroups) <= kMostShared;
  };
  if (!cut(true)) cut(false);
  call.tiles.sample_tiles = tiles_of(call.samples, call.tiles.samples);
  call.patch_floats = static_cast<int>(call.patch.shared.floats());
  call.buffer_floats = static_cast<int>(buffer_floats<Tile>(call));
  call.prologue.per_sample = SmallDivisor::of(call.patch.rows * call.patch.columns);
  call.channel_tiles = tiles_of(call.out_channels, Tile::kChannels);
  call.tile_columns = SmallDivisor::of(call.tiles.columns);
  call.tile_pixels = SmallDivisor::of(call.tiles.rows * call.tiles.columns);
  const int classes = std::min(call.classes, call.rows) * std::min(call.classes, call.columns);
  const std::int64_t blocks = std::int64_t{classes} * call.tiles.count() * call.channel_tiles;
  simt::launch(convolution_kernel<Tile, kGroups>, blocks, 32 * Tile::kWarpsOfTile * kGroups,
               static_cast<std::size_t>(shared_bytes<Tile>(call, kGroups)), stream, call);
}

// Tiles to choose from, and how much of the arithmetic units a busy multiprocessor uses with them.
struct Variant {
  int pixels, channels;
  double use;
  void (*launch)(TiledConvolution, cudaStream_t);
};

template <class Tile, int kGroups>
constexpr Variant variant(double use) {
  return {Tile::kPixels, Tile::kChannels, use, launch_tiles<Tile, kGroups>};
}

/// Tiles of tensor cores.
std::span<const Variant> tensor_variants();

}  // namespace thimble
