// The gradient of a normalisation: its sums, then what they come to.
#include "norm_slice_cuda.h"

namespace thimble {
namespace {

constexpr int kRowsAtOnce = 2;

// Where the gradient of the normalised values comes from.
enum class Source { plain, gated_by_output, gated_by_mask, gated_by_cut_mask, gated_by_input, mean_gated_by_input };

constexpr bool is_gated_by_mask(Source s) { return s == Source::gated_by_mask || s == Source::gated_by_cut_mask; }
constexpr bool is_gated_by_input(Source s) { return s == Source::gated_by_input || s == Source::mean_gated_by_input; }

// Of all threads: what the sums and the gradient read.
struct GradientInput {
  const float *dy, *x, *gamma, *beta, *mean, *variance, *output;
  const std::uint32_t* mask;
  double epsilon;
  std::int64_t rows_per_sample, words;  // of a sample's mask
  int width;                            // channels of a group
};

// What a block reads of the slice's channels, made once.
struct SliceFactors {
  float mean[kWidestSlice], inverse[kWidestSlice], scale[kWidestSlice];
  ChannelFactors forward[kWidestSlice];  // what y was computed with, where the gate is the input
};

// Of the calling thread's channel, where it has one.
template <Source kSource>
__device__ void make_factors(const GradientInput& in, const SliceGrid& grid, const SliceThread& t,
                             SliceFactors& factors) {
  const auto i = static_cast<int>(threadIdx.x);
  if (i >= t.channels) return;
  const int c = t.first + i;
  const std::int64_t group = t.segment * (grid.channels / in.width) + c / in.width;
  const float mean = in.mean[group], variance = in.variance[group], inverse = inverse_deviation(variance, in.epsilon);
  factors.mean[i] = mean;
  factors.inverse[i] = inverse;
  factors.scale[i] = in.gamma[c] * inverse;
  if constexpr (is_gated_by_input(kSource))
    factors.forward[i] = channel_factors(mean, variance, in.gamma[c], in.beta[c], in.epsilon);
}

// Of the four channels of a thread.
struct GradientQuad {
  float mean[4];
  ChannelFactors forward[4];
};

template <Source kSource>
__device__ GradientQuad gradient_quad(const SliceThread& t, const SliceFactors& factors) {
  GradientQuad quad{};
  for_channels(t, [&](int i) {
    quad.mean[i] = factors.mean[4 * t.lane + i];
    if constexpr (is_gated_by_input(kSource)) quad.forward[i] = factors.forward[4 * t.lane + i];
  });
  return quad;
}

// Which sample a row is of: counted from that of the first row of the block's part.
struct PartSamples {
  std::int64_t first;
  unsigned row, rows_per_sample;  // the first row in its sample

