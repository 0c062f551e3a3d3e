// Moments of channels, and what is normalised by them.
#include "bit_mask_cuda.h"
#include "norm_slice_cuda.h"

namespace thimble {
namespace {

constexpr int kRowsAtOnce = 4;

// Where sums of x - pivot and of its square are, and what they are of.
struct MomentSums {
  float2* sums;
  float* pivots;
  int parts, width, channels, groups;
  double count;
};

struct Moment {
  float mean, variance;
};

// Of one group, by a warp, from the pairs of its channels.
__device__ Moment moment_of(const MomentSums& of, const float2* pairs, float pivot) {
  SumPair sum{0, 0};
  for (int i = static_cast<int>(threadIdx.x) % 32; i < of.width * of.parts; i += 32) {
    const float2 pair = pairs[i];
    sum.first += static_cast<double>(pair.x);
    sum.second += static_cast<double>(pair.y);
  }
  sum = sum_warp(sum);
  const double m = sum.first / of.count, variance = sum.second / of.count - m * m;
  return {static_cast<float>(static_cast<double>(pivot) + m), variance < 0 ? 0.0f : static_cast<float>(variance)};
}

__device__ Moment moment_of(const MomentSums& of, std::int64_t segment, int group) {
  return moment_of(of, of.sums + (segment * of.channels + group * of.width) * of.parts,
                   of.pivots[segment * of.groups + group]);
}

// Sums of x - pivot and of its square: near zero where the pivot is a value of the channel or its group, so that
// squares lose no digits to a large mean. Pivots are kept, since x may be overwritten before they are read again. Where
// a block has whole groups of a whole segment it may write their moments at once.
template <bool kAligned>
__global__ void __launch_bounds__(kSummingThreads, 2)
    moment_sums_kernel(SliceGrid grid, MomentSums of, const float* x, float* mean, float* variance) {
  const SliceThread t(grid, blockIdx.x);
  Quad pivot{};
  const float* segment = x + t.segment * grid.rows * grid.stride;
  for_channels(t, [&](int i) { pivot.at[i] = segment[(t.channel() + i) / of.width * of.width]; });
  if (mean == nullptr && t.part == 0 && t.slot == 0)
    for_channels(t, [&](int i) {
      if (const int c = t.channel() + i; c % of.width == 0)
        of.pivots[t.segment * of.groups + c / of.width] = pivot.at[i];
    });

  LongSum sum, squares;
  int count = 0;
  const float* from = x + t.row * grid.stride + t.channel();
  for (int r = t.slot; r < t.rows; r += kRowsAtOnce * t.slots) {
    Quad values[kRowsAtOnce];
    for (int u = 0; u < kRowsAtOnce; ++u)
      if (r + u * t.slots < t.rows) values[u] = load_quad<kAligned>(from + (r + u * t.slots) * grid.stride, t.valid);
    for (int u = 0; u < kRowsAtOnce; ++u)
      if (r + u * t.slots < t.rows)
        for (int i = 0; i < 4; ++i) {
          const float v = values[u].at[i] - pivot.at[i];
          sum.near.at[i] += v;
          squares.near.at[i] += v * v;
        }
    if ((count += kRowsAtOnce) % kRowsOfNearSum == 0) {
      sum.close();
      squares.close();
    }
  }
  sum.close();
  squares.close();
  SIMT_SHARED(float2, pairs, [kWidestSlice]);
  sum_block(t, sum.all, squares.all, [&](int channel, double first, double second) {
    const float2 pair = make_float2(static_cast<float>(first), static_cast<float>(second));
    if (mean != nullptr)
      pairs[channel] = pair;
    else
      of.sums[(t.segment * grid.channels + t.first + channel) * grid.parts + t.part] = pair;
  });
  if (mean == nullptr) return;
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x) / 32 * of.width; c < t.channels; c += kSummingThreads / 32 * of.width) {
    const Moment moment = moment_of(of, pairs + c, segment[t.first + c]);
    if (threadIdx.x % 32 != 0) continue;
    const std::int64_t group = t.segment * of.groups + (t.first + c) / of.width;
    mean[group] = moment.mean;
    variance[group] = moment.variance;
  }
}

__global__ void moments_kernel(MomentSums of, std::int64_t all_groups, float* mean, float* variance) {
  const std::int64_t i = global_thread() / 32;
  if (i >= all_groups) return;
  const Moment moment = moment_of(of, i / of.groups, static_cast<int>(i % of.groups));
  if (threadIdx.x % 32 != 0) return;
  mean[i] = moment.mean;
  variance[i] = moment.variance;
}

struct Affine {
  const float *gamma, *beta;
  double epsilon;
};

