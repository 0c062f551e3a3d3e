// The CUDA kernels on this CPU: memory of the host, copies at once, every launch done when it returns.
#include <cstring>

#include "conv2d_cudnn.h"

namespace thimble {
namespace {

class EmulatedDevice final : public Device {
 public:
  std::string_view name() const override { return "emulated"; }
  Memory& memory() override { return memory_; }
  Memory& staging() override { return memory_; }
  DeviceMemory memory_info() override { return {}; }
  void* stream() override { return nullptr; }
  void copy_in(std::byte* to, const std::byte* from, Bytes size) override { copy(to, from, size); }
  void copy_out(std::byte* to, const std::byte* from, Bytes size) override { copy(to, from, size); }
  void synchronize() override {}
  std::unique_ptr<CapturedWork> capture(const std::function<void()>&) override { return nullptr; }

 private:
  static void copy(std::byte* to, const std::byte* from, Bytes size) {
    if (size.value != 0) std::memcpy(to, from, static_cast<std::size_t>(size.value));
  }
  HostMemory memory_;
};

class EmulatedBackend final : public CudaBackend {
 public:
  explicit EmulatedBackend(DeviceDescription device) : description_(std::move(device)) {}
  DeviceDescription description() const override { return description_; }
  void register_kernels(OpRegistry& registry) const override { register_cuda_kernels(registry); }
  std::unique_ptr<Device> open() const override { return std::make_unique<EmulatedDevice>(); }

 private:
  DeviceDescription description_;
};

}  // namespace

Cudnn* cudnn_here() { return nullptr; }

std::shared_ptr<const CudaBackend> emulated_cuda(DeviceDescription device) {
  return std::make_shared<EmulatedBackend>(std::move(device));
}

}  // namespace thimble
