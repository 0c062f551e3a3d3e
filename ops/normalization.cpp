#include "normalization.h"

#include <cmath>

#include "registration.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;  // of samples: fixes the order of the sums

THIMBLE_CLONES void add_block(const PartialSums& p, std::int64_t channels) {
  for (std::int64_t c = 0; c < channels; ++c) {
    p.first[c] += static_cast<double>(p.block_first[c]);
    p.second[c] += static_cast<double>(p.block_second[c]);
    p.block_first[c] = p.block_second[c] = 0;
  }
}

// Of x - pivot: near zero where the pivot is a value of the channel or its group, so that squares lose no digits to a
// large mean.
THIMBLE_CLONES void sum_block(const float* __restrict x, const float* __restrict pivot, std::int64_t rows,
                              std::int64_t channels, float* __restrict sum, float* __restrict squares) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < channels; ++c) {
      const float v = x[r * channels + c] - pivot[c];
      sum[c] += v;
      squares[c] += v * v;
    }
}

THIMBLE_CLONES void scale_rows(const float* x, std::int64_t stride, float* y, std::int64_t rows, std::int64_t channels,
                               const float* __restrict scale, const float* __restrict shift, bool relu) {
  for (std::int64_t r = 0; r < rows; ++r)
#pragma GCC ivdep
    for (std::int64_t c = 0; c < channels; ++c) {
      const float v = x[r * stride + c] * scale[c] + shift[c];
      y[r * channels + c] = relu && v < 0 ? 0.0f : v;  // a NaN stays one
    }
}

Bytes chunk_bytes(const NormSizes& s) { return align_up(Bytes{24 * s.channels}, kAlignment); }

}  // namespace

NormSizes NormSizes::of(const TensorType& x) {
  return {x.shape[0], x.shape[1] * x.shape[2], x.shape[3], Chunks::of(x.shape[0], kChunks)};
}

void PartialSums::clear(std::int64_t channels) const {
  std::fill_n(first, 2 * channels, 0.0);
  std::fill_n(block_first, 2 * channels, 0.0f);
}

void PartialSums::close_block(std::int64_t channels) const { add_block(*this, channels); }

Bytes partial_sums_bytes(const NormSizes& sizes) { return chunk_bytes(sizes) * sizes.chunks.count; }

PartialSums partial_sums(std::byte* workspace, const NormSizes& sizes, std::int64_t chunk) {
  auto* doubles = reinterpret_cast<double*>(workspace + chunk * chunk_bytes(sizes).value);
  auto* singles = reinterpret_cast<float*>(doubles + 2 * sizes.channels);
  return {doubles, doubles + sizes.channels, singles, singles + sizes.channels};
}

void expect_groups(const std::string& kind, std::int64_t channels, std::int64_t groups) {
  if (groups < 1 || channels % groups != 0)
    throw InvalidArgument(kind + ": " + std::to_string(channels) + " channels are not " + std::to_string(groups) +
                          " equal groups");
}

void expect_moments(const std::string& kind, const std::vector<TensorType>& inputs, std::size_t first,
                    const TensorType& x) {
  const TensorType &mean = inputs[first], &variance = inputs[first + 1];
  if (!mean.batched) {
    expect_vector(kind, mean, x.shape[3]);
    return expect_vector(kind, variance, x.shape[3]);
  }
  expect_rank(kind, mean, 2);
  expect_same(kind, mean, {DType::f32, {x.shape[0], mean.shape[1]}, true});
  expect_same(kind, variance, mean);
  expect_groups(kind, x.shape[3], mean.shape[1]);
}

// The partial sums, then a pivot per channel where channels share theirs.
Bytes statistics_bytes(const NormSizes& s, std::int64_t groups) {
  return partial_sums_bytes(s) + (groups == s.channels ? Bytes{} : align_up(Bytes{4 * s.channels}, kAlignment));
}

// Chunk after chunk, whoever summed them.
void compute_statistics(const NormSizes& s, std::int64_t groups, const float* x, std::byte* workspace, int threads,
                        float* mean, float* variance) {
  const std::int64_t width = s.channels / groups;
  const float* pivot = x;
  if (width > 1) {
    float* own = floats(workspace + partial_sums_bytes(s).value);
    for (std::int64_t c = 0; c < s.channels; ++c) own[c] = x[c / width * width];
    pivot = own;
  }
  parallel_chunks(threads, s.chunks.count, [&](std::int64_t k) {
    const PartialSums p = partial_sums(workspace, s, k);
    p.clear(s.channels);
    const std::int64_t last = s.chunks.end(k) * s.rows_per_sample;
    for (std::int64_t r = s.chunks.begin(k) * s.rows_per_sample; r < last; r += kRowsPerBlock) {
      sum_block(x + r * s.channels, pivot, std::min(kRowsPerBlock, last - r), s.channels, p.block_first,
                p.block_second);
      p.close_block(s.channels);
    }
  });
  const auto count = static_cast<double>(s.samples * s.rows_per_sample * width);
  for (std::int64_t g = 0; g < groups; ++g) {
    double sum = 0, squares = 0;
    for (std::int64_t k = 0; k < s.chunks.count; ++k) {
      const PartialSums p = partial_sums(workspace, s, k);
      for (std::int64_t c = g * width; c < (g + 1) * width; ++c) {
        sum += p.first[c];
        squares += p.second[c];
      }
    }
    const double m = sum / count;
    mean[g] = static_cast<float>(static_cast<double>(pivot[g * width]) + m);
    variance[g] = static_cast<float>(std::max(0.0, squares / count - m * m));
  }
}

ScaleShift scale_shift(std::byte* memory, std::int64_t channels, const float* gamma, const float* beta,
                       const Moments& moments, double epsilon) {
  const ScaleShift factors{floats(memory), floats(memory) + channels};
  const std::int64_t width = channels / moments.groups;
  for (std::int64_t g = 0; g < moments.groups; ++g) {
    const auto deviation = static_cast<float>(std::sqrt(static_cast<double>(moments.variance[g]) + epsilon));
    for (std::int64_t c = g * width; c < (g + 1) * width; ++c) {
      factors.scale[c] = gamma[c] / deviation;
      factors.shift[c] = beta[c] - moments.mean[g] * factors.scale[c];
    }
  }
  return factors;
}

void normalize_rows(const float* x, std::int64_t stride, float* y, std::int64_t rows, std::int64_t channels,
                    const ScaleShift& factors, bool relu) {
  scale_rows(x, stride, y, rows, channels, factors.scale, factors.shift, relu);
}

THIMBLE_CLONES void keep_where_normalized_is_positive(const float* from, const float* x, std::int64_t rows,
                                                      std::int64_t columns, const float* scale, const float* shift,
                                                      float* to) {
  for (std::int64_t r = 0; r < rows; ++r)
#pragma GCC ivdep
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t e = r * columns + c;
      const float value = from[e];
      to[e] = x[e] * scale[c] + shift[c] > 0 ? value : 0.0f;
    }
}

}  // namespace thimble
