// What every op reads first that works on rectified, normalised values which never exist as a whole, and how its tasks
// make a group of samples of them.
#pragma once

#include <string>
#include <vector>

#include "convolution_engine.h"
#include "normalization.h"
#include "thimble/op_registry.h"

namespace thimble {

enum NormalizedInput : std::size_t { kNormX, kNormMean, kNormVariance, kNormGamma, kNormBeta, kNormInputs };

/// Checks kNormInputs inputs and the attribute `epsilon`. Throws InvalidArgument that names the kind.
void expect_normalized_input(const std::string& kind, const std::vector<TensorType>& in, const Attributes& attributes);

/// Checks an attribute that says how much is worked on at a time. Throws InvalidArgument where that is less than one.
void expect_at_least_one(const std::string& kind, const Attributes& attributes, std::string_view name);

/// The factors of all channels, in `scale_shift_bytes` at `memory`.
ScaleShift normalized_input_factors(const OpShape& shape, const KernelArguments& arguments, std::byte* memory);

/// Normalises a group of samples, all channels of x or some neighbouring ones, into the scratch of the slot at hand.
struct NormalizingReader {
  std::int64_t rows_per_sample, stride;  ///< rows of x are `stride` floats apart
  std::int64_t channels;                 ///< of which so many are read
  const float* x;
  ScaleShift factors;
  std::byte* scratch;   ///< of slot 0
  Bytes scratch_bytes;  ///< from one slot's to the next one's

  static const std::byte* read(const void* self, HalfOpen samples, std::int64_t slot);
  SampleReader reader() const { return {this, read}; }
};

}  // namespace thimble
