// The references of ops on sentences, for reference_ops.cpp. Both return nothing for other kinds.
#pragma once

#include "reference_ops.h"

namespace thimble::testing {

std::vector<Array> token_forward_reference(const ReferenceCall& call);
std::vector<Array> token_gradient_reference(const ReferenceCall& call, const Array& cotangent);

}  // namespace thimble::testing
