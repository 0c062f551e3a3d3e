#include "normalized_input.h"

#include "registration.h"

namespace thimble {

void expect_normalized_input(const std::string& kind, const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_activation(kind, in[kNormX]);
  expect_moments(kind, in, kNormMean, in[kNormX]);
  expect_channel_vectors(kind, in, kNormGamma, kNormInputs);
  real_attribute(attributes, "epsilon");
}

void expect_at_least_one(const std::string& kind, const Attributes& attributes, std::string_view name) {
  if (const std::int64_t value = int_attribute(attributes, name); value < 1)
    throw InvalidArgument(kind + ": " + std::string(name) + " " + std::to_string(value) + " at a time; at least 1");
}

NormalizedInputFactors normalized_input_factors(const OpShape& shape, const KernelArguments& a, std::byte* memory) {
  const std::int64_t channels = shape.inputs[kNormX].shape[3], groups = groups_per_sample(shape.inputs[kNormMean]);
  NormalizedInputFactors factors{
      .channels = channels,
      .gamma = floats(a.inputs[kNormGamma]),
      .beta = floats(a.inputs[kNormBeta]),
      .moments = {floats(a.inputs[kNormMean]), floats(a.inputs[kNormVariance]), groups != 0 ? groups : channels},
      .epsilon = real_attribute(shape.attributes, "epsilon"),
      .is_per_sample = groups != 0,
      .shared = {}};
  if (!factors.is_per_sample)
    factors.shared = scale_shift(memory, channels, factors.gamma, factors.beta, factors.moments, factors.epsilon);
  return factors;
}

Bytes normalized_input_scratch(const OpShape& shape, std::int64_t group, std::int64_t channels) {
  const TensorType& x = shape.inputs[kNormX];
  const bool is_per_sample = groups_per_sample(shape.inputs[kNormMean]) != 0;
  return align_up(Bytes{4 * group * x.shape[1] * x.shape[2] * channels}, kAlignment) +
         (is_per_sample ? scale_shift_bytes(x.shape[3]) : Bytes{});
}

const std::byte* NormalizingReader::read(const void* context, HalfOpen samples, std::int64_t slot) {
  const auto& self = *static_cast<const NormalizingReader*>(context);
  const std::int64_t stride = self.factors.channels, c = self.first_channel;
  const std::int64_t elements = self.rows_per_sample * self.channels;
  std::byte* to = self.scratch + slot * self.scratch_bytes.value;
  std::byte* own = to + align_up(Bytes{4 * samples.size() * elements}, kAlignment).value;
  for (std::int64_t n = samples.begin; n < samples.end; ++n) {
    const ScaleShift factors = self.factors.of_sample(n, own);
    normalize_rows(self.x + n * self.rows_per_sample * stride + c, stride, floats(to) + (n - samples.begin) * elements,
                   self.rows_per_sample, self.channels, {factors.scale + c, factors.shift + c}, true);
  }
  return to;
}

}  // namespace thimble
