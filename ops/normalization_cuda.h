// The arithmetic of normalisation on CUDA, for every op that normalises: what one channel comes to, as
// normalization.cpp and norm_gradient.cpp compute it, and the launches that sum over channels and apply what the sums
// come to.
//
// Sums are taken in two launches without atomics: blocks sum parts of the rows and leave a pair per channel and part,
// and whoever reads them adds those in order. A group's pairs lie side by side: [segment][channel][part].
#pragma once

#include <cmath>

#include "cuda_ops.h"
#include "formulas.h"
#include "norm_gradient.h"

namespace thimble {

/// Neighbouring channels of an activation: rows of `channels` values, `stride` floats apart. A segment is what is
/// summed over: the whole batch, or one sample where each has statistics of its own.
struct NormRows {
  std::int64_t samples, rows_per_sample, channels, stride;
  bool is_per_sample = false;

  static NormRows of(const TensorType& x, bool is_per_sample = false) {
    return {x.shape[0], x.shape[1] * x.shape[2], x.shape[3], x.shape[3], is_per_sample};
  }
  std::int64_t segments() const { return is_per_sample ? samples : 1; }
  std::int64_t rows() const { return is_per_sample ? rows_per_sample : samples * rows_per_sample; }  // of a segment
};

/// How the rows of a segment are cut into parts and the channels into slices; depends on sizes only, and on the samples
/// only where they are one segment.
struct NormParts {
  std::int64_t rows_per_part, parts;

  static NormParts of(const NormRows& rows);
  /// Pairs of sums, floats, as many as segments * channels * parts.
  Bytes bytes(const NormRows& rows) const {
    return align_up(Bytes{8 * rows.segments() * rows.channels * parts}, kAlignment);
  }
};

// One channel in a kernel.

struct ChannelFactors {
  float scale, shift;  ///< y = x * scale + shift
};

/// As scale_shift().
__device__ inline ChannelFactors channel_factors(float mean, float variance, float gamma, float beta, double epsilon) {
  const float scale = gamma / static_cast<float>(sqrt(static_cast<double>(variance) + epsilon));
  return {scale, beta - mean * scale};
}

__device__ inline float normalized(float x, ChannelFactors factors) { return x * factors.scale + factors.shift; }

__device__ inline float rectified(float value) { return Rectify{}(value); }

/// As the gradient has it.
__device__ inline float inverse_deviation(float variance, double epsilon) {
  return static_cast<float>(1.0 / sqrt(static_cast<double>(variance) + epsilon));
}

// Launches. Kernels read and write 16 bytes at a time where pointers, channels and stride allow; bits do not depend on
// that.

/// Workspace of `launch_moments` and of `launch_norm` with moments to be made: pairs of sums, then pivots.
Bytes moments_workspace(const NormRows& rows, std::int64_t groups);

/// Means and biased variances of groups of channels: {groups}, or {samples, groups}. Two launches, or one where blocks
/// have whole groups of whole segments.
void launch_moments(const NormRows& rows, std::int64_t groups, const float* x, float* mean, float* variance,
                    std::byte* workspace, cudaStream_t stream);

struct NormForward {
  NormRows rows;
  std::int64_t groups;  ///< divides the channels
  double epsilon;
  const float *x, *gamma, *beta;
  float* y;  ///< strided like x, may be x
  bool relu = false;
  std::uint32_t* mask = nullptr;  ///< of y > 0, if wanted; of all channels, statistics of the batch
};

/// y from x and moments that are made on the way, and written: those of `launch_moments`, and one (two with a mask of
/// channels that are neither a multiple of 32 nor 4, 8 or 16).
void launch_norm(const NormForward& norm, float* mean, float* variance, std::byte* workspace, cudaStream_t stream);

/// y from x and given moments: one launch, no workspace.
void launch_norm_inference(const NormForward& norm, const float* mean, const float* variance, cudaStream_t stream);

/// So many launches, in which these inputs are read once more for their sums.
OpCost normalization_cost(const OpShape& shape, std::int64_t launches, std::initializer_list<std::size_t> read_again);

/// The gradient of a normalisation and of the ReLU behind it, as NormGradient. All of rows.samples, or with
/// is_per_sample some of them: then pointers are those of the first and `dgamma` is null but in `launch_norm_gradient`.
struct NormGradientCuda {
  NormRows rows;
  std::int64_t groups;  ///< of every segment; rows.channels with statistics of the batch
  double epsilon;
  const float* dy;             ///< rows of rows.channels, one behind the other
  bool dy_is_of_mean = false;  ///< one row a sample: the gradient of the mean over its rows; gate `input` only
  const float *x, *gamma;
  const float *mean, *variance;
  ReluGate gate = ReluGate::none;
  const std::byte* gate_data = nullptr;  ///< of the gates `output` (y) and `mask`, which take all channels of x
  const float* beta = nullptr;           ///< of the gate `input`
  const float* after = nullptr;          ///< if any, added to dx; strided like x
  float* dx;                             ///< strided like x; may be x or `after`, or dy where that is as wide
  float *dgamma, *dbeta;
};

/// Workspace of all sums: NormParts::of(rows).bytes(rows).
Bytes norm_gradient_workspace_cuda(const NormRows& rows);

/// Three launches: sums, what they come to over all parts, and what that makes of dy.
void launch_norm_gradient(const NormGradientCuda& gradient, std::byte* workspace, cudaStream_t stream);

// The same by halves, for who makes dy, or sums, in other ways. `sums` are the pairs (gradient; gradient times
// normalised x) of the segments at hand, `parts` of a channel.
void launch_norm_gradient_sums(const NormGradientCuda& gradient, const NormParts& parts, float2* sums,
                               cudaStream_t stream);
/// Writes dx and, unless they are null, dgamma and dbeta.
void launch_norm_gradient_apply(const NormGradientCuda& gradient, const NormParts& parts, const float2* sums,
                                cudaStream_t stream);
/// dgamma and dbeta alone, from the sums of all of rows.samples.
void launch_norm_gradient_finish(const NormRows& rows, const NormParts& parts, const float2* sums, float* dgamma,
                                 float* dbeta, cudaStream_t stream);

}  // namespace thimble
