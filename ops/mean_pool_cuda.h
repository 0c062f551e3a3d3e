// The mean over height and width on CUDA, of x or of what is normalised and rectified on the way.
#pragma once

#include "normalization_cuda.h"

namespace thimble {

/// What x is normalised by; nothing where `mean` is null.
struct PoolNorm {
  const float *mean, *variance, *gamma, *beta;
  double epsilon;
  int width;            ///< channels of a group
  std::int64_t groups;  ///< moments of a sample, 0 where all share them
};

/// NHWC to {N, C}; one launch.
void launch_mean_pool(const NormRows& rows, const PoolNorm& norm, const float* x, float* mean, cudaStream_t stream);

}  // namespace thimble
