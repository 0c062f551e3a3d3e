// What both builds of the CUDA kernels offer: to add them all to a registry. And the device that they are cut for.
#pragma once

#include "thimble/op_registry.h"

namespace thimble {

void register_cuda_kernels(OpRegistry& registry);

/// Of the H100 and the H200: the same grids, and so the same bits, elsewhere.
inline constexpr int kMultiprocessors = 132;

}  // namespace thimble
