// The references of ops on sentences, for reference_ops.cpp. All return nothing for other kinds.
#pragma once

#include "reference_ops.h"

namespace thimble::testing {

std::vector<Array> token_forward_reference(const ReferenceCall& call);
std::vector<Array> token_gradient_reference(const ReferenceCall& call, const Array& cotangent);
/// Of ops of a decoder's step, which have no gradient.
std::vector<Array> decoding_forward_reference(const ReferenceCall& call);

}  // namespace thimble::testing