// Moments of the batch or of each sample, of groups of channels.
struct GivenMoments {
  const float *mean, *variance;
  int width, groups;
};

// The factors of the block's channels.
__device__ void make_factors(const SliceThread& t, const GivenMoments& given, const Affine& affine, float* scales,
                             float* shifts) {
  if (const int c = static_cast<int>(threadIdx.x); c < t.channels) {
    const std::int64_t group = t.segment * given.groups + (t.first + c) / given.width;
    const ChannelFactors factors = channel_factors(given.mean[group], given.variance[group], affine.gamma[t.first + c],
                                                   affine.beta[t.first + c], affine.epsilon);
    scales[c] = factors.scale;
    shifts[c] = factors.shift;
  }
  __syncthreads();
}

// Blocks go from the last to the first: what the sums read last is still near. With a mask, 8 threads side by side have
// the 32 values of a word.
template <bool kAligned, bool kMask>
__global__ void __launch_bounds__(kApplyingThreads, 3)
    normalize_kernel(SliceGrid grid, GivenMoments given, Affine affine, bool relu, const float* x, float* y,
                     std::uint32_t* mask) {
  SIMT_SHARED(float, scales, [kWidestSlice]);
  SIMT_SHARED(float, shifts, [kWidestSlice]);
  const SliceThread t(grid, static_cast<std::int64_t>(gridDim.x) - 1 - blockIdx.x);
  make_factors(t, given, affine, scales, shifts);
  ChannelFactors factors[4] = {};
  for_channels(t, [&](int i) { factors[i] = {scales[4 * t.lane + i], shifts[4 * t.lane + i]}; });
  const std::int64_t first = t.row * grid.stride + t.channel();
  for (int base = 0; base < t.rows; base += kRowsAtOnce * t.slots) {  // as often in all threads
    const auto row = [&](int u) { return base + u * t.slots + t.slot; };
    Quad values[kRowsAtOnce] = {};
    for (int u = 0; u < kRowsAtOnce; ++u)
      if (row(u) < t.rows) values[u] = load_quad<kAligned>(x + first + row(u) * grid.stride, t.valid);
    for (int u = 0; u < kRowsAtOnce; ++u) {
      std::uint32_t bits = 0;
      for (int i = 0; i < 4; ++i) {
        const float value = normalized(values[u].at[i], factors[i]);
        values[u].at[i] = relu ? rectified(value) : value;
        bits |= static_cast<std::uint32_t>(values[u].at[i] > 0) << i;
      }
      const std::int64_t at = first + row(u) * grid.stride;
      if (row(u) < t.rows) store_quad<kAligned>(y + at, values[u], t.valid);
      if constexpr (kMask) {
        const int eighth = static_cast<int>(threadIdx.x) % 8;
        bits = row(u) < t.rows ? bits << (4 * eighth) : 0;
        for (int distance = 4; distance > 0; distance /= 2) bits |= __shfl_xor_sync(0xffffffffu, bits, distance);
        if (eighth == 0 && row(u) < t.rows) mask[at / 32] = bits;
      }
    }
  }
}

// Where channels are cut in ways that words are not.
__global__ void mask_kernel(const float* y, std::uint32_t* mask, MaskWords words) {
  float values[kWordsOfWarp];
  visit_mask_words(words, [&](int u, std::int64_t, std::int64_t e) { values[u] = e < 0 ? 0.0f : y[e]; });
  visit_mask_words(words, [&](int u, std::int64_t word, std::int64_t) {
    const std::uint32_t bits = __ballot_sync(0xffffffffu, values[u] > 0);
    if (threadIdx.x % 32 == 0 && word < words.all) mask[word] = bits;
  });
}

// Whether words of a mask are whole slices of a row, or whole rows, and no sample ends within one.
bool are_slices_words(const NormRows& r) {
  return r.channels % 32 == 0 ||
         ((r.channels == 4 || r.channels == 8 || r.channels == 16) && r.rows_per_sample * r.channels % 32 == 0);
}

Bytes pivot_bytes(const NormRows& r, std::int64_t groups) { return Bytes{4 * r.segments() * groups}; }

MomentSums moment_sums(const NormRows& rows, std::int64_t groups, const NormParts& parts, std::byte* workspace) {
  const auto width = static_cast<int>(rows.channels / groups);
  return {reinterpret_cast<float2*>(workspace),    reinterpret_cast<float*>(workspace + parts.bytes(rows).value),
          static_cast<int>(parts.parts),           width,
          static_cast<int>(rows.channels),         static_cast<int>(groups),
          static_cast<double>(rows.rows() * width)};
}

