// Finds the CUDA side: the driver first, by its own library, then ours with the kernels. Neither is linked.
#include <dlfcn.h>

#include <cstdlib>

#include "thimble/cuda.h"
#include "thimble/error.h"

namespace thimble {
namespace {

constexpr const char* kLibrary = "libthimble_cuda.so";

// A library stays open: what it made has code in it.
void* open_library(const char* path, std::string& reason) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* error = dlerror();
    reason = error ? error : std::string(path) + " cannot be opened";
  }
  return library;
}

// Empty where there is a driver with a device.
std::string why_no_device() {
  std::string reason;
  void* driver = open_library("libcuda.so.1", reason);
  if (driver == nullptr) return "no CUDA driver: " + reason;
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto count_devices = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDeviceGetCount"));
  if (init == nullptr || count_devices == nullptr) return "no CUDA driver: libcuda.so.1 lacks cuInit";
  int count = 0;
  if (const int error = init(0); error != 0) return "no CUDA device: cuInit answers " + std::to_string(error);
  if (const int error = count_devices(&count); error != 0 || count == 0)
    return "no CUDA device: the driver counts " + std::to_string(count) + " (status " + std::to_string(error) + ")";
  return {};
}

}  // namespace

CudaSearch find_cuda() {
  if (std::string reason = why_no_device(); !reason.empty()) return {nullptr, std::move(reason)};
  const char* given = std::getenv("THIMBLE_CUDA_LIBRARY");
  std::string reason;
  void* library = open_library(given != nullptr && *given != '\0' ? given : kLibrary, reason);
  if (library == nullptr) return {nullptr, "the kernels for CUDA are not there: " + reason};
  using Make = CudaBackend* (*)(std::string*);
  const auto make = reinterpret_cast<Make>(dlsym(library, "thimble_cuda_backend"));
  if (make == nullptr)
    return {nullptr, std::string(kLibrary) + " is another version's: it has no thimble_cuda_backend"};
  std::shared_ptr<const CudaBackend> backend(make(&reason));
  if (!backend) return {nullptr, std::move(reason)};
  reason = backend->description().name;
  return {std::move(backend), std::move(reason)};
}

}  // namespace thimble
