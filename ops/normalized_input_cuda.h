// What the CUDA kernels share that work on normalised, rectified values which never exist as a whole: a scale and a
// shift per channel for convolutions that normalise while they read, and samples that are normalised beforehand.
#pragma once

#include "convolution_cuda.h"
#include "norm_conv_inputs.h"
#include "normalization_cuda.h"

namespace thimble {

/// An input that is normalised before it is used, as `NormalizedInput` orders it.
struct NormalizedInputCuda {
  NormRows rows;  ///< of all samples
  std::int64_t groups;
  double epsilon;
  const float *x, *mean, *variance, *gamma, *beta;

  static NormalizedInputCuda of(const OpShape& shape, const KernelArguments& a);
};

/// Scales, then shifts: of every channel or, where each sample has statistics of its own, of every sample's.
Bytes prologue_workspace(const OpShape& shape);

/// One launch that makes them in `prologue_workspace`.
ConvolutionPrologue launch_prologue(const NormalizedInputCuda& input, std::byte* workspace, cudaStream_t stream);

/// Rectified, normalised values of some samples, one launch: the values that a prologue gives, bit for bit.
void launch_normalized_samples(const NormalizedInputCuda& input, HalfOpen samples, float* to, cudaStream_t stream);

/// How many samples go through an op's workspace at a time where they have to: an eighth of them, or as many as the
/// attribute `group` says if that is more.
std::int64_t samples_at_once(const OpShape& shape, std::int64_t samples);

/// Other attributes of the op: doubled groups, up to all samples. For OpKernels::faster.
std::vector<Attributes> larger_groups(const OpShape& shape, std::int64_t samples);

}  // namespace thimble
