// The arithmetic of normalisation, for every op that normalises: who shares the formula shares the bits. Batch
// normalisation takes the moments of every channel over all samples. Group normalisation (Wu and He 2018) takes those
// of groups of neighbouring channels over one sample, and is computed here as a batch of that sample.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "thimble/parallel.h"
#include "thimble/tensor.h"

namespace thimble {

inline constexpr std::int64_t kRowsPerBlock = 64;  // summed in float before they join the chunk's double

/// An activation as normalisation sees it: rows of channels, samples in chunks that fix the order of the sums.
struct NormSizes {
  std::int64_t samples, rows_per_sample, channels;
  Chunks chunks;

  static NormSizes of(const TensorType& x);
  NormSizes one_sample() const { return {1, rows_per_sample, channels, Chunks::of(1, 1)}; }
  std::int64_t elements_per_sample() const { return rows_per_sample * channels; }
};

/// Two sums per channel and chunk: in double, and the block at hand in float.
struct PartialSums {
  double *first, *second;
  float *block_first, *block_second;

  void clear(std::int64_t channels) const;
  void close_block(std::int64_t channels) const;
};

/// Bytes of the partial sums of all chunks, which `partial_sums` lays into a workspace.
Bytes partial_sums_bytes(const NormSizes& sizes);
PartialSums partial_sums(std::byte* workspace, const NormSizes& sizes, std::int64_t chunk);

/// Means and biased variances as they are read: one of each per group of neighbouring channels.
struct Moments {
  const float *mean, *variance;
  std::int64_t groups;  ///< divides the channels; as many where every channel has its own

  Moments of_sample(std::int64_t n) const { return {mean + n * groups, variance + n * groups, groups}; }
};

/// How many groups of channels have moments in every sample, by the type of the means; 0 where they are of the batch.
inline std::int64_t groups_per_sample(const TensorType& mean) { return mean.batched ? mean.shape.at(1) : 0; }

/// Inputs `first` and the next are moments of x: two vectors with a value per channel, or {samples, groups} batched.
/// Throws InvalidArgument, naming the kind.
void expect_moments(const std::string& kind, const std::vector<TensorType>& inputs, std::size_t first,
                    const TensorType& x);

/// Throws InvalidArgument, naming the kind, where the channels are not so many equal groups.
void expect_groups(const std::string& kind, std::int64_t channels, std::int64_t groups);

/// Moments of every group of channels over all samples.
Bytes statistics_bytes(const NormSizes& sizes, std::int64_t groups);
void compute_statistics(const NormSizes& sizes, std::int64_t groups, const float* x, std::byte* workspace, int threads,
                        float* mean, float* variance);

/// What one channel's normalisation comes to: y = x * scale + shift.
struct ScaleShift {
  float *scale, *shift;
};

inline Bytes scale_shift_bytes(std::int64_t channels) { return align_up(Bytes{8 * channels}, kAlignment); }

/// The factors of given moments, in `scale_shift_bytes` at `memory`.
ScaleShift scale_shift(std::byte* memory, std::int64_t channels, const float* gamma, const float* beta,
                       const Moments& moments, double epsilon);

/// Rows of x are `stride` floats apart, those of y `channels`; y may be x where that is the same.
void normalize_rows(const float* x, std::int64_t stride, float* y, std::int64_t rows, std::int64_t channels,
                    const ScaleShift& factors, bool relu);

/// to = from where the normalised x is positive, else 0: the gate of the ReLU behind `normalize_rows`, without its
/// output. Rows of `columns` channels, one behind the other.
void keep_where_normalized_is_positive(const float* from, const float* x, std::int64_t rows, std::int64_t columns,
                                       const float* scale, const float* shift, float* to);

}  // namespace thimble
