// What convolves in floats, and the doors to both maths.
#include "convolution_kernel.h"

namespace thimble {
namespace {

// A thread's part of a tile in floats: kRows pixels times 4 * kQuads channels. kLanes lanes of a warp lie along
// channels, the others along pixels; kWarps warps lie along pixels.
template <int kRowsOfThread, int kQuads, int kLanes, int kWarps>
struct FloatTile {
  static constexpr bool kRounds = false;
  static constexpr int kChannelsAtOnce = 8;
  static constexpr int kRows = kRowsOfThread, kColumns = 4 * kQuads, kPixelLanes = 32 / kLanes;
  static constexpr int kPixels = kWarps * kPixelLanes * kRows, kChannels = kLanes * kColumns;
  static constexpr int kWarpsOfTile = kWarps, kValues = kRows * kColumns;
  static constexpr int kRow = kChannels + 4;  // of weights, so that rows begin in other banks

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

  static std::int64_t weight_floats(const TiledConvolution& call) {
    return std::int64_t{call.block_channels} * call.patch_taps * kRow;
  }

  // [read channel][tap][made channel], whatever their order in w; neighbours there by neighbouring threads.
  __device__ static void copy_weights(const TiledConvolution& call, const BlockWork& work, const Tap* taps,
                                      const ReadStep& step, float* weights) {
    const int ins = call.source.channels - step.channel, outs = call.out_channels - work.first_channel;
    if (ins >= call.block_channels && outs >= kChannels)
      copy_weights<true>(call, work, taps, step, ins, outs, weights);
    else
      copy_weights<false>(call, work, taps, step, ins, outs, weights);
  }

  template <bool kAllExist>
  __device__ static void copy_weights(const TiledConvolution& call, const BlockWork& work, const Tap* taps,
                                      const ReadStep& step, int ins, int outs, float* weights) {
    const int first =
        work.first_channel * call.w_out_pitch + step.channel * call.w_in_pitch + first_weight(call, work, step);
    const auto copy = [&](float* to, int offset, bool exists) {
      copy_float(to, call.w + static_cast<unsigned>(kAllExist || exists ? offset : 0), kAllExist || exists);
    };
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    if (call.w_in_pitch < call.w_out_pitch) {
      // What is read and its taps are neighbours: eight of those for each of four made channels, a part of these.
      constexpr int kParts = kChannels >= 64 ? 2 : 1, kOuts = kChannels / (4 * kParts);
      const int run = call.block_channels * work.taps, runs = tiles_of(run, 8);
      for (int e = thread / 32; e < runs * kParts; e += threads / 32) {
        const int out = e % kParts * 4 * kOuts + thread % 4, j = e / kParts * 8 + thread / 4 % 8;
        if (j >= run) continue;
        const int in = work.per_tap.quotient(j), tap = j - in * work.taps;
        int offset = first + out * call.w_out_pitch + in * call.w_in_pitch + taps[tap].weight;
        float* to = weights + j * kRow + out;
        SIMT_UNROLL
        for (int o = 0; o < kOuts; ++o) {
          copy(to + 4 * o, offset, in < ins && out + 4 * o < outs);
          offset += 4 * call.w_out_pitch;
        }
      }
      return;
    }
    for (int j = thread; j < kChannels * work.taps; j += threads) {
      const int out = work.per_tap.quotient(j), tap = j - out * work.taps;
      int offset = first + out * call.w_out_pitch + taps[tap].weight;
      float* to = weights + tap * kRow + out;
      SIMT_UNROLL
      for (int in = 0; in < call.block_channels; ++in) {
        copy(to, offset, in < ins && out < outs);
        offset += call.w_in_pitch;
        to += work.taps * kRow;
      }
    }
  }

  // Every `groups`-th part of a step from `group` on: a plane's tap, or a row of taps of a window of 3x3.
  __device__ void multiply(const TiledConvolution& call, const BlockWork& work, const Tap* taps, const StepValues& step,
                           int group, int groups) {
    const int planes = tiles_of(step.channels, 4), plane_floats = call.patch.shared.quad_pitch;
    const float* weights = step.weights + lane % kLanes * 4;
    if (work.taps == 9 && work.rows.taps == 3) {
      for (int u = group; u < 3 * planes; u += groups) {
        const int plane = u / 3, row = u - 3 * plane;
        add_products<3>(step.patch + plane * plane_floats + 4 * row * call.patch.columns,
                        weights + (36 * plane + 3 * row) * kRow, 9 * kRow);
      }
      return;
    }
    int plane = 0, tap = group;
    for (; tap >= work.taps; tap -= work.taps) ++plane;
    while (plane < planes) {
      add_products<1>(step.patch + plane * plane_floats + taps[tap].patch,
                      weights + (4 * plane * work.taps + tap) * kRow, work.taps * kRow);
      for (tap += groups; tap >= work.taps; tap -= work.taps) ++plane;
    }
  }

