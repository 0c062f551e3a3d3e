// What the convolution kernels share: tiles of output pixels, the patch of the picture under a tile in shared memory.
//
// A tile is some columns of some rows of a picture, or whole pictures of some samples. Its patch is what a window over
// these pixels reads, for a few channels at a time: planes of four channels, [channels / 4][pixels][4], so that a
// thread's 16 bytes are four steps of its sums and neighbours' pixels lie in other banks.
#pragma once

#include <algorithm>
#include <limits>
#include <span>

#include "async_copy.h"
#include "convolution_cuda.h"

namespace thimble {


/// Division by a number that is the same for all threads. Exact for values and divisors below 65536.
struct SmallDivisor {
  unsigned divisor, multiplier;

  __host__ __device__ static SmallDivisor of(int d) {
    return {static_cast<unsigned>(d), 0xffffffffu / static_cast<unsigned>(d) + 1};  // of 1 there is none
  }
  __device__ int quotient(int value) const {
    const unsigned v = static_cast<unsigned>(value);
    return static_cast<int>(divisor == 1 ? v : __umulhi(v, multiplier));
  }
};

/// Output pixels cut into tiles; at the edges they are smaller.
struct PixelTiles {
  int samples, rows, columns;  ///< of a tile; several samples only where it holds whole pictures
  int sample_tiles, row_tiles, column_tiles;

  __host__ __device__ int count() const { return sample_tiles * row_tiles * column_tiles; }
};

struct PixelTile {
  int sample, row, column;     ///< the first
  int samples, rows, columns;  ///< those that are there
};

/// How many tiles cover an extent.
template <class T>
__host__ __device__ constexpr T tiles_of(T extent, T tile) {
  return (extent + tile - 1) / tile;
}

/// The fewest tiles of at most `pixels` pixels, then the smallest patch for a window so much larger than its pixel.
inline PixelTiles pixel_tiles(int samples, int rows, int columns, int pixels, int step, int window_rows,
                              int window_columns) {
  PixelTiles best{};
  std::int64_t best_count = 0, best_patch = 0;
  const auto consider = [&](int most_columns) {
    PixelTiles tiles{};
    tiles.column_tiles = tiles_of(columns, std::min({most_columns, columns, pixels}));
    tiles.columns = tiles_of(columns, tiles.column_tiles);
    tiles.row_tiles = tiles_of(rows, std::min(rows, pixels / tiles.columns));
    tiles.rows = tiles_of(rows, tiles.row_tiles);
    const bool is_whole = tiles.row_tiles == 1 && tiles.column_tiles == 1;
    tiles.samples = is_whole ? std::min(samples, pixels / (rows * columns)) : 1;
    tiles.sample_tiles = tiles_of(samples, tiles.samples);
    const std::int64_t count = std::int64_t{tiles.sample_tiles} * tiles.row_tiles * tiles.column_tiles;
    const std::int64_t patch = std::int64_t{tiles.samples} * (std::int64_t{tiles.rows - 1} * step + window_rows) *
                               (std::int64_t{tiles.columns - 1} * step + window_columns);
    if (best_count != 0 && (count > best_count || (count == best_count && patch >= best_patch))) return;
    best = tiles;
    best_count = count;
    best_patch = patch;
  };
  consider(columns);
  for (int most = 128; most >= 4; most /= 2)
    if (most < columns) consider(most);
  return best;
}

/// Which tile: those of a sample follow each other.
struct TileIndex {
  int sample, row, column;

  __device__ static TileIndex of(const PixelTiles& tiles, int index) {
    const int rest = index / tiles.column_tiles, sample = rest / tiles.row_tiles;
    return {sample, rest - sample * tiles.row_tiles, index - rest * tiles.column_tiles};
  }
  __device__ void advance(const PixelTiles& tiles) {
    if (++column < tiles.column_tiles) return;
    column = 0;
    if (++row < tiles.row_tiles) return;
    row = 0;
    ++sample;
  }
};

__device__ inline PixelTile tile_at(const PixelTiles& tiles, const TileIndex& index, int samples, int rows,
                                    int columns) {
  PixelTile tile{index.sample * tiles.samples, index.row * tiles.rows, index.column * tiles.columns, 0, 0, 0};
  tile.samples = min(tiles.samples, samples - tile.sample);
  tile.rows = min(tiles.rows, rows - tile.row);
  tile.columns = min(tiles.columns, columns - tile.column);
  return tile;
}

/// A picture of every sample, channels innermost.
struct Pictures {
  const float* data;
  int rows, columns, channels, pixel_pitch;
  int is_vector;  ///< `moves_by_four`