  __device__ PartSamples(const GradientInput& in, const SliceThread& t)
      : first(t.row / in.rows_per_sample),
        row(static_cast<unsigned>(t.row - first * in.rows_per_sample)),
        rows_per_sample(static_cast<unsigned>(in.rows_per_sample)) {}
  __device__ unsigned sample(int r) const { return (row + static_cast<unsigned>(r)) / rows_per_sample; }
};

struct GradientRow {
  Quad gradient, x, output;
  std::uint32_t bits;
};

// Bit i is that of the thread's i-th channel. Where samples are whole words, a thread's channels are within one.
template <Source kSource>
__device__ std::uint32_t mask_bits(const GradientInput& in, const PartSamples& samples, const SliceGrid& grid,
                                   const SliceThread& t, int r) {
  if constexpr (kSource == Source::gated_by_mask) {
    const std::int64_t e = (t.row + r) * grid.channels + t.channel();
    return in.mask[e / 32] >> (e % 32);
  }
  const unsigned sample = samples.sample(r);
  const std::int64_t row = samples.row + static_cast<unsigned>(r) - sample * samples.rows_per_sample;
  const std::uint32_t* mask = in.mask + (samples.first + sample) * in.words;
  std::uint32_t bits = 0;
  for_channels(t, [&](int i) {
    const std::int64_t e = row * grid.channels + t.channel() + i;
    bits |= (mask[e / 32] >> (e % 32) & 1u) << i;
  });
  return bits;
}

// Row r of the block's part.
template <Source kSource, bool kAligned>
__device__ GradientRow load_row(const GradientInput& in, const PartSamples& samples, const SliceGrid& grid,
                                const SliceThread& t, int r) {
  GradientRow loaded;
  const std::int64_t at = (t.row + r) * grid.stride + t.channel();
  const std::int64_t dy_row = kSource == Source::mean_gated_by_input ? samples.first + samples.sample(r) : t.row + r;
  loaded.gradient = load_quad<kAligned>(in.dy + dy_row * grid.channels + t.channel(), t.valid);
  loaded.x = load_quad<kAligned>(in.x + at, t.valid);
  if constexpr (kSource == Source::gated_by_output) loaded.output = load_quad<kAligned>(in.output + at, t.valid);
  if constexpr (is_gated_by_mask(kSource)) loaded.bits = mask_bits<kSource>(in, samples, grid, t, r);
  return loaded;
}

// The gradient of the normalised values, of the thread's i-th channel.
template <Source kSource>
__device__ float gated(const GradientInput& in, const GradientQuad& quad, const GradientRow& row, int i) {
  float g = row.gradient.at[i];
  if constexpr (kSource == Source::mean_gated_by_input) g /= static_cast<float>(in.rows_per_sample);
  if constexpr (kSource == Source::gated_by_output) return row.output.at[i] > 0 ? g : 0.0f;
  if constexpr (is_gated_by_mask(kSource)) return (row.bits >> i & 1u) != 0 ? g : 0.0f;
  if constexpr (is_gated_by_input(kSource)) return normalized(row.x.at[i], quad.forward[i]) > 0 ? g : 0.0f;
  return g;
}

template <Source kSource, bool kAligned>
__global__ void __launch_bounds__(kSummingThreads, 2)
    gradient_sums_kernel(GradientInput in, SliceGrid grid, float2* sums) {
  SIMT_SHARED(SliceFactors, factors, [1]);
  const SliceThread t(grid, blockIdx.x);
  make_factors<kSource>(in, grid, t, factors[0]);
  __syncthreads();
  const GradientQuad quad = gradient_quad<kSource>(t, factors[0]);
  const PartSamples samples(in, t);
  LongSum sum, product;
  int count = 0;
  for (int r = t.slot; r < t.rows; r += kRowsAtOnce * t.slots) {
    GradientRow loaded[kRowsAtOnce];
    for (int u = 0; u < kRowsAtOnce; ++u)
      if (r + u * t.slots < t.rows) loaded[u] = load_row<kSource, kAligned>(in, samples, grid, t, r + u * t.slots);
    for (int u = 0; u < kRowsAtOnce; ++u)
      if (r + u * t.slots < t.rows)
        for (int i = 0; i < 4; ++i) {
          const float g = gated<kSource>(in, quad, loaded[u], i);
          sum.near.at[i] += g;
          product.near.at[i] += g * (loaded[u].x.at[i] - quad.mean[i]);
        }
    if ((count += kRowsAtOnce) % kRowsOfNearSum == 0) {
      sum.close();
      product.close();
    }
  }
  sum.close();
  product.close();
  sum_block(t, sum.all, product.all, [&](int channel, double first, double second) {
    sums[(t.segment * grid.channels + t.first + channel) * grid.parts + t.part] = make_float2(
        static_cast<float>(first), static_cast<float>(second * static_cast<double>(factors[0].inverse[channel])));
  });
}

// Sums as they lie in memory.
struct GradientSums {
  const float2* sums;
  int parts;
  int pitch;  // from one channel's pairs to the next's
};

// Adds the parts of a channel up in its first: a warp a channel of a segment.
__global__ void join_parts_kernel(float2* sums, int parts, std::int64_t all_channels) {
  const std::int64_t channel = global_thread() / 32;
  if (channel >= all_channels) return;
  float2* own = sums + channel * parts;
  SumPair all{0, 0};
  for (int i = static_cast<int>(threadIdx.x) % 32; i < parts; i += 32) {
    const float2 pair = own[i];
    all.first += static_cast<double>(pair.x);
    all.second += static_cast<double>(pair.y);
  }
  all = sum_warp(all);
  if (threadIdx.x % 32 == 0) own[0] = make_float2(static_cast<float>(all.first), static_cast<float>(all.second));
}

// Gradients of gamma and beta of a slice, from the sums of all segments.
__device__ void finish_slice(const GradientSums& from, std::int64_t segments, int channels, int first, int columns,
                             float* dgamma, float* dbeta) {
  SIMT_SHARED(double, gamma_sums, [kApplyingThreads]);
  SIMT_SHARED(double, beta_sums, [kApplyingThreads]);
  const int thread = static_cast<int>(threadIdx.x), column = thread % columns, own = thread / columns;
  const int count = kApplyingThreads / columns;
  double gamma = 0, beta = 0;
  for (std::int64_t i = own; own < count && i < segments * from.parts; i += count) {
    const std::int64_t segment = i / from.parts, part = i - segment * from.parts;
    const float2 pair = from.sums[(segment * channels + first + column) * from.pitch + part];
    beta += static_cast<double>(pair.x);
    gamma += static_cast<double>(pair.y);
  }
  gamma_sums[thread] = gamma;
  beta_sums[thread] = beta;
  __syncthreads();
  if (thread >= columns) return;
  for (int s = 1; s < count; ++s) {
    gamma += gamma_sums[s * columns + thread];
    beta += beta_sums[s * columns + thread];
  }
  dgamma[first + thread] = static_cast<float>(gamma);
  dbeta[first + thread] = static_cast<float>(beta);
}

__global__ void __launch_bounds__(kApplyingThreads)
    gradient_finish_kernel(GradientSums from, std::int64_t segments, int channels, float* dgamma, float* dbeta) {
  const int first = static_cast<int>(blockIdx.x) * kWidestSlice;
  finish_slice(from, segments, channels, first, min(kWidestSlice, channels - first), dgamma, dbeta);
}

struct GradientOutput {
  const float* after;
  float *dx, *dgamma, *dbeta;
  unsigned finishing_blocks;  // the first so many make dgamma and dbeta, of a slice each
};

// What the sums of a group come to: gradients of its mean and of its product with the normalised x, times the scale
// that they share.
__device__ SumPair group_gradient(const GradientInput& in, const GradientSums& from, const SliceGrid& grid,
                                  const SliceThread& t, int group) {
  const int first = group * in.width;
  const float2* sums = from.sums + (t.segment * grid.channels + first) * from.pitch;
  const float inverse = inverse_deviation(in.variance[t.segment * (grid.channels / in.width) + group], in.epsilon);
  SumPair all{0, 0};
  for (int i = static_cast<int>(threadIdx.x) % 32; i < in.width * from.parts; i += 32) {
    const int channel = i / from.parts;
    const float2 pair = sums[channel * from.pitch + i - channel * from.parts];
    const auto scale = static_cast<double>(in.gamma[first + channel] * inverse);
    all.first += scale * static_cast<double>(pair.x);
    all.second += scale * static_cast<double>(pair.y);
  }
  all = sum_warp(all);
  const double count = static_cast<double>(grid.rows * in.width);
  return {all.first / count, all.second / count};
}

// dx = scale * g - of_sum - (x - mean) * inverse * of_product, and what is added.
template <Source kSource, bool kAligned>
__global__ void __launch_bounds__(kApplyingThreads, 3)
    gradient_apply_kernel(GradientInput in, GradientSums from, SliceGrid grid, GradientOutput out) {
  if (blockIdx.x < out.finishing_blocks) {
    const int first = static_cast<int>(blockIdx.x) * grid.slice;
    return finish_slice(from, grid.segments, grid.channels, first, min(grid.slice, grid.channels - first), out.dgamma,
                        out.dbeta);
  }
  const SliceThread t(grid, static_cast<std::int64_t>(gridDim.x) - 1 - blockIdx.x);
  SIMT_SHARED(float, of_sums, [kWidestSlice]);
  SIMT_SHARED(float, of_products, [kWidestSlice]);
  SIMT_SHARED(SliceFactors, factors, [1]);
  make_factors<kSource>(in, grid, t, factors[0]);
  const int first_group = t.first / in.width;
  const int groups = (t.first + t.channels - 1) / in.width - first_group + 1;
  if (in.width * from.parts == 1) {  // nothing to add up: a thread a channel
    if (const int c = static_cast<int>(threadIdx.x); c < groups) {
      const std::int64_t channel = t.segment * grid.channels + first_group + c;
      const float2 pair = from.sums[channel * from.pitch];
      const auto of_count =
          static_cast<double>(in.gamma[first_group + c] * inverse_deviation(in.variance[channel], in.epsilon));
      of_sums[c] = static_cast<float>(of_count * static_cast<double>(pair.x) / static_cast<double>(grid.rows));
      of_products[c] = static_cast<float>(of_count * static_cast<double>(pair.y) / static_cast<double>(grid.rows));
    }
  }
  for (int g = in.width * from.parts == 1 ? groups : static_cast<int>(threadIdx.x) / 32; g < groups;
       g += kApplyingThreads / 32) {
    const SumPair of = group_gradient(in, from, grid, t, first_group + g);
    if (threadIdx.x % 32 != 0) continue;
    of_sums[g] = static_cast<float>(of.first);
    of_products[g] = static_cast<float>(of.second);
  }
  __syncthreads();

  const GradientQuad quad = gradient_quad<kSource>(t, factors[0]);
  const PartSamples samples(in, t);
  float scale[4] = {}, of_sum[4] = {}, of_product[4] = {};
  for_channels(t, [&](int i) {
    const int c = 4 * t.lane + i, group = (t.first + c) / in.width - first_group;
    scale[i] = factors[0].scale[c];
    of_sum[i] = of_sums[group];
    of_product[i] = factors[0].inverse[c] * of_products[group];
  });
  const std::int64_t first = t.row * grid.stride + t.channel();
  for (int r = t.slot; r < t.rows; r += kRowsAtOnce * t.slots) {
    GradientRow loaded[kRowsAtOnce];
    Quad dx[kRowsAtOnce];
    const auto each = [&](auto visit) {
      for (int u = 0; u < kRowsAtOnce; ++u)
        if (r + u * t.slots < t.rows) visit(u, first + (r + u * t.slots) * grid.stride);
    };
    each([&](int u, std::int64_t) { loaded[u] = load_row<kSource, kAligned>(in, samples, grid, t, r + u * t.slots); });
    each([&](int u, std::int64_t) {
      for (int i = 0; i < 4; ++i)
        dx[u].at[i] = scale[i] * gated<kSource>(in, quad, loaded[u], i) - of_sum[i] -
                      (loaded[u].x.at[i] - quad.mean[i]) * of_product[i];
    });
    if (out.after != nullptr) {
      each([&](int u, std::int64_t at) { loaded[u].x = load_quad<kAligned>(out.after + at, t.valid); });
      each([&](int u, std::int64_t) {
        for (int i = 0; i < 4; ++i) dx[u].at[i] += loaded[u].x.at[i];
      });
    }
    each([&](int u, std::int64_t at) { store_quad<kAligned>(out.dx + at, dx[u], t.valid); });
  }
}

Source source_of(const NormGradientCuda& g) {
  switch (g.gate) {
    case ReluGate::output:
      return Source::gated_by_output;
    case ReluGate::mask:
      return g.rows.rows_per_sample * g.rows.channels % 32 == 0 && g.rows.channels % 4 == 0 ? Source::gated_by_mask
                                                                                            : Source::gated_by_cut_mask;
    case ReluGate::input:
      return g.dy_is_of_mean ? Source::mean_gated_by_input : Source::gated_by_input;
    default:
      return Source::plain;
  }
}

GradientInput input_of(const NormGradientCuda& g) {
  const std::int64_t elements = g.rows.rows_per_sample * g.rows.channels;
  GradientInput in{};
  in.dy = g.dy;
  in.x = g.x;
  in.gamma = g.gamma;
  in.beta = g.beta;
  in.mean = g.mean;
  in.variance = g.variance;
  in.output = g.gate == ReluGate::output ? floats(g.gate_data) : nullptr;
  in.mask = g.gate == ReluGate::mask ? reinterpret_cast<const std::uint32_t*>(g.gate_data) : nullptr;
  in.epsilon = g.epsilon;
  in.rows_per_sample = g.rows.rows_per_sample;
  in.words = (elements + 31) / 32;
  in.width = static_cast<int>(g.rows.channels / g.groups);
  return in;
}

// Calls launch(std::integral_constant<Source, ...>).
template <class Launch>
void with_source(Source source, Launch launch) {
  switch (source) {
    case Source::plain:
      return launch(std::integral_constant<Source, Source::plain>{});
    case Source::gated_by_output:
      return launch(std::integral_constant<Source, Source::gated_by_output>{});
    case Source::gated_by_mask:
      return launch(std::integral_constant<Source, Source::gated_by_mask>{});
    case Source::gated_by_cut_mask:
      return launch(std::integral_constant<Source, Source::gated_by_cut_mask>{});
    case Source::gated_by_input:
      return launch(std::integral_constant<Source, Source::gated_by_input>{});
    case Source::mean_gated_by_input:
      return launch(std::integral_constant<Source, Source::mean_gated_by_input>{});
  }
}

void launch_apply(const NormGradientCuda& g, const GradientSums& sums, cudaStream_t stream) {
  const SliceGrid grid = applying_grid(g.rows, kRowsAtOnce);
  const GradientInput in = input_of(g);
  const bool finishes = g.dgamma != nullptr;
  const GradientOutput out{g.after, g.dx, g.dgamma, g.dbeta, finishes ? static_cast<unsigned>(grid.slices) : 0u};
  const bool whole = has_whole_quads(g.rows, {in.dy, in.x, in.output, out.after, out.dx});
  with_source(source_of(g), [&](auto source) {
    constexpr Source kSource = decltype(source)::value;
    simt::launch(whole ? gradient_apply_kernel<kSource, true> : gradient_apply_kernel<kSource, false>,
                 grid.blocks() + out.finishing_blocks, kApplyingThreads, 0, stream, in, sums, grid, out);
  });
}

}  // namespace

Bytes norm_gradient_workspace_cuda(const NormRows& rows) { return NormParts::of(rows).bytes(rows); }

void launch_norm_gradient_sums(const NormGradientCuda& g, const NormParts& parts, float2* sums, cudaStream_t stream) {
  const SliceGrid grid = SliceGrid::of(g.rows, parts.rows_per_part, summing_slice(g.rows.channels));
  const GradientInput in = input_of(g);
  const bool whole = has_whole_quads(g.rows, {in.dy, in.x, in.output});
  with_source(source_of(g), [&](auto source) {
    constexpr Source kSource = decltype(source)::value;
    simt::launch(whole ? gradient_sums_kernel<kSource, true> : gradient_sums_kernel<kSource, false>, grid.blocks(),
                 kSummingThreads, 0, stream, in, grid, sums);
  });
}

void launch_norm_gradient_apply(const NormGradientCuda& g, const NormParts& parts, const float2* sums,
                                cudaStream_t stream) {
  const auto count = static_cast<int>(parts.parts);
  launch_apply(g, {sums, count, count}, stream);
}

void launch_norm_gradient_finish(const NormRows& rows, const NormParts& parts, const float2* sums, float* dgamma,
                                 float* dbeta, cudaStream_t stream) {
  const std::int64_t slices = (rows.channels + kWidestSlice - 1) / kWidestSlice;
  simt::launch(gradient_finish_kernel, slices, kApplyingThreads, 0, stream,
               GradientSums{sums, static_cast<int>(parts.parts), static_cast<int>(parts.parts)}, rows.segments(),
               static_cast<int>(rows.channels), dgamma, dbeta);
}

void launch_norm_gradient(const NormGradientCuda& gradient, std::byte* workspace, cudaStream_t stream) {
  const NormParts parts = NormParts::of(gradient.rows);
  auto* sums = reinterpret_cast<float2*>(workspace);
  const auto count = static_cast<int>(parts.parts);
  launch_norm_gradient_sums(gradient, parts, sums, stream);
  if (count > 1) {
    const std::int64_t all_channels = gradient.rows.segments() * gradient.rows.channels;
    simt::launch(join_parts_kernel, blocks_for(32 * all_channels), kBlock, 0, stream, sums, count, all_channels);
  }
  launch_apply(gradient, {sums, 1, count}, stream);
}

}  // namespace thimble
