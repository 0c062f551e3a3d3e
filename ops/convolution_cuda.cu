// Forward convolutions and data gradients: a block makes a tile of pixels times some channels. The patch of the picture
// that its window reads and the weights beside it come into shared memory for a few channels at a time, all taps of the
// window, and are used while the next few are on their way.
//
// A data gradient is a convolution of dy by the mirrored window. With a stride, pixels of one row and column modulo the
// stride (a class) see the same taps, every stride-th of the window, and step through dy one by one.
#include "convolution_tiles.h"

namespace thimble {
namespace {

constexpr int kMostTaps = 32;  // of a window that is read from one patch
constexpr int kMostShared = 96 * 1024;
constexpr int kPad = 8;  // floats behind a row of weights, so that rows begin in other banks

struct TiledConvolution {
  Pictures source;
  ConvolutionPrologue prologue;
  PixelTiles tiles;  // of the pixels of the largest class
  PatchShape patch;
  int samples, rows, columns;  // of the result
  int classes;                 // per direction: 1, or the stride of a data gradient
  int is_backward;
  int window_rows, window_columns, stride, pad;
  int reads_whole_window;  // or one tap after the other
  int patch_taps;          // at most
  int block_channels;      // read at once
  const float* w;
  int w_out_pitch, w_in_pitch;  // floats from one made, one read channel to the next
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

// One of the steps in which a block reads: a block of channels, all taps or one of them.
struct ReadStep {
  int channel;  // the first
  int tap_row, tap_column;
};

__device__ inline ReadStep read_step(const TiledConvolution& call, const BlockWork& work, int step) {
  const int block = step / work.window_parts, part = step - block * work.window_parts;
  const int row = part / max(work.columns.taps, 1);
  return {block * call.block_channels, row, part - row * work.columns.taps};
}

__device__ inline PatchPlace place_of(const TiledConvolution& call, const BlockWork& work, const ReadStep& step) {
  const int stride = call.patch.tile_step;
  return {work.tile.sample, work.tile.samples, work.tile.row * stride + work.rows.first + step.tap_row,
          work.tile.column * stride + work.columns.first + step.tap_column};
}

// Calls visit(float in shared memory, offset in w, whether it exists) for the thread's own weights of a step:
// [read channel][tap][made channel], neighbours in w by neighbouring threads.
template <int kChannels, class Visit>
__device__ inline void visit_weights(const TiledConvolution& call, const BlockWork& work, const int* tap_weights,
                                     const ReadStep& step, float* weights, Visit visit) {
  const int taps = work.taps,
            first_tap = (work.rows.weight + step.tap_row * work.rows.weight_step) * call.window_columns +
                        work.columns.weight + step.tap_column * work.columns.weight_step;
  const auto weight = [&](int in, int tap, int out) {
    const bool exists = step.channel + in < call.source.channels && work.first_channel + out < call.out_channels;
    const int offset = (work.first_channel + out) * call.w_out_pitch + (step.channel + in) * call.w_in_pitch +
                       first_tap + tap_weights[tap];
    visit(weights + (in * taps + tap) * (kChannels + kPad) + out, exists ? offset : 0, exists);
  };
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  if (call.w_in_pitch < call.w_out_pitch) {
    // What is read and its taps are neighbours: eight of those for each of four made channels.
    const int run = call.block_channels * taps, runs = (run + 7) / 8;
    const int lane_out = thread & 3, lane_in = thread >> 2 & 7;
    const SmallDivisor per_run = SmallDivisor::of(max(runs, 1));
    for (int e = thread >> 5; e < runs * (kChannels / 4); e += threads >> 5) {
      const int out = per_run.quotient(e), j = (e - out * runs) * 8 + lane_in;
      const int in = work.per_tap.quotient(j);
      if (j < run) weight(in, j - in * taps, out * 4 + lane_out);
    }
    return;
  }
  const int run = kChannels * taps;
  for (int in = 0; in < call.block_channels; ++in)
    for (int j = thread; j < run; j += threads) {
      const int out = work.per_tap.quotient(j);
      weight(in, j - out * taps, out);
    }
}

// A thread's part of a tile in floats: kRows pixels times 4 * kQuads channels. kLanes lanes of a warp lie along
// channels, the others along pixels; kWarps warps lie along pixels.
template <int kRowsOfThread, int kQuads, int kLanes, int kWarps>
struct FloatTile {
  static constexpr bool kRounds = false;
  static constexpr int kRows = kRowsOfThread, kColumns = 4 * kQuads, kPixelLanes = 32 / kLanes;
  static constexpr int kPixels = kWarps * kPixelLanes * kRows, kChannels = kLanes * kColumns;
  static constexpr int kWarpsOfTile = kWarps, kValues = kRows * kColumns;

  float sums[kValues];
  int patch_offset[kRows];
  int warp, lane;

