// What the CUDA library shows to who opens it: one function.
#include <cuda_runtime_api.h>

#include "cuda_device.h"
#include "cuda_kernels.h"
#include "cudnn_convolution.h"
#include "thimble/cuda.h"
#include "thimble/error.h"

namespace thimble {
namespace {

constexpr int kLeastCapability = 9;  // kernels are built for sm_90 and later

class CudaLibrary final : public CudaBackend {
 public:
  explicit CudaLibrary(DeviceDescription description) : description_(std::move(description)) {}
  DeviceDescription description() const override { return description_; }
  void register_kernels(OpRegistry& registry) const override { register_cuda_kernels(registry); }
  std::unique_ptr<Device> open() const override { return open_cuda_device(0); }

 private:
  DeviceDescription description_;
};

// Known devices by what their names contain; of others, what the driver says of clocks and memory.
DeviceDescription describe(const cudaDeviceProp& properties) {
  const std::string name = properties.name;
  for (const auto& [part, known] : {std::pair{"H200", "h200"}, {"H100", "h100"}})
    if (name.find(part) != std::string::npos) return cuda_description(known);
  DeviceDescription other = cuda_description("h100");
  other.name = name;
  other.flops_per_second *= static_cast<double>(properties.multiProcessorCount) / kMultiprocessors;
  return other;
}

}  // namespace

// One handle for the process; kernels are made one after the other.
Cudnn* cudnn_here() {
  static std::string reason;
  static const std::unique_ptr<Cudnn> cudnn = open_cudnn({}, reason);
  if (!cudnn) throw EnvironmentError("cudnn: " + reason);
  return cudnn.get();
}

}  // namespace thimble

extern "C" __attribute__((visibility("default"))) thimble::CudaBackend* thimble_cuda_backend(std::string* reason) {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  cudaDeviceProp properties{};
  if (status == cudaSuccess && count > 0) status = cudaGetDeviceProperties(&properties, 0);
  if (status != cudaSuccess || count == 0) {
    *reason = std::string("no CUDA device: ") + cudaGetErrorName(status);
    return nullptr;
  }
  if (properties.major < thimble::kLeastCapability) {
    *reason = std::string("device '") + properties.name + "' has compute capability " +
              std::to_string(properties.major) + "." + std::to_string(properties.minor) + ", the kernels need 9.0";
    return nullptr;
  }
  return new thimble::CudaLibrary(thimble::describe(properties));
}
