// What every op reads first that works on rectified, normalised values which never exist as a whole, and how its tasks
// make a group of samples of them.
#pragma once

#include <string>
#include <vector>

#include "convolution_engine.h"
#include "norm_conv_inputs.h"
#include "normalization.h"
#include "thimble/op_registry.h"

namespace thimble {

/// Checks kNormInputs inputs and the attribute `epsilon`. Throws InvalidArgument that names the kind.
void expect_normalized_input(const std::string& kind, const std::vector<TensorType>& in, const Attributes& attributes);

/// Checks an attribute that says how much is worked on at a time. Throws InvalidArgument where that is less than one.
void expect_at_least_one(const std::string& kind, const Attributes& attributes, std::string_view name);

/// What a sample is normalised by, all channels: factors that all samples share or, where every sample has statistics
/// of its own, such as are made when it is read.
struct NormalizedInputFactors {
  std::int64_t channels;
  const float *gamma, *beta;
  Moments moments;
  double epsilon;
  bool is_per_sample;
  ScaleShift shared;

  /// Those of a sample's own lie in `scale_shift_bytes` at `memory`.
  ScaleShift of_sample(std::int64_t n, std::byte* memory) const {
    return is_per_sample ? scale_shift(memory, channels, gamma, beta, moments.of_sample(n), epsilon) : shared;
  }
};

/// Makes what is shared in `scale_shift_bytes` at `memory`.
NormalizedInputFactors normalized_input_factors(const OpShape& shape, const KernelArguments& arguments,
                                                std::byte* memory);

/// A slot's scratch for a group of so many samples and channels: the normalised values, then factors of a sample's own.
Bytes normalized_input_scratch(const OpShape& shape, std::int64_t group, std::int64_t channels);

/// Normalises a group of samples, all channels of x or some neighbouring ones, into the scratch of the slot at hand.
struct NormalizingReader {
  std::int64_t rows_per_sample;
  std::int64_t first_channel, channels;  ///< those that are read
  const float* x;                        ///< all channels
  NormalizedInputFactors factors;
  std::byte* scratch;   ///< of slot 0
  Bytes scratch_bytes;  ///< of a slot: `normalized_input_scratch`

  static const std::byte* read(const void* self, HalfOpen samples, std::int64_t slot);
  SampleReader reader() const { return {this, read}; }
};

}  // namespace thimble