  __device__ static int pixel(int warp, int lane, int row) {
    return (warp * kRows + row) * kPixelLanes + lane / kLanes;
  }
  __device__ int channel(int quad) const { return (quad * kLanes + lane % kLanes) * 4; }

  template <class PatchOffset>
  __device__ void begin(int warp_of_tile, int lane_of_warp, PatchOffset offset_of) {
    warp = warp_of_tile;
    lane = lane_of_warp;
    for (int i = 0; i < kRows; ++i) {
      patch_offset[i] = offset_of(pixel(warp, lane, i));
      for (int j = 0; j < kColumns; ++j) sums[i * kColumns + j] = 0;
    }
  }

  // Every `groups`-th pair of a plane and a tap from `group` on.
  __device__ void multiply(const float* patch, int plane_size, int planes, const float* weights, const int* tap_offsets,
                           int taps, int group, int groups) {
    int plane = 0, tap = group;
    for (; tap >= taps; tap -= taps) ++plane;
    while (plane < planes) {
      const float* values = patch + 4 * plane * plane_size + tap_offsets[tap];
      const float* factors = weights + (4 * plane * taps + tap) * (kChannels + kPad) + lane % kLanes * 4;
      float4 x[kRows];
      SIMT_UNROLL
      for (int i = 0; i < kRows; ++i) x[i] = simt::load4(values + patch_offset[i]);
      SIMT_UNROLL
      for (int c = 0; c < 4; ++c) {
        float4 w[kQuads];
        SIMT_UNROLL
        for (int q = 0; q < kQuads; ++q) w[q] = simt::load4(factors + c * taps * (kChannels + kPad) + q * kLanes * 4);
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i) {
          const float value = c == 0 ? x[i].x : c == 1 ? x[i].y : c == 2 ? x[i].z : x[i].w;
          SIMT_UNROLL
          for (int q = 0; q < kQuads; ++q) {
            float* sum = sums + i * kColumns + 4 * q;
            sum[0] = fmaf(value, w[q].x, sum[0]);
            sum[1] = fmaf(value, w[q].y, sum[1]);
            sum[2] = fmaf(value, w[q].z, sum[2]);
            sum[3] = fmaf(value, w[q].w, sum[3]);
          }
        }
      }
      for (tap += groups; tap >= taps; tap -= taps) ++plane;
    }
  }

  // Calls store(pixel, channel, four values).
  template <class Store>
  __device__ void finish(Store store) const {
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) SIMT_UNROLL
    for (int q = 0; q < kQuads; ++q) {
      const float* sum = sums + i * kColumns + 4 * q;
      store(pixel(warp, lane, i), channel(q), make_float4(sum[0], sum[1], sum[2], sum[3]));
    }
  }
};

// Sums of groups of warps that took every kGroups-th step join in the first group's registers, in a fixed order.
template <class Tile, int kGroups>
__device__ inline void join_groups(Tile& tile, int group, float* shared) {
  constexpr int kThreads = 32 * Tile::kWarpsOfTile;
  const int thread = static_cast<int>(threadIdx.x) % kThreads;
  SIMT_UNROLL
  for (int half = kGroups / 2; half >= 1; half /= 2) {
    __syncthreads();
    if (group >= half && group < 2 * half) SIMT_UNROLL
    for (int i = 0; i < Tile::kValues; ++i)
      shared[((group - half) * Tile::kValues + i) * kThreads + thread] = tile.sums[i];
    __syncthreads();
    if (group < half) SIMT_UNROLL
    for (int i = 0; i < Tile::kValues; ++i) tile.sums[i] += shared[(group * Tile::kValues + i) * kThreads + thread];
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
  SIMT_SHARED(int, tap_offsets, [kMostTaps]);
  SIMT_SHARED(int, tap_weights, [kMostTaps]);
  SIMT_DYN_SHARED(float, shared);
  const BlockWork work = block_work(call, Tile::kChannels);
  if (work.tile.rows <= 0 || work.tile.columns <= 0) return;  // of a smaller class
  if (const int t = static_cast<int>(threadIdx.x); t < work.taps) {
    const int row = work.per_column.quotient(t), column = t - row * work.columns.taps;
    tap_offsets[t] = 4 * (row * call.patch.columns + column);
    tap_weights[t] = row * work.rows.weight_step * call.window_columns + column * work.columns.weight_step;
  }
  __syncthreads();

  const int thread = static_cast<int>(threadIdx.x), group = thread / (32 * Tile::kWarpsOfTile);
  const int tile_pixels = static_cast<int>(call.tile_pixels.divisor);
  const int step_of_patch = call.patch.tile_step / call.patch.spacing;
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
    return is_inside(p) ? 4 * (p.x * static_cast<int>(call.patch.per_sample.divisor) +
                               (p.y * call.patch.columns + p.z) * step_of_patch)
                        : 0;
  });