// Means and variances are written where they are given and every block has whole ones: then `sums` is null.
MomentSums launch_moment_sums(const NormRows& rows, std::int64_t groups, const float* x, float* mean, float* variance,
                              std::byte* workspace, cudaStream_t stream) {
  const NormParts parts = NormParts::of(rows);
  const SliceGrid grid = SliceGrid::of(rows, parts.rows_per_part, summing_slice(rows.channels));
  MomentSums of = moment_sums(rows, groups, parts, workspace);
  const bool has_whole_groups = mean != nullptr && parts.parts == 1 && grid.slice % of.width == 0;
  simt::launch(has_whole_quads(rows, {x}) ? moment_sums_kernel<true> : moment_sums_kernel<false>, grid.blocks(),
               kSummingThreads, 0, stream, grid, of, x, has_whole_groups ? mean : nullptr, variance);
  if (has_whole_groups) of.sums = nullptr;
  return of;
}

void launch_normalize(const NormForward& norm, const GivenMoments& given, cudaStream_t stream) {
  const SliceGrid grid = applying_grid(norm.rows, kRowsAtOnce);
  const Affine affine{norm.gamma, norm.beta, norm.epsilon};
  const bool whole = has_whole_quads(norm.rows, {norm.x, norm.y});
  const bool with_mask = norm.mask != nullptr && are_slices_words(norm.rows);
  const auto kernel = with_mask ? (whole ? normalize_kernel<true, true> : normalize_kernel<false, true>)
                                : (whole ? normalize_kernel<true, false> : normalize_kernel<false, false>);
  simt::launch(kernel, grid.blocks(), kApplyingThreads, 0, stream, grid, given, affine, norm.relu, norm.x, norm.y,
               norm.mask);
  if (norm.mask == nullptr || with_mask) return;
  const MaskWords words = MaskWords::of(norm.rows.rows_per_sample * norm.rows.channels, norm.rows.samples);
  simt::launch(mask_kernel, blocks_for(words), kBlock, 0, stream, norm.y, norm.mask, words);
}

}  // namespace

// Of one sample, parts of a size; of the batch, as many as there are processors for.
NormParts NormParts::of(const NormRows& r) {
  constexpr std::int64_t kBlocks = 2 * kMultiprocessors;
  const int slice = summing_slice(r.channels);
  const std::int64_t slots = kSummingThreads / lanes_of(slice), slices = (r.channels + slice - 1) / slice;
  std::int64_t rows_per_part = std::min(kMostRows, 16 * slots);
  if (!r.is_per_sample) {
    std::int64_t parts = std::min((kBlocks + slices - 1) / slices, (r.rows() + slots - 1) / slots);
    parts = std::max(parts, (r.rows() + kMostRows - 1) / kMostRows);
    rows_per_part = (r.rows() + parts - 1) / parts;
  }
  return {rows_per_part, (r.rows() + rows_per_part - 1) / rows_per_part};
}

Bytes moments_workspace(const NormRows& rows, std::int64_t groups) {
  return NormParts::of(rows).bytes(rows) + pivot_bytes(rows, groups);
}

void launch_moments(const NormRows& rows, std::int64_t groups, const float* x, float* mean, float* variance,
                    std::byte* workspace, cudaStream_t stream) {
  const MomentSums of = launch_moment_sums(rows, groups, x, mean, variance, workspace, stream);
  if (of.sums == nullptr) return;
  const std::int64_t all_groups = rows.segments() * groups;
  simt::launch(moments_kernel, blocks_for(32 * all_groups), kBlock, 0, stream, of, all_groups, mean, variance);
}

void launch_norm(const NormForward& norm, float* mean, float* variance, std::byte* workspace, cudaStream_t stream) {
  // Three launches: moments that every block adds up for itself cost more than they save.
  launch_moments(norm.rows, norm.groups, norm.x, mean, variance, workspace, stream);
  launch_norm_inference(norm, mean, variance, stream);
}

OpCost normalization_cost(const OpShape& shape, std::int64_t launches, std::initializer_list<std::size_t> read_again) {
  OpCost cost = bytes_moved(shape);
  for (std::size_t input : read_again) cost.bytes += static_cast<double>(bytes_of(shape.inputs[input]).value);
  constexpr double kOfSums = 3;  // as long as others on an H200
  cost.launches = kOfSums * static_cast<double>(launches);
  return cost;
}

void launch_norm_inference(const NormForward& norm, const float* mean, const float* variance, cudaStream_t stream) {
  const auto width = static_cast<int>(norm.rows.channels / norm.groups);
  launch_normalize(norm, {mean, variance, width, static_cast<int>(norm.groups)}, stream);
}

}  // namespace thimble
