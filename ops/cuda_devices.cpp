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
  // What the vendor states: fp32 outside of tensor cores, memory; a launch inside a captured graph.
  if (name == "h100")
    return {.name = name,
            .backend = kCudaBackend,
            .flops_per_second = 67e12,
            .bytes_per_second = 3.35e12,
            .seconds_per_launch = 2e-6};
  if (name == "h200")
    return {.name = name,
            .backend = kCudaBackend,
            .flops_per_second = 67e12,
            .bytes_per_second = 4.8e12,
            .seconds_per_launch = 2e-6};
  throw InvalidArgument("cuda: device '" + name + "' is unknown; there are 'h100' and 'h200'");
}

std::string cudnn_properties(const std::string& name) {
  if (name == "h100") return kH100;
  if (name == "h200") return kH200;
  return {};
}

}  // namespace thimble