  const int patch_floats = call.block_channels * call.patch.plane;
  const int buffer_floats = patch_floats + call.block_channels * work.taps * (Tile::kChannels + kPad);
  const int steps = work.window_parts * ((call.source.channels + call.block_channels - 1) / call.block_channels);
  const auto copy = [&](int s) {
    float* buffer = shared + s % 2 * buffer_floats;
    const ReadStep step = read_step(call, work, s);
    copy_patch(call.source, call.patch, place_of(call, work, step), step.channel, buffer);
    visit_weights<Tile::kChannels>(
        call, work, tap_weights, step, buffer + patch_floats,
        [&](float* to, int offset, bool exists) { copy_float(to, call.w + offset, exists); });
  };
  if (steps > 0) copy(0);
  for (int s = 0; s < steps; ++s) {
    float* buffer = shared + s % 2 * buffer_floats;
    const ReadStep step = read_step(call, work, s);
    wait_for_copies();
    prepare_patch<Tile::kRounds>(call.source, call.prologue, call.patch, place_of(call, work, step), step.channel,
                                 buffer);
    if (Tile::kRounds)
      visit_weights<Tile::kChannels>(call, work, tap_weights, step, buffer + patch_floats,
                                     [](float* at, int, bool) { *at = to_tf32(*at); });
    __syncthreads();
    if (s + 1 < steps) copy(s + 1);
    const int channels = min(call.block_channels, call.source.channels - step.channel);
    tile.multiply(buffer, call.patch.plane, (channels + 3) / 4, buffer + patch_floats, tap_offsets, work.taps, group,
                  kGroups);
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

// What a block of channels of all taps should come to: enough work between two barriers.
int channels_at_once(int channels, int taps) {
  const int wanted = taps >= 8 ? 8 : taps >= 4 ? 16 : 32;
  return std::min(wanted, (channels + 7) / 8 * 8);
}

template <class Tile>
std::int64_t shared_bytes(const TiledConvolution& call, int groups) {
  const std::int64_t buffer =
      std::int64_t{call.block_channels} * (call.patch.plane + call.patch_taps * (Tile::kChannels + kPad));
  const std::int64_t joining = std::int64_t{groups / 2} * Tile::kValues * 32 * Tile::kWarpsOfTile;
  return 4 * std::max(2 * buffer, joining);
}

template <class Tile, int kGroups>
void launch(TiledConvolution call, cudaStream_t stream) {
  const int class_rows = tiles_of(call.rows, call.classes), class_columns = tiles_of(call.columns, call.classes);
  const auto cut = [&](bool reads_whole_window) {
    call.reads_whole_window = reads_whole_window ? 1 : 0;
    const int rows = reads_whole_window ? tiles_of(call.window_rows, call.classes) : 1;
    const int columns = reads_whole_window ? tiles_of(call.window_columns, call.classes) : 1;
    // From one output to the next the picture moves on by the stride, of which a window of one tap needs one pixel.
    const int stride = call.is_backward != 0 ? 1 : call.stride, step = rows * columns == 1 ? 1 : stride;
    call.block_channels = channels_at_once(call.source.channels, rows * columns);
    call.tiles = pixel_tiles(call.samples, class_rows, class_columns, Tile::kPixels, step, rows, columns);
    const std::int64_t patch = (std::int64_t{call.tiles.rows - 1} * step + rows) *
                               (std::int64_t{call.tiles.columns - 1} * step + columns) * call.tiles.samples;
    call.patch_taps = rows * columns;
    if (call.patch_taps > kMostTaps || patch > kMostShared) return false;
    call.patch = PatchShape::of(call.tiles, step, stride / step, rows, columns, call.block_channels);
    return shared_bytes<Tile>(call, kGroups) <= kMostShared;
  };
  if (!cut(true)) cut(false);
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
  return {Tile::kPixels, Tile::kChannels, use, launch<Tile, kGroups>};
}

constexpr Variant kFloatVariants[] = {
    variant<FloatTile<8, 2, 8, 4>, 2>(1.0),  variant<FloatTile<8, 2, 8, 2>, 4>(0.95),
    variant<FloatTile<8, 2, 8, 1>, 8>(0.8),  variant<FloatTile<8, 1, 8, 4>, 2>(0.8),
    variant<FloatTile<8, 1, 8, 2>, 4>(0.75), variant<FloatTile<8, 1, 8, 1>, 8>(0.65),
    variant<FloatTile<8, 1, 4, 2>, 4>(0.75), variant<FloatTile<8, 1, 4, 1>, 8>(0.65),
};

void run(const TiledConvolution& call, int wanted, cudaStream_t stream) {
  if (wanted >= 0) return kFloatVariants[wanted].launch(call, stream);
  const Variant* best = nullptr;
  double best_time = 0;
  const std::int64_t classes = std::int64_t{std::min(call.classes, call.rows)} * std::min(call.classes, call.columns);
  for (const Variant& v : kFloatVariants) {
    const PixelTiles tiles = pixel_tiles(call.samples, tiles_of(call.rows, call.classes),
                                         tiles_of(call.columns, call.classes), v.pixels, 1, 1, 1);
    const std::int64_t blocks = classes * tiles.count() * tiles_of(call.out_channels, v.channels);
    const double time =
        static_cast<double>(tiles_of<std::int64_t>(blocks, kMultiprocessors)) * v.pixels * v.channels / v.use;
    if (best != nullptr && time >= best_time) continue;
    best = &v;
    best_time = time;
  }
  best->launch(call, stream);
}

}  // namespace

ConvolutionGeometry geometry_of(const TensorType& x, const TensorType& w, const TensorType& y,
                                const Attributes& attributes) {
  for (const TensorType* type : {&x, &w, &y})
    if (elements_per_sample(*type) > std::numeric_limits<int>::max())
      throw InvalidArgument("convolution: a tensor of 2^31 or more values in a sample");
  const auto extent = [](const TensorType& type, std::size_t i) { return static_cast<int>(type.shape[i]); };
  return {.n = extent(x, 0),
          .h = extent(x, 1),
          .w = extent(x, 2),
          .c = extent(x, 3),
          .k = extent(w, 0),
          .r = extent(w, 2),
          .s = extent(w, 3),
          .stride = static_cast<int>(int_attribute(attributes, "stride")),
          .pad = static_cast<int>(int_attribute(attributes, "padding")),
          .out_h = extent(y, 1),
          .out_w = extent(y, 2)};
}

double convolution_flops(const ConvolutionGeometry& g) { return 2.0 * g.n * g.out_h * g.out_w * g.k * g.c * g.r * g.s; }

int convolution_variants(ConvolutionMath) { return static_cast<int>(std::size(kFloatVariants)); }

ConvolutionMath math_of(const OpShape& shape) {
  return shape.device.math == "tf32" ? ConvolutionMath::tf32 : ConvolutionMath::fp32;
}

const float* added_to_gradient(const OpShape& shape, const KernelArguments& a) {
  if (flag(shape.attributes, kAddsToLast)) return floats(a.inputs.back());
  return flag(shape.attributes, kAccumulates) && !a.first_microbatch ? floats(a.outputs[0]) : nullptr;
}

void convolve_forward(const ForwardConvolution& f, cudaStream_t stream) {
  const ConvolutionGeometry& g = f.geometry;
  TiledConvolution call{};
  call.source = {f.x, g.h, g.w, g.c, g.c, moves_by_four(f.x, g.c, g.c) ? 1 : 0};
  call.prologue = f.prologue;
  call.samples = g.n;
  call.rows = g.out_h;
  call.columns = g.out_w;
  call.classes = 1;
  call.window_rows = g.r;
  call.window_columns = g.s;
  call.stride = g.stride;
  call.pad = g.pad;
  call.w = f.w;
  call.w_out_pitch = g.c * g.r * g.s;
  call.w_in_pitch = g.r * g.s;
  call.out_channels = g.k;
  call.y = f.y;
  call.added = f.added;
  call.y_pitch = g.k;
  call.y_is_vector = moves_by_four(f.y, g.k, g.k) && is_aligned(f.added, 16) ? 1 : 0;
  run(call, f.variant, stream);
}

void convolve_backward_data(const BackwardDataConvolution& b, cudaStream_t stream) {
  const ConvolutionGeometry& g = b.geometry;
  const int channels = (b.c_end != 0 ? b.c_end : g.c) - b.c_begin;
  TiledConvolution call{};
  call.source = {b.dy, g.out_h, g.out_w, g.k, g.k, moves_by_four(b.dy, g.k, g.k) ? 1 : 0};
  call.samples = g.n;
  call.rows = g.h;
  call.columns = g.w;
  call.classes = g.stride;
  call.is_backward = 1;
  call.window_rows = g.r;
  call.window_columns = g.s;
  call.stride = g.stride;
  call.pad = g.pad;
  call.w = b.w + std::int64_t{b.c_begin} * g.r * g.s;
  call.w_out_pitch = g.r * g.s;
  call.w_in_pitch = g.c * g.r * g.s;
  call.out_channels = channels;
  call.y = b.dx;
  call.added = b.added;
  call.y_pitch = b.dx_pitch != 0 ? b.dx_pitch : channels;
  call.y_is_vector = moves_by_four(b.dx, call.y_pitch, 4) && is_aligned(b.added, 16) ? 1 : 0;
  run(call, b.variant, stream);
}

}  // namespace thimble
