#include "normalized_input.h"

#include "registration.h"

namespace thimble {

void expect_normalized_input(const std::string& kind, const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_activation(kind, in[kNormX]);
  expect_channel_vectors(kind, in, kNormMean, kNormInputs);
  real_attribute(attributes, "epsilon");
  if (const std::int64_t group = int_attribute(attributes, "group"); group < 1)
    throw InvalidArgument(kind + ": groups of " + std::to_string(group) + " samples; a group has at least 1");
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
