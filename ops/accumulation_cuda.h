// As accumulation.h, on CUDA.
#pragma once

#include "cuda_ops.h"

namespace thimble {

/// `adds_to_output`: what the last input was is copied by a launch where it lies elsewhere than the output.
bool launch_adds_to_output(const OpShape& shape, const KernelArguments& arguments, std::size_t output = 0);

}  // namespace thimble
