// Devices that plans can be made for without having one.
#include "thimble/cuda.h"
#include "thimble/error.h"

namespace thimble {
namespace {

// As cuDNN 9.19 gave it on the device (tests/gpu/cudnn_engines).
constexpr const char* kH100 =
    R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":6,"isTccDriver":0,"supportCoopLaunch":1,"totalGlobalMem":85017493504,"smClockRateKHz":1980000,"memClockRateKHz":2619000,"l2CacheSize":52428800,"cudaDeviceId":0,"deviceVer":900,"driverVer":13000,"deviceName":"NVIDIA H100 80GB HBM3"})";
constexpr const char* kH200 =
    R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":6,"isTccDriver":0,"supportCoopLaunch":1,"totalGlobalMem":150109880320,"smClockRateKHz":1980000,"memClockRateKHz":3201000,"l2CacheSize":62914560,"cudaDeviceId":0,"deviceVer":900,"driverVer":13000,"deviceName":"NVIDIA H200"})";

}  // namespace

DeviceDescription cuda_description(const std::string& name) {
  // What the kernels of both models reach on an H200 (tests/gpu/reports): matrix products in fp32, tensors of some
  // megabytes, a launch inside a captured graph. An H100 has the same processors and 0.7 of the memory's rate.
  DeviceDescription device{.name = name,
                           .backend = kCudaBackend,
                           .flops_per_second = 42e12,
                           .bytes_per_second = 3.0e12,
                           .seconds_per_launch = 1e-6};
  if (name == "h200") return device;
  device.bytes_per_second = 2.1e12;
  if (name == "h100") return device;
  throw InvalidArgument("cuda: device '" + name + "' is unknown; there are 'h100' and 'h200'");
}

DeviceDescription with_math(DeviceDescription device, const std::string& math) {
  constexpr double kTensorCores = 4.3;  // times as fast
  if (math != "fp32" && math != "tf32")
    throw InvalidArgument("cuda: math '" + math + "' is unknown; there are 'fp32' and 'tf32'");
  if (math == device.math) return device;
  device.math = math;
  if (math == "tf32")
    device.flops_per_second *= kTensorCores;
  else
    device.flops_per_second /= kTensorCores;
  return device;
}

std::string cudnn_properties(const std::string& name) {
  if (name == "h100") return kH100;
  if (name == "h200") return kH200;
  return {};
}

}  // namespace thimble
