#include "cuda_bench.h"

#include <cstdlib>
#include <memory>
#include <string_view>

#include "thimble/error.h"
#include "thimble/ops.h"

namespace thimble::testing {
namespace {

std::shared_ptr<const CudaBackend> backend() {
  const char* wanted = std::getenv("THIMBLE_TEST_DEVICE");
  if (wanted == nullptr || std::string_view(wanted) != kCudaBackend) return emulated_cuda(cuda_description("h200"));
  CudaSearch found = find_cuda();
  if (!found.backend) throw EnvironmentError("THIMBLE_TEST_DEVICE is cuda: " + found.reason);
  return found.backend;
}

}  // namespace

const Bench& cuda_bench() {
  static const auto cuda = backend();
  static const auto device = cuda->open();
  static const OpRegistry all = [] {
    OpRegistry made;
    register_ops(made);
    cuda->register_kernels(made);
    return made;
  }();
  static const Bench bench{all, cuda->description(), device.get()};
  return bench;
}

}  // namespace thimble::testing
