#include "norm_gradient.h"

#include <algorithm>

#include "bit_mask.h"
#include "registration.h"

namespace thimble {
namespace {

constexpr std::int64_t kTile = 1024;  // elements worked on at a time: they stay in the first cache

// Consecutive elements of one sample: whole rows, or a piece of one where a row is longer than a tile.
struct Tile {
  const float *gradient, *x;              // of the tile's first element, rows of `columns`
  const float *mean, *inverse_deviation;  // of its first channel
  std::int64_t rows, columns;
};

THIMBLE_CLONES void sum_tile(const Tile& tile, float* __restrict sum, float* __restrict product) {
  const float* __restrict g = tile.gradient, * __restrict x = tile.x;
  const float* __restrict mean = tile.mean, * __restrict inverse = tile.inverse_deviation;
  const std::int64_t rows = tile.rows, columns = tile.columns;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t e = r * columns + c;
      sum[c] += g[e];
      product[c] += g[e] * ((x[e] - mean[c]) * inverse[c]);
    }
}

// Of what is normalised, the gradient of its mean and of its product with the normalised x taken off: both are here
// times the scale that they share. dx may be the gradient's own storage.
THIMBLE_CLONES void differentiate_tile(const Tile& tile, const float* __restrict scale, const float* __restrict of_sum,
                                       const float* __restrict of_product, float* dx) {
  const float *g = tile.gradient, *x = tile.x, *mean = tile.mean, *inverse = tile.inverse_deviation;
  const std::int64_t rows = tile.rows, columns = tile.columns;
  for (std::int64_t r = 0; r < rows; ++r)
#pragma GCC ivdep
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t e = r * columns + c;
      dx[e] = scale[c] * g[e] - of_sum[c] - (x[e] - mean[c]) * inverse[c] * of_product[c];
    }
}

// Between rows that are `stride` apart and rows that are not.
THIMBLE_CLONES void gather(const float* from, std::int64_t stride, std::int64_t rows, std::int64_t columns, float* to) {
  for (std::int64_t r = 0; r < rows; ++r)
#pragma GCC ivdep
    for (std::int64_t c = 0; c < columns; ++c) to[r * columns + c] = from[r * stride + c];
}

// `also`, where there is one, is added; `to` may be the same.
THIMBLE_CLONES void scatter(const float* from, const float* also, std::int64_t stride, std::int64_t rows,
                            std::int64_t columns, float* to) {
  for (std::int64_t r = 0; r < rows; ++r)
#pragma GCC ivdep
    for (std::int64_t c = 0; c < columns; ++c)
      to[r * stride + c] = also == nullptr ? from[r * columns + c] : from[r * columns + c] + also[r * stride + c];
}

// The same in every row.
THIMBLE_CLONES void spread(const float* row, float divisor, std::int64_t rows, std::int64_t columns, float* to) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) to[r * columns + c] = row[c] / divisor;
}

struct Factors {
  float *inverse_deviation, *scale, *of_sum, *of_product;  // per channel
  const float* mean;
  ScaleShift forward;  // what y was computed with
};

class Gradient {
 public:
  Gradient(const NormGradient& in, std::byte* workspace, int threads)
      : in_(in),
        sizes_(in.sizes),
        width_(in.sizes.channels / in.moments.groups),
        workspace_(workspace),
        threads_(threads) {
    const std::int64_t channels = sizes_.channels;
    float* own = floats(workspace + partial_sums_bytes(sizes_).value);
    factors_ = {own, own + channels, own + 2 * channels, own + 3 * channels, in.moments.mean, {}};
    own += 4 * channels;
    if (in.gate == ReluGate::input) {
      factors_.forward =
          scale_shift(reinterpret_cast<std::byte*>(own), channels, in.gamma, in.beta, in.moments, in.epsilon);
      own += 2 * channels;
    }
    for (std::int64_t g = 0; g < in.moments.groups; ++g)
      std::fill_n(factors_.inverse_deviation + g * width_, width_,
                  static_cast<float>(1.0 / std::sqrt(static_cast<double>(in.moments.variance[g]) + in.epsilon)));
    if (width_ == 1) return;
    for (std::int64_t g = 0; g < in.moments.groups; ++g) std::fill_n(own + g * width_, width_, in.moments.mean[g]);
    factors_.mean = own;
  }

  void run() {
    parallel_chunks(threads_, sizes_.chunks.count, [&](std::int64_t k) { sum_chunk(k); });
    close_sums();
    parallel_chunks(threads_, sizes_.chunks.count, [&](std::int64_t k) {
      for (std::int64_t n = sizes_.chunks.begin(k); n < sizes_.chunks.end(k); ++n)
        visit_tiles(n, 0, sizes_.rows_per_sample, [&](const Tile& tile, std::int64_t row, std::int64_t channel) {
          differentiate(tile, row, channel);
        });
    });
  }

 private:
  bool is_dense() const { return in_.stride == sizes_.channels; }
  std::int64_t strided(std::int64_t row, std::int64_t channel) const { return row * in_.stride + channel; }

  void sum_chunk(std::int64_t k) {
    const PartialSums p = partial_sums(workspace_, sizes_, k);
    p.clear(sizes_.channels);
    for (std::int64_t n = sizes_.chunks.begin(k); n < sizes_.chunks.end(k); ++n)
      for (std::int64_t r = 0; r < sizes_.rows_per_sample; r += kRowsPerBlock) {
        visit_tiles(n, r, std::min(sizes_.rows_per_sample, r + kRowsPerBlock),
                    [&](const Tile& tile, std::int64_t, std::int64_t channel) {
                      sum_tile(tile, p.block_first + channel, p.block_second + channel);
                    });
        p.close_block(sizes_.channels);
      }
  }

