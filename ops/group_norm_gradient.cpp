#include "group_norm_gradient.h"

#include <algorithm>

#include "registration.h"

namespace thimble {
namespace {

// Of a chunk: two sums per channel in double, a sample's two gradients, then what the sample's gradient works in.
Bytes sums_bytes(const NormSizes& s) { return align_up(Bytes{24 * s.channels}, kAlignment); }

Bytes chunk_bytes(const NormSizes& s, std::int64_t groups, ReluGate gate) {
  return sums_bytes(s) + align_up(norm_gradient_workspace(s.one_sample(), groups, gate), kAlignment);
}

}  // namespace

Bytes GroupNormGradient::workspace(const NormSizes& s, std::int64_t groups, ReluGate gate) {
  return chunk_bytes(s, groups, gate) * chunks(s.samples).count;
}

GroupNormGradient::GroupNormGradient(const NormGradient& all, std::byte* workspace)
    : all_(all),
      chunks_(chunks(all.sizes.samples)),
      workspace_(workspace),
      chunk_bytes_(chunk_bytes(all.sizes, all.moments.groups, all.gate).value) {
  for (std::int64_t k = 0; k < chunks_.count; ++k) std::fill_n(sums_of(k), 2 * all_.sizes.channels, 0.0);
}

double* GroupNormGradient::sums_of(std::int64_t chunk) const {
  return reinterpret_cast<double*>(workspace_ + chunk * chunk_bytes_);
}

void GroupNormGradient::run_sample(std::int64_t n, const float* dy) const {
  const std::int64_t channels = all_.sizes.channels, at = n * all_.sizes.elements_per_sample();
  double* sums = sums_of(n / chunks_.size);
  float* of_sample = reinterpret_cast<float*>(sums + 2 * channels);
  NormGradient sample = all_;
  sample.sizes = all_.sizes.one_sample();
  sample.dy = dy;
  sample.x += at;
  sample.dx += at;
  if (sample.after != nullptr) sample.after += at;
  sample.moments = all_.moments.of_sample(n);
  sample.dgamma = of_sample;
  sample.dbeta = of_sample + channels;
  run_norm_gradient(sample, reinterpret_cast<std::byte*>(sums) + sums_bytes(all_.sizes).value, 1);
  for (std::int64_t i = 0; i < 2 * channels; ++i) sums[i] += static_cast<double>(of_sample[i]);
}

void GroupNormGradient::run_all(const float* dy, std::int64_t stride, int threads) const {
  parallel_chunks(threads, chunks_.count, [&](std::int64_t k) {
    for (std::int64_t n = chunks_.begin(k); n < chunks_.end(k); ++n) run_sample(n, dy + n * stride);
  });
  finish();
}

void GroupNormGradient::finish() const {
  const std::int64_t channels = all_.sizes.channels;
  for (std::int64_t c = 0; c < channels; ++c) {
    double gamma = 0, beta = 0;
    for (std::int64_t k = 0; k < chunks_.count; ++k) {
      gamma += sums_of(k)[c];
      beta += sums_of(k)[channels + c];
    }
    all_.dgamma[c] = static_cast<float>(gamma);
    all_.dbeta[c] = static_cast<float>(beta);
  }
}

}  // namespace thimble
