// What both builds of the CUDA kernels offer: to add them all to a registry.
#pragma once

#include "thimble/op_registry.h"

namespace thimble {

void register_cuda_kernels(OpRegistry& registry);

}  // namespace thimble
