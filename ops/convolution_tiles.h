// What the convolution kernels share: tiles of output pixels, the patch of the picture under a tile in shared memory,
// copies into shared memory that run beside the arithmetic.
//
// A tile is some columns of some rows of a picture, or whole pictures of some samples. Its patch is what a window over
// these pixels reads, for a few channels at a time: planes of four channels, [channels / 4][pixels][4], so that a
// thread's 16 bytes are four steps of its sums and neighbours' pixels lie in other banks.
#pragma once

#include <algorithm>
#include <limits>
#include <span>

#include "convolution_cuda.h"

namespace thimble {

constexpr int kMultiprocessors = 132;  // of the H100 and the H200: the same grids, and so the same bits, elsewhere

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

__device__ inline PixelTile tile_at(const PixelTiles& tiles, int index, int samples, int rows, int columns) {
  const int column = index % tiles.column_tiles, rest = index / tiles.column_tiles;
  const int row = rest % tiles.row_tiles, sample = rest / tiles.row_tiles;
  PixelTile tile{sample * tiles.samples, row * tiles.rows, column * tiles.columns, 0, 0, 0};
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

  __device__ std::int64_t pixel(int sample, int row, int column) const {
    return ((static_cast<std::int64_t>(sample) * rows + row) * columns + column) * pixel_pitch;
  }
};

inline bool is_aligned(const void* pointer, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}
/// Whether the channels of pixels can be moved four at a time.
inline bool moves_by_four(const float* data, int pixel_pitch, int channels) {
  return is_aligned(data, 16) && pixel_pitch % 4 == 0 && channels % 4 == 0;
}

// Copies run while the thread does something else; `wait_for_copies` waits for its own, a barrier shows them to others.

__device__ inline void copy_float(float* to, const float* from, bool is_there) {
#if SIMT_GPU
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(is_there ? 4 : 0));
#else
  *to = is_there ? *from : 0.0f;
#endif
}

__device__ inline void copy_four(float* to, const float* from, bool is_there) {
#if SIMT_GPU
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(is_there ? 16 : 0));
#else
  simt::store4(to, is_there ? simt::load4(from) : make_float4(0, 0, 0, 0));
#endif
}

__device__ inline void wait_for_copies() {
#if SIMT_GPU
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
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

/// The patches of a kernel's tiles.
struct PatchShape {
  int rows, columns;                         ///< of a sample's patch in a whole tile
  int plane;                                 ///< pixels from one plane of four channels to the next
  int spacing;                               ///< of the picture, from one row or column of the patch to the next
  int tile_step;                             ///< of the picture, from one output row or column to the next
  SmallDivisor per_row, per_sample, planes;  ///< columns; rows x columns; planes of a full block of channels

  static PatchShape of(const PixelTiles& tiles, int step, int spacing, int window_rows, int window_columns,
                       int channels) {
    PatchShape shape{};
    shape.rows = (tiles.rows - 1) * step + window_rows;
    shape.columns = (tiles.columns - 1) * step + window_columns;
    // Planes begin half a row of banks apart.
    shape.plane = (tiles.samples * shape.rows * shape.columns + 3) / 8 * 8 + 4;
    shape.spacing = spacing;
    shape.tile_step = step * spacing;
    shape.per_row = SmallDivisor::of(shape.columns);
    shape.per_sample = SmallDivisor::of(shape.rows * shape.columns);
    shape.planes = SmallDivisor::of(channels / 4);
    return shape;
  }
  std::int64_t pixels(const PixelTiles& tiles) const { return std::int64_t{tiles.samples} * rows * columns; }
};

/// Where a tile's patch lies in the picture.
struct PatchPlace {
  int sample, samples;  ///< the first, and how many are there
  int row, column;      ///< of the picture, under the patch's first; may be outside
};

// Calls visit(float4 of the patch, offset in the picture, sample, first channel, whether the pixel exists) for the
// thread's own float4s of channels [channel, channel + 4 x planes).
template <class Visit>
__device__ inline void visit_patch(const Pictures& from, const PatchShape& shape, const PatchPlace& place, int channel,
                                   float* patch, Visit visit) {
  const int planes = static_cast<int>(shape.planes.divisor);
  const int count = place.samples * static_cast<int>(shape.per_sample.divisor) * planes;
  for (int e = static_cast<int>(threadIdx.x); e < count; e += static_cast<int>(blockDim.x)) {
    const int pixel = shape.planes.quotient(e), plane = e - pixel * planes;
    const int sample = shape.per_sample.quotient(pixel);
    const int inside = pixel - sample * static_cast<int>(shape.per_sample.divisor);
    const int patch_row = shape.per_row.quotient(inside), patch_column = inside - patch_row * shape.columns;
    const int row = place.row + patch_row * shape.spacing, column = place.column + patch_column * shape.spacing;
    const bool is_there = row >= 0 && row < from.rows && column >= 0 && column < from.columns;
    const int c = channel + 4 * plane;
    if (c >= from.channels + 4) continue;  // planes are read in pairs at most
    const bool exists = is_there && c < from.channels;
    visit(patch + 4 * (plane * shape.plane + pixel), exists ? from.pixel(place.sample + sample, row, column) + c : 0,
          place.sample + sample, c, exists);
  }
}

/// Four channels of a pixel, zeros where there are none.
__device__ inline void copy_channels(const Pictures& from, float* to, std::int64_t offset, int channel, bool exists) {
  if (from.is_vector != 0) return copy_four(to, from.data + offset, exists);
  for (int i = 0; i < 4; ++i) {
    const bool is_there = exists && channel + i < from.channels;
    copy_float(to + i, from.data + (is_there ? offset + i : 0), is_there);
  }
}

/// Four channels of a pixel that exists: normalised and rectified, then rounded.
template <bool kRounds>
__device__ inline void prepare_channels(const Pictures& from, const ConvolutionPrologue& prologue, float* at,
                                        int sample, int channel) {
  const std::int64_t first = sample * prologue.sample_pitch + channel;
  for (int i = 0; i < 4 && channel + i < from.channels; ++i) {
    float value = at[i];
    if (prologue.scale != nullptr) {
      value = value * __ldg(prologue.scale + first + i) + __ldg(prologue.shift + first + i);
      value = value < 0 ? 0.0f : value;  // a NaN stays one
    }
    at[i] = kRounds ? to_tf32(value) : value;
  }
}

__device__ inline void copy_patch(const Pictures& from, const PatchShape& shape, const PatchPlace& place, int channel,
                                  float* patch) {
  visit_patch(from, shape, place, channel, patch, [&](float* to, std::int64_t offset, int, int c, bool exists) {
    copy_channels(from, to, offset, c, exists);
  });
}

/// What a thread has copied it makes ready itself, before the barrier.
template <bool kRounds>
__device__ inline void prepare_patch(const Pictures& from, const ConvolutionPrologue& prologue, const PatchShape& shape,
                                     const PatchPlace& place, int channel, float* patch) {
  if (!kRounds && prologue.scale == nullptr) return;
  visit_patch(from, shape, place, channel, patch, [&](float* at, std::int64_t, int sample, int c, bool exists) {
    if (exists) prepare_channels<kRounds>(from, prologue, at, sample, c);
  });
}

}  // namespace thimble
