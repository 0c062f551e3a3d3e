#include "accumulation.h"

#include <cstring>

#include "registration.h"

namespace thimble {

std::vector<OutputSpec> weights_gradient_output(const std::string& kind, const std::vector<TensorType>& in,
                                                std::size_t count, TensorType weights, const Attributes& attributes) {
  if (!flag(attributes, kAddsToLast)) {
    expect_inputs(kind, in, count);
    return {{"", std::move(weights), Role::gradient}};
  }
  expect_inputs(kind, in, count + 1);
  expect_same(kind, in[count], weights);
  return {{"", std::move(weights), Role::optimizer, static_cast<int>(count)}};
}

bool adds_to_output(const OpShape& shape, const KernelArguments& a, std::size_t output) {
  if (!flag(shape.attributes, kAddsToLast)) return flag(shape.attributes, kAccumulates) && !a.first_microbatch;
  if (a.inputs.back() != a.outputs[output])
    std::memcpy(a.outputs[output], a.inputs.back(), static_cast<std::size_t>(bytes_of(shape.outputs[output]).value));
  return true;
}

}  // namespace thimble
