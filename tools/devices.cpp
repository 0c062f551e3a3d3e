#include "devices.h"

#include <algorithm>
#include <thread>

#include "thimble/cuda.h"
#include "thimble/error.h"
#include "thimble/ops.h"

namespace thimble {
namespace {

constexpr const char* kEmulated = "emulated";

// Looked for once, and only when somebody asks: a driver takes its time.
const CudaSearch& cuda() {
  static const CudaSearch found = find_cuda();
  return found;
}

OpRegistry& all_ops() {
  static OpRegistry all = [] {
    OpRegistry made;
    register_ops(made);
    return made;
  }();
  return all;
}

int threads_of(int wanted) {
  return wanted > 0 ? wanted : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Of a device's library, or of this CPU where `device` says so or may be planned for without being there.
std::shared_ptr<const CudaBackend> backend_for(const DeviceDescription& device) {
  if (device.name != kEmulated && cuda().backend) return cuda().backend;
  return emulated_cuda(device);
}

}  // namespace

void add_device_options(CLI::App& app, DeviceOptions& options) {
  app.add_option(
         "--device", options.name,
         "cpu; cuda: the device found; h100, h200: planned for without one; emulated: CUDA's kernels on this CPU")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda", "h100", "h200", kEmulated}));
  app.add_option("--threads", options.threads, "of the CPU; 0: as many as the machine has")->check(CLI::Range(0, 256));
  app.add_option("--math", options.math,
                 "of convolutions and matrix products: fp32, or tf32 on a device's tensor cores")
      ->capture_default_str()
      ->check(CLI::IsMember({"fp32", "tf32"}));
}

DeviceDescription describe(const DeviceOptions& options) {
  DeviceDescription device;
  if (options.name == "cpu") {
    if (options.math != "fp32")
      throw InvalidArgument("--math " + options.math + " is for tensor cores: it needs --device cuda, h100 or h200");
    device.threads = threads_of(options.threads);
    return device;
  }
  if (options.threads != 0)
    throw InvalidArgument("--threads is the CPU's: it does nothing on --device " + options.name);
  if (options.name == "cuda") {
    if (!cuda().backend)
      throw EnvironmentError("--device cuda: " + cuda().reason +
                             "; --device cpu trains here, --device h200 plans here");
    device = cuda().backend->description();
  } else if (options.name == kEmulated) {
    device = cuda_description("h200");
    device.name = kEmulated;
  } else {
    device = cuda_description(options.name);
  }
  return with_math(std::move(device), options.math);
}

const OpRegistry& registry() { return all_ops(); }

void add_kernels_for(const DeviceDescription& device) {
  if (device.backend != kCudaBackend || !all_ops().engines(device).empty()) return;
  backend_for(device)->register_kernels(all_ops());
}

std::unique_ptr<Device> open_device(const DeviceDescription& device) {
  if (device.backend == "cpu") return nullptr;
  if (device.name != kEmulated && !cuda().backend)
    throw EnvironmentError("device '" + device.name + "': " + cuda().reason +
                           "; plan or search with --device cpu, or with --device emulated to try its kernels here");
  add_kernels_for(device);
  return backend_for(device)->open();
}

void expect_device_here(const DeviceDescription& device) {
  if (device.backend == "cpu" || device.name == kEmulated || !cuda().backend) return;
  if (const std::string here = cuda().backend->description().name; here != device.name)
    throw EnvironmentError("device '" + device.name + "': the device here is '" + here +
                           "', whose times are others; --device cuda measures and plans for it");
}

OpenRuntime::OpenRuntime(const Plan& plan, RuntimeOptions options) {
  if (plan.device.backend == "cpu") {
    runtime_ = std::make_unique<Runtime>(plan, registry(), memory_, options);
    runtime_->arena().touch_all_pages();
    return;
  }
  if (options.poison || options.canaries)
    throw InvalidArgument("--poison and --canaries watch the CPU's memory; they do nothing on device '" +
                          plan.device.name + "'");
  device_ = open_device(plan.device);
  runtime_ = std::make_unique<Runtime>(plan, registry(), *device_, options);
}

}  // namespace thimble
