// A device whose kernels are the CPU's: its memory is out of the host's reach as far as the runtime knows, its stream
// does work at once, or keeps it while it is recorded.
#pragma once

#include <cstring>
#include <utility>

#include "thimble/device.h"
#include "thimble/op_registry.h"

namespace thimble::testing {

class FarMemory final : public Memory {
 public:
  std::string_view name() const override { return "far"; }
  bool is_host_accessible() const override { return false; }
  MemoryBlock allocate(Bytes size) override { return memory_.allocate(size); }

 private:
  void release(std::byte*, Bytes) noexcept override {}  // the blocks are the host memory's
  HostMemory memory_;
};

class RecordingDevice final : public Device {
 public:
  using Work = std::function<void()>;

  std::string_view name() const override { return "recording"; }
  Memory& memory() override { return memory_; }
  Memory& staging() override { return staging_; }
  DeviceMemory memory_info() override { return {}; }
  void* stream() override { return this; }
  void copy_in(std::byte* to, const std::byte* from, Bytes size) override { enqueue(copy(to, from, size)); }
  void copy_out(std::byte* to, const std::byte* from, Bytes size) override { enqueue(copy(to, from, size)); }
  void synchronize() override {}

  std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) override {
    struct Record final : CapturedWork {
      void launch() override {
        for (const Work& one : all) one();
      }
      std::vector<Work> all;
    };
    auto record = std::make_unique<Record>();
    record_ = &record->all;
    try {
      work();
    } catch (...) {
      record_ = nullptr;
      throw;
    }
    record_ = nullptr;
    ++captures;
    return record;
  }

  void enqueue(Work work) {
    if (record_)
      record_->push_back(std::move(work));
    else
      work();
  }

  int captures = 0;

 private:
  static Work copy(std::byte* to, const std::byte* from, Bytes size) {
    return [=] { std::memcpy(to, from, static_cast<std::size_t>(size.value)); };
  }

  FarMemory memory_;
  HostMemory staging_;
  std::vector<Work>* record_ = nullptr;
};

/// The CPU's kernels of every kind, for a RecordingDevice.
inline void add_recorded_kernels(OpRegistry& registry, const std::string& backend) {
  class RecordedKernel final : public Kernel {
   public:
    explicit RecordedKernel(std::shared_ptr<Kernel> kernel) : kernel_(std::move(kernel)) {}
    void run(const KernelArguments& a) override {
      std::vector<const std::byte*> inputs(a.inputs.begin(), a.inputs.end());
      std::vector<std::byte*> outputs(a.outputs.begin(), a.outputs.end());
      static_cast<RecordingDevice*>(a.stream)->enqueue(
          [kernel = kernel_, inputs = std::move(inputs), outputs = std::move(outputs), a]() {
            KernelArguments again = a;
            again.inputs = inputs;
            again.outputs = outputs;
            kernel->run(again);
          });
    }

   private:
    std::shared_ptr<Kernel> kernel_;
  };
  for (const std::string& kind : registry.kinds()) {
    const OpDefinition& op = registry.at(kind);
    if (!op.make_kernel) continue;
    registry.add_kernels(kind, backend,
                         {.workspace = op.workspace, .make_kernel = [make = op.make_kernel](const OpShape& s) {
                            return std::make_unique<RecordedKernel>(make(s));
                          }});
  }
}

}  // namespace thimble::testing
