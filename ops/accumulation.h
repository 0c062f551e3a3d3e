// What ops share that make the gradient of a weight: alone, summed over microbatches, or added to a state.
#pragma once

#include <string>
#include <vector>

#include "thimble/op_registry.h"

namespace thimble {

/// What the gradient adds to, if anything, is behind the op's `count` inputs: checks it, and says what is made. Throws
/// InvalidArgument, naming the kind, where the inputs are more or fewer or the type differs.
std::vector<OutputSpec> weights_gradient_output(const std::string& kind, const std::vector<TensorType>& in,
                                                std::size_t count, TensorType weights, const Attributes& attributes);

/// Whether the gradient, output `output`, is added to what lies there: with kAccumulates from the second microbatch on,
/// with kAddsToLast always, the output being what the last input was (copied there if it lies elsewhere).
bool adds_to_output(const OpShape& shape, const KernelArguments& arguments, std::size_t output = 0);

}  // namespace thimble