  // Four read channels, so many taps side by side.
  template <int kTaps>
  __device__ void add_products(const float* patch, const float* weights, int channel_pitch) {
    SIMT_UNROLL
    for (int tap = 0; tap < kTaps; ++tap) {
      float4 x[kRows];
      SIMT_UNROLL
      for (int i = 0; i < kRows; ++i) x[i] = simt::load4(patch + patch_offset[i] + 4 * tap);
      SIMT_UNROLL
      for (int c = 0; c < 4; ++c) {
        float4 w[kQuads];
        SIMT_UNROLL
        for (int q = 0; q < kQuads; ++q) w[q] = simt::load4(weights + c * channel_pitch + tap * kRow + q * kLanes * 4);
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
    }
  }

  // Calls store(pixel, channel, four values).
  template <class Store>
  __device__ void finish(Store store) const {
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
      SIMT_UNROLL
      for (int q = 0; q < kQuads; ++q) {
        const float* sum = sums + i * kColumns + 4 * q;
        store(pixel(warp, lane, i), channel(q), make_float4(sum[0], sum[1], sum[2], sum[3]));
      }
    }
  }
};

constexpr Variant kFloatVariants[] = {
    variant<FloatTile<8, 2, 8, 4>, 2>(1.0),  variant<FloatTile<8, 2, 8, 2>, 4>(0.95),
    variant<FloatTile<8, 2, 8, 1>, 8>(0.8),  variant<FloatTile<8, 1, 8, 4>, 2>(0.8),
    variant<FloatTile<8, 1, 8, 2>, 4>(0.75), variant<FloatTile<8, 1, 8, 1>, 8>(0.65),
    variant<FloatTile<8, 1, 4, 2>, 4>(0.75), variant<FloatTile<8, 1, 4, 1>, 8>(0.65),
    variant<FloatTile<8, 1, 2, 2>, 4>(0.7),  variant<FloatTile<8, 1, 2, 1>, 8>(0.6),
    variant<FloatTile<8, 1, 1, 1>, 8>(0.5),  variant<FloatTile<4, 1, 1, 1>, 8>(0.35),
};

std::span<const Variant> variants(ConvolutionMath math) {
  return math == ConvolutionMath::tf32 ? tensor_variants() : std::span<const Variant>(kFloatVariants);
}

// The tiles that the busiest multiprocessor is done with first.
const Variant& best_variant(const TiledConvolution& call, std::span<const Variant> all) {
  const Variant* best = nullptr;
  double best_time = 0;
  const std::int64_t classes = std::int64_t{std::min(call.classes, call.rows)} * std::min(call.classes, call.columns);
  for (const Variant& v : all) {
    const PixelTiles tiles = pixel_tiles(call.whole_samples, tiles_of(call.rows, call.classes),
                                         tiles_of(call.columns, call.classes), v.pixels, 1, 1, 1);
    const std::int64_t blocks = classes * tiles.count() * tiles_of(call.out_channels, v.channels);
    const double time =
        static_cast<double>(tiles_of<std::int64_t>(blocks, kMultiprocessors)) * v.pixels * v.channels / v.use;
    if (best != nullptr && time >= best_time) continue;
    best = &v;
    best_time = time;
  }
  return *best;
}

void run(const TiledConvolution& call, ConvolutionMath math, int wanted, cudaStream_t stream) {
  const std::span<const Variant> all = variants(math);
  (wanted >= 0 ? all[static_cast<std::size_t>(wanted)] : best_variant(call, all)).launch(call, stream);
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

ConvolutionPaces convolution_paces(ConvolutionMath math, bool has_prologue) {
  if (math == ConvolutionMath::tf32)
    return has_prologue ? ConvolutionPaces{{3.4, 13}, {3.3, 10}, {1.9, 20}}
                        : ConvolutionPaces{{3.2, 8}, {3.3, 10}, {1.3, 13}};
  return has_prologue ? ConvolutionPaces{{0.85, 13}, {0.9, 10}, {0.2, 20}}
                      : ConvolutionPaces{{0.7, 8}, {0.7, 10}, {0.2, 11}};
}

int convolution_variants(ConvolutionMath math) { return static_cast<int>(variants(math).size()); }

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
  call.prologue = PatchPrologue::of(f.prologue, 0);
  call.samples = g.n;
  call.whole_samples = f.whole_samples != 0 ? f.whole_samples : g.n;
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
  call.w_is_vector = are_aligned({call.w}) && call.w_out_pitch % 4 == 0 ? 1 : 0;
  call.out_channels = g.k;
  call.y = f.y;
  call.added = f.added;
  call.y_pitch = g.k;
  call.y_is_vector = moves_by_four(f.y, g.k, g.k) && are_aligned({f.added}) ? 1 : 0;
  run(call, f.math, f.variant, stream);
}

void convolve_backward_data(const BackwardDataConvolution& b, cudaStream_t stream) {
  const ConvolutionGeometry& g = b.geometry;
  const int channels = (b.c_end != 0 ? b.c_end : g.c) - b.c_begin;
  TiledConvolution call{};
  call.source = {b.dy, g.out_h, g.out_w, g.k, g.k, moves_by_four(b.dy, g.k, g.k) ? 1 : 0};
  call.samples = g.n;
  call.whole_samples = b.whole_samples != 0 ? b.whole_samples : g.n;
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
  call.w_is_vector = are_aligned({call.w}) && call.w_in_pitch % 4 == 0 && channels * g.r * g.s % 4 == 0 ? 1 : 0;
  call.out_channels = channels;
  call.y = b.dx;
  call.added = b.added;
  call.y_pitch = b.dx_pitch != 0 ? b.dx_pitch : channels;
  call.y_is_vector = moves_by_four(b.dx, call.y_pitch, 4) && are_aligned({b.added}) ? 1 : 0;
  run(call, b.math, b.variant, stream);
}

}  // namespace thimble
