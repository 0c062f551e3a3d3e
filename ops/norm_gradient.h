// The gradient of a normalisation, of all channels or of some, for every op that has it: who shares the formula shares
// the bits. Group normalisation's is that of every sample by itself.
#pragma once

#include "normalization.h"

namespace thimble {

/// What says where the ReLU behind a normalisation lets a gradient through.
enum class ReluGate { none, output, mask, input };

/// `sizes.channels` neighbouring channels of an activation whose rows are `stride` floats apart. Moments, over all of
/// `sizes.samples`, factors and their gradients start at the first of those channels.
struct NormGradient {
  NormSizes sizes;
  std::int64_t stride;
  double epsilon;
  const float* dy;             ///< the gradient of the output, rows of sizes.channels
  bool dy_is_of_mean = false;  ///< one row a sample: the gradient of the mean over its rows
  const float *x, *gamma;
  Moments moments;
  ReluGate gate = ReluGate::none;
  const std::byte* gate_data = nullptr;  ///< of the gates `output` (y) and `mask`, which take all channels of x
  const float* beta = nullptr;           ///< of the gate `input`
  const float* after = nullptr;          ///< if any, added to dx; strided like x
  float* dx;                             ///< strided like x; may be x or `after`, or dy where that is as wide
  float *dgamma, *dbeta;
};

Bytes norm_gradient_workspace(const NormSizes& sizes, std::int64_t groups, ReluGate gate);

void run_norm_gradient(const NormGradient& gradient, std::byte* workspace, int threads);

}  // namespace thimble
