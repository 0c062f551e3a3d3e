// Ops on CUDA. Their kernels are in a library of their own, opened only where there is a device; the same sources are
// compiled a second time for this CPU, a fiber per CUDA thread, so that plans can be made and kernels tried anywhere.
//
//   const CudaSearch cuda = find_cuda();
//   if (!cuda.backend) std::cerr << cuda.reason << '\n';   // no driver, no device, or built without the toolkit
//   cuda.backend->register_kernels(registry);
//   const auto device = cuda.backend->open();
//   Runtime runtime(plan, registry, *device);              // of a plan whose device is cuda.backend->description()
#pragma once

#include <memory>
#include <string>

#include "thimble/device.h"
#include "thimble/op_registry.h"

namespace thimble {

/// DeviceDescription::backend of all that runs these kernels.
inline constexpr const char* kCudaBackend = "cuda";

class CudaBackend {
 public:
  virtual ~CudaBackend() = default;
  virtual DeviceDescription description() const = 0;
  /// Adds kernels for kCudaBackend to the ops of a registry, and the engines they belong to.
  virtual void register_kernels(OpRegistry& registry) const = 0;
  /// Throws EnvironmentError.
  virtual std::unique_ptr<Device> open() const = 0;
};

struct CudaSearch {
  std::shared_ptr<const CudaBackend> backend;  ///< null where there is none
  std::string reason;                          ///< why there is none, or which device was found
};

/// Looks for a driver, then for the library. THIMBLE_CUDA_LIBRARY in the environment is its path, if set.
CudaSearch find_cuda();

/// The kernels on this CPU: slow, checked, and for plans exactly as `device` would have them.
std::shared_ptr<const CudaBackend> emulated_cuda(DeviceDescription device);

/// Known devices by name: "h100", "h200". Throws InvalidArgument that names them.
DeviceDescription cuda_description(const std::string& name);

/// The same device computing in "fp32" or "tf32", at the rate of that. Throws InvalidArgument for anything else.
DeviceDescription with_math(DeviceDescription device, const std::string& math);

/// What cuDNN says of a known device, in its own JSON, so that it can be asked without one; empty for others.
std::string cudnn_properties(const std::string& name);

}  // namespace thimble
