// Where the tests of CUDA run: on the device where THIMBLE_TEST_DEVICE is `cuda`, else on this CPU, a fiber per CUDA
// thread.
#pragma once

#include <cstdlib>
#include <memory>
#include <string_view>

#include "thimble/cuda.h"
#include "thimble/error.h"
#include "thimble/ops.h"

namespace thimble::testing {

inline bool is_device_under_test() {
  const char* wanted = std::getenv("THIMBLE_TEST_DEVICE");
  return wanted != nullptr && std::string_view(wanted) == kCudaBackend;
}

/// Throws EnvironmentError where a device is asked for and there is none.
inline std::shared_ptr<const CudaBackend> cuda_under_test() {
  if (!is_device_under_test()) return emulated_cuda(cuda_description("h200"));
  CudaSearch found = find_cuda();
  if (!found.backend) throw EnvironmentError("THIMBLE_TEST_DEVICE is cuda: " + found.reason);
  return found.backend;
}

/// All ops, with the CPU's kernels and CUDA's.
inline const OpRegistry& cuda_registry() {
  static const OpRegistry all = [] {
    OpRegistry made;
    register_ops(made);
    cuda_under_test()->register_kernels(made);
    return made;
  }();
  return all;
}

}  // namespace thimble::testing
