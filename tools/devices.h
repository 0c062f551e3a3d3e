// Where plans are made for and run: --device, --threads and --math as one description, and the runtime on it.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "thimble/device.h"
#include "thimble/runtime.h"

namespace thimble {

struct DeviceOptions {
  /// cpu; cuda, the device found; h100, h200, which need not be there to plan; emulated, CUDA's kernels on this CPU.
  std::string name = "cpu";
  int threads = 0;  ///< 0: as many as the machine has
  std::string math = "fp32";
};

void add_device_options(CLI::App& app, DeviceOptions& options);

/// Throws EnvironmentError where the device found is asked for and there is none.
DeviceDescription describe(const DeviceOptions& options);

/// Everything the registry holds: the ops of ops/, with kernels for every device that was asked for so far.
const OpRegistry& registry();
/// Adds the kernels that a device needs: those of the library where there is a device, else those for this CPU, which
/// are enough to plan.
void add_kernels_for(const DeviceDescription& device);

/// Throws EnvironmentError where another device than that is here, so that its times would be measured.
void expect_device_here(const DeviceDescription& device);

/// The device to run on, with its kernels in the registry; null for the CPU. Throws EnvironmentError where it is not
/// there.
std::unique_ptr<Device> open_device(const DeviceDescription& device);

/// A plan's runtime, with the memory it is in.
class OpenRuntime {
 public:
  /// Throws EnvironmentError where the plan's device is not there.
  explicit OpenRuntime(const Plan& plan, RuntimeOptions options = {});
  Runtime& runtime() { return *runtime_; }
  /// Null on the CPU.
  Device* device() { return device_.get(); }

 private:
  HostMemory memory_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Runtime> runtime_;
};

}  // namespace thimble
