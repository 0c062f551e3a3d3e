#include "normalized_input.h"

#include "registration.h"

namespace thimble {

void expect_normalized_input(const std::string& kind, const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_activation(kind, in[kNormX]);
  expect_channel_vectors(kind, in, kNormMean, kNormInputs);
  real_attribute(attributes, "epsilon");
}

void expect_at_least_one(const std::string& kind, const Attributes& attributes, std::string_view name) {
  if (const std::int64_t value = int_attribute(attributes, name); value < 1)
    throw InvalidArgument(kind + ": " + std::string(name) + " " + std::to_string(value) + " at a time; at least 1");
}

ScaleShift normalized_input_factors(const OpShape& shape, const KernelArguments& a, std::byte* memory) {
  return scale_shift(memory, shape.inputs[kNormX].shape[3], floats(a.inputs[kNormGamma]), floats(a.inputs[kNormBeta]),
                     floats(a.inputs[kNormMean]), floats(a.inputs[kNormVariance]),
                     real_attribute(shape.attributes, "epsilon"));
}

const std::byte* NormalizingReader::read(const void* context, HalfOpen samples, std::int64_t slot) {
  const auto& self = *static_cast<const NormalizingReader*>(context);
  std::byte* to = self.scratch + slot * self.scratch_bytes.value;
  normalize_rows(self.x + samples.begin * self.rows_per_sample * self.stride, self.stride, floats(to),
                 samples.size() * self.rows_per_sample, self.channels, self.factors, true);
  return to;
}

}  // namespace thimble