  std::int64_t pixel_count() const { return std::int64_t{rows} * columns; }
  __device__ std::int64_t pixel(int sample, int row, int column) const {
    return ((static_cast<std::int64_t>(sample) * rows + row) * columns + column) * pixel_pitch;
  }
};

/// Whether the channels of pixels can be moved four at a time.
inline bool moves_by_four(const float* data, int pixel_pitch, int channels) {
  return are_aligned({data}) && pixel_pitch % 4 == 0 && channels % 4 == 0;
}

/// The nearest number of 11 significant bits, ties away from zero, as tensor cores want it.
__device__ inline float to_tf32(float value) {
#if SIMT_GPU
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
#else
  return __uint_as_float((__float_as_uint(value) + 0x1000u) & ~0x1fffu);
#endif
}

/// How pixels of a tile lie in shared memory: four channels side by side, 2^quads_log times.
struct SharedPixels {
  int pixels;                   ///< of a whole tile
  int quads_log;                ///< of groups of four channels
  int pixel_pitch, quad_pitch;  ///< floats

  std::int64_t floats() const {
    return (std::int64_t{quad_pitch} << quads_log) > std::int64_t{pixel_pitch} * pixels
               ? std::int64_t{quad_pitch} << quads_log
               : std::int64_t{pixel_pitch} * pixels;
  }
};

/// One of them in the picture, seen from the tile's first: made once, since it is the same in every tile.
struct alignas(8) TablePixel {
  int offset;      ///< in floats
  unsigned place;  ///< rows << 16 | columns
  __device__ int row() const { return static_cast<int>(place >> 16); }
  __device__ int column() const { return static_cast<int>(place & 0xffffu); }
};
constexpr int kMostPlace = 0x7fff;

/// Rows and columns of pixels of every sample of a tile, `spacing` apart in the picture, into a table of all.
__device__ inline void fill_table(TablePixel* table, const Pictures& from, int pixels, int rows, int columns,
                                  int spacing) {
  const SmallDivisor per_row = SmallDivisor::of(columns), per_sample = SmallDivisor::of(rows * columns);
  for (int p = static_cast<int>(threadIdx.x); p < pixels; p += static_cast<int>(blockDim.x)) {
    const int sample = per_sample.quotient(p), inside = p - sample * rows * columns;
    const int patch_row = per_row.quotient(inside);
    const int row = patch_row * spacing, column = (inside - patch_row * columns) * spacing;
    table[p] = {((sample * from.rows + row) * from.columns + column) * from.pixel_pitch,
                static_cast<unsigned>(row) << 16 | static_cast<unsigned>(column)};
  }
}

/// Which pixels of a table there are: those of some samples whose rows and columns, beginning at a place that may lie
/// outside, are within a part of the picture.
struct PixelWindow {
  std::int64_t origin;  ///< of the first in the picture, in floats
  int channel;          ///< the first
  int pixels;           ///< those of the samples that are there
  int row, column, rows, columns;
  int sample;  ///< the first
};

// Calls visit(four floats in shared memory, the same in the picture, pixel, channel, whether it exists) for the
// thread's own. Those that do not exist are visited as well, up to the four channels behind the last. A block's threads
// are a multiple of the groups of four channels: a thread keeps to its channels.
template <class Visit>
__device__ inline void visit_pixels(const Pictures& from, const SharedPixels& layout, const TablePixel* table,
                                    const PixelWindow& window, float* shared, Visit visit) {
  const int thread = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x) >> layout.quads_log;
  const int quad = thread & ((1 << layout.quads_log) - 1), c = window.channel + 4 * quad;
  if (c >= from.channels + 4) return;
  const int there = c < from.channels ? window.pixels : 0;
  const float* data = from.data + (window.origin + 4 * quad);
  int pixel = thread >> layout.quads_log;
  float* at = shared + pixel * layout.pixel_pitch + quad * layout.quad_pitch;
  for (; pixel < layout.pixels; pixel += step, at += step * layout.pixel_pitch) {
    const TablePixel place = table[pixel];
    // No branches: all three are cheap.
    const bool in_row = static_cast<unsigned>(window.row + place.row()) < static_cast<unsigned>(window.rows);
    const bool in_column =
        static_cast<unsigned>(window.column + place.column()) < static_cast<unsigned>(window.columns);
    const bool exists = (static_cast<int>(pixel < there) & static_cast<int>(in_row) & static_cast<int>(in_column)) != 0;
    visit(at, data + place.offset, pixel, c, exists);
  }
}

/// Into shared memory, zeros where there are none.
__device__ inline void copy_pixels(const Pictures& from, const SharedPixels& layout, const TablePixel* table,
                                   const PixelWindow& window, float* shared) {
  if (from.is_vector != 0) {
    visit_pixels(from, layout, table, window, shared,
                 [](float* to, const float* four, int, int, bool exists) { copy_four(to, four, exists); });
    return;
  }
  visit_pixels(from, layout, table, window, shared, [&](float* to, const float* four, int, int c, bool exists) {
    for (int i = 0; i < 4; ++i) copy_float(to + i, four + i, exists && c + i < from.channels);
  });
}

