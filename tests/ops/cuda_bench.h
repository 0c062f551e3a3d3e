// The bench of CUDA kernels.
#pragma once

#include "../cuda_under_test.h"
#include "guarded_run.h"

namespace thimble::testing {

/// Throws EnvironmentError where a device is asked for and there is none.
inline const Bench& cuda_bench() {
  static const auto cuda = cuda_under_test();
  static const auto device = cuda->open();
  static const Bench bench{cuda_registry(), cuda->description(), device.get()};
  return bench;
}

}  // namespace thimble::testing
