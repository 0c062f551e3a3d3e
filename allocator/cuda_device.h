// A CUDA device: one arena's memory by cudaMalloc, pinned staging, one stream, graphs. Compiled into the CUDA library
// only (ops/CMakeLists.txt), so that nothing else needs the toolkit.
#pragma once

#include <memory>

#include "thimble/device.h"

namespace thimble {

/// Throws EnvironmentError.
std::unique_ptr<Device> open_cuda_device(int ordinal);

}  // namespace thimble
