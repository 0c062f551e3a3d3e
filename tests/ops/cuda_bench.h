// Where the tests of CUDA kernels run: the device where THIMBLE_TEST_DEVICE is `cuda`, else this CPU.
#pragma once

#include "guarded_run.h"
#include "thimble/cuda.h"

namespace thimble::testing {

/// Throws EnvironmentError where a device is asked for and there is none.
const Bench& cuda_bench();

}  // namespace thimble::testing
