// accumulation.h for kernels on a device.
#pragma once

#include "accumulation.h"
#include "cuda_ops.h"

namespace thimble {

/// As `adds_to_output`; what lies elsewhere is copied by a kernel.
bool adds_to_output_cuda(const OpShape& shape, const KernelArguments& arguments, std::size_t output = 0);

/// to[i] = from[i] of as many floats as there are, on the stream.
void copy_floats_cuda(const KernelArguments& arguments, const float* from, float* to, std::int64_t count);

}  // namespace thimble