  void close_sums() {
    for (std::int64_t c = 0; c < sizes_.channels; ++c) factors_.scale[c] = in_.gamma[c] * factors_.inverse_deviation[c];
    for (std::int64_t c = 0; c < sizes_.channels; c += width_) close_group(c);
  }

  void close_group(std::int64_t first) {
    const auto count = static_cast<double>(sizes_.samples * sizes_.rows_per_sample * width_);
    double of_sum = 0, of_product = 0;
    for (std::int64_t c = first; c < first + width_; ++c) {
      double sum = 0, product = 0;
      for (std::int64_t k = 0; k < sizes_.chunks.count; ++k) {
        const PartialSums p = partial_sums(workspace_, sizes_, k);
        sum += p.first[c];
        product += p.second[c];
      }
      in_.dbeta[c] = static_cast<float>(sum);
      in_.dgamma[c] = static_cast<float>(product);
      of_sum += static_cast<double>(factors_.scale[c]) * sum;
      of_product += static_cast<double>(factors_.scale[c]) * product;
    }
    std::fill_n(factors_.of_sum + first, width_, static_cast<float>(of_sum / count));
    std::fill_n(factors_.of_product + first, width_, static_cast<float>(of_product / count));
  }

  void differentiate(const Tile& tile, std::int64_t row, std::int64_t channel) {
    alignas(64) float part[kTile];
    const bool direct = is_dense() && in_.after == nullptr;
    float* dx = in_.dx + strided(row, channel);
    differentiate_tile(tile, factors_.scale + channel, factors_.of_sum + channel, factors_.of_product + channel,
                       direct ? dx : part);
    if (!direct)
      scatter(part, in_.after == nullptr ? nullptr : in_.after + strided(row, channel), in_.stride, tile.rows,
              tile.columns, dx);
  }

  // Calls visit(tile, its first row, its first channel) over the rows [begin, end) of sample n, in order.
  template <class Visit>
  void visit_tiles(std::int64_t n, std::int64_t begin, std::int64_t end, Visit visit) const {
    const std::int64_t channels = sizes_.channels;
    const std::int64_t columns = std::min(channels, kTile), rows = std::max<std::int64_t>(1, kTile / channels);
    for (std::int64_t r = begin; r < end; r += rows)
      for (std::int64_t c = 0; c < channels; c += columns)
        visit_one({nullptr, nullptr, factors_.mean + c, factors_.inverse_deviation + c, std::min(rows, end - r),
                   std::min(columns, channels - c)},
                  n, r, c, visit);
  }

  // A channel count beyond a tile is cut within the row, so that the elements stay consecutive: such x is dense.
  template <class Visit>
  void visit_one(Tile tile, std::int64_t n, std::int64_t row_of_sample, std::int64_t channel, Visit visit) const {
    alignas(64) float gated[kTile], gathered[kTile], shared[kTile];
    const std::int64_t row = n * sizes_.rows_per_sample + row_of_sample, count = tile.rows * tile.columns;
    tile.gradient = in_.dy + (in_.dy_is_of_mean ? n : row) * sizes_.channels + channel;
    if (in_.dy_is_of_mean) {
      spread(tile.gradient, static_cast<float>(sizes_.rows_per_sample), tile.rows, tile.columns, shared);
      tile.gradient = shared;
    }
    tile.x = in_.x + strided(row, channel);
    if (!is_dense()) {
      gather(tile.x, in_.stride, tile.rows, tile.columns, gathered);
      tile.x = gathered;
    }
    if (in_.gate == ReluGate::output)
      keep_positive(tile.gradient, floats(in_.gate_data) + strided(row, channel), count, gated);
    if (in_.gate == ReluGate::mask)
      keep_masked(tile.gradient,
                  reinterpret_cast<const std::uint32_t*>(in_.gate_data) + n * mask_words(sizes_.elements_per_sample()),
                  row_of_sample * sizes_.channels + channel, count, gated);
    if (in_.gate == ReluGate::input)
      keep_where_normalized_is_positive(tile.gradient, tile.x, tile.rows, tile.columns,
                                        factors_.forward.scale + channel, factors_.forward.shift + channel, gated);
    if (in_.gate != ReluGate::none) tile.gradient = gated;
    visit(tile, row, channel);
  }

  const NormGradient& in_;
  const NormSizes& sizes_;
  std::int64_t width_;  // channels of a group
  std::byte* workspace_;
  int threads_;
  Factors factors_;
};

}  // namespace

// The partial sums, then the four factors of every channel, then the forward pass's where they gate, then every
// channel's mean where channels share theirs.
Bytes norm_gradient_workspace(const NormSizes& sizes, std::int64_t groups, ReluGate gate) {
  const std::int64_t vectors = 4 + (gate == ReluGate::input ? 2 : 0) + (groups == sizes.channels ? 0 : 1);
  return partial_sums_bytes(sizes) + Bytes{4 * vectors * sizes.channels};
}

void run_norm_gradient(const NormGradient& gradient, std::byte* workspace, int threads) {
  Gradient(gradient, workspace, threads).run();
}

}  // namespace thimble