/// A prologue as kernels see it: of the channels in question.
struct PatchPrologue {
  const float *scale, *shift;
  std::int64_t sample_pitch;
  int is_vector;
  SmallDivisor per_sample;  ///< pixels of a sample in the table

  static PatchPrologue of(const ConvolutionPrologue& prologue, int channel) {
    if (prologue.scale == nullptr) return {};
    const float *scale = prologue.scale + channel, *shift = prologue.shift + channel;
    const bool is_vector = are_aligned({scale, shift}) && prologue.sample_pitch % 4 == 0;
    return {scale, shift, prologue.sample_pitch, is_vector ? 1 : 0, SmallDivisor::of(1)};
  }
};

template <bool kRounds>
__device__ inline float prepared(float x, float scale, float shift) {
  const float value = x * scale + shift, positive = value < 0 ? 0.0f : value;  // a NaN stays one
  return kRounds ? to_tf32(positive) : positive;
}

/// What a thread has copied it makes ready itself, before the barrier: normalised and rectified, then rounded.
template <bool kRounds>
__device__ inline void prepare_pixels(const Pictures& from, const PatchPrologue& prologue, const SharedPixels& layout,
                                      const TablePixel* table, const PixelWindow& window, float* shared) {
  if (prologue.scale == nullptr) {
    if (!kRounds) return;
    visit_pixels(from, layout, table, window, shared, [](float* at, const float*, int, int, bool) {
      const float4 x = simt::load4(at);
      simt::store4(at, make_float4(to_tf32(x.x), to_tf32(x.y), to_tf32(x.z), to_tf32(x.w)));
    });
    return;
  }
  const bool is_vector = prologue.is_vector != 0 && from.channels % 4 == 0;
  visit_pixels(from, layout, table, window, shared, [&](float* at, const float*, int pixel, int c, bool exists) {
    if (!exists) return;
    std::int64_t first = c;
    if (prologue.sample_pitch != 0)
      first += (window.sample + prologue.per_sample.quotient(pixel)) * prologue.sample_pitch;
    if (is_vector) {
      const float4 x = simt::load4(at), scale = simt::load4(prologue.scale + first),
                   shift = simt::load4(prologue.shift + first);
      simt::store4(at, make_float4(prepared<kRounds>(x.x, scale.x, shift.x), prepared<kRounds>(x.y, scale.y, shift.y),
                                   prepared<kRounds>(x.z, scale.z, shift.z), prepared<kRounds>(x.w, scale.w, shift.w)));
      return;
    }
    for (int i = 0; i < 4 && c + i < from.channels; ++i)
      at[i] = prepared<kRounds>(at[i], __ldg(prologue.scale + first + i), __ldg(prologue.shift + first + i));
  });
}

/// The patches of a kernel's tiles.
struct PatchShape {
  int rows, columns;  ///< of a sample's patch in a whole tile
  int spacing;        ///< of the picture, from one row or column of the patch to the next
  int step;           ///< of the patch, from one output row or column to the next
  SharedPixels shared;

  static PatchShape of(const PixelTiles& tiles, int step, int spacing, int window_rows, int window_columns,
                       int channels) {
    PatchShape shape{};
    shape.rows = (tiles.rows - 1) * step + window_rows;
    shape.columns = (tiles.columns - 1) * step + window_columns;
    shape.spacing = spacing;
    shape.step = step;
    int log = 0;
    while (4 << log < channels) ++log;
    const int pixels = tiles.samples * shape.rows * shape.columns;
    // Planes of four channels begin half a row of banks apart.
    shape.shared = {pixels, log, 4, 4 * ((pixels + 3) / 8 * 8 + 4)};
    return shape;
  }
  int tile_step() const { return step * spacing; }
  __device__ int pixels_of_sample() const { return rows * columns; }
};

/// Tiles whose patches have places that fit a table; a pixel each where not.
inline PixelTiles tiles_for_tables(PixelTiles tiles, int samples, int rows, int columns, int tile_step, int window_rows,
                                   int window_columns, std::int64_t picture_floats) {
  const auto extent = [&](int tile, int window) { return std::int64_t{tile - 1} * tile_step + window; };
  if (extent(tiles.rows, window_rows) > kMostPlace || extent(tiles.columns, window_columns) > kMostPlace)
    return pixel_tiles(samples, rows, columns, 1, 1, 1, 1);
  if (tiles.samples * picture_floats > std::numeric_limits<int>::max()) {
    tiles.samples = 1;
    tiles.sample_tiles = samples;
  }
  return tiles;
}

}  // namespace thimble
