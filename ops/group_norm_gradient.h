// The gradient of group normalisation, one sample at a time, for every op that has it: who shares the chunks shares the
// bits.
#pragma once

#include "norm_gradient.h"

namespace thimble {

/// Gradients of gamma and beta are sums over samples: those of a chunk in order, then chunk after chunk. Different
/// chunks may run at once.
class GroupNormGradient {
 public:
  static Bytes workspace(const NormSizes& sizes, std::int64_t groups, ReluGate gate);

  /// `all`: the gradient wanted, of all samples, with all channels of x and the moments of the first sample; `dy` may
  /// be left out.
  GroupNormGradient(const NormGradient& all, std::byte* workspace);

  /// Writes dx of sample n, whose gradient of the output lies at `dy`. Samples of a chunk come one after the other.
  void run_sample(std::int64_t n, const float* dy) const;
  /// Writes dgamma and dbeta, when every sample has run.
  void finish() const;
  /// All samples, whose gradients lie `stride` floats apart from `dy` on, and `finish`.
  void run_all(const float* dy, std::int64_t stride, int threads) const;

 private:
  // As the data gradient of a convolution has them.
  static Chunks chunks(std::int64_t samples) { return Chunks::of(samples, 8); }
  double* sums_of(std::int64_t chunk) const;  // of gamma's channels, then of beta's

  NormGradient all_;
  Chunks chunks_;
  std::byte* workspace_;
  std::int64_t chunk_bytes_;
};

}  // namespace thimble
