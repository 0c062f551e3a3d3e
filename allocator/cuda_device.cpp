#include "cuda_device.h"

#include <cuda_runtime_api.h>

#include <string>

#include "thimble/error.h"

namespace thimble {
namespace {

void expect(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return;
  throw EnvironmentError("cuda: " + what + ": " + cudaGetErrorName(status) + " (" + cudaGetErrorString(status) + ")");
}

class CudaMemory final : public Memory {
 public:
  std::string_view name() const override { return "cuda"; }
  bool is_host_accessible() const override { return false; }
  MemoryBlock allocate(Bytes size) override {
    if (size.value < 0) throw InvalidArgument("cuda memory: the size " + std::to_string(size.value) + " is negative");
    if (size.value == 0) return MemoryBlock(*this, nullptr, size);
    void* data = nullptr;
    if (const cudaError_t status = cudaMalloc(&data, static_cast<std::size_t>(size.value)); status != cudaSuccess) {
      std::size_t free = 0, total = 0;
      cudaGetLastError();
      cudaMemGetInfo(&free, &total);
      throw EnvironmentError("cuda memory: " + to_string(size) + " cannot be had: " + cudaGetErrorString(status) +
                             "; " + to_string(Bytes{static_cast<std::int64_t>(free)}) + " of " +
                             to_string(Bytes{static_cast<std::int64_t>(total)}) + " are free");
    }
    return MemoryBlock(*this, static_cast<std::byte*>(data), size);
  }

 private:
  void release(std::byte* data, Bytes) noexcept override { cudaFree(data); }
};

class PinnedMemory final : public Memory {
 public:
  std::string_view name() const override { return "pinned host"; }
  bool is_host_accessible() const override { return true; }
  MemoryBlock allocate(Bytes size) override {
    if (size.value < 0) throw InvalidArgument("pinned memory: the size " + std::to_string(size.value) + " is negative");
    if (size.value == 0) return MemoryBlock(*this, nullptr, size);
    void* data = nullptr;
    expect(cudaMallocHost(&data, static_cast<std::size_t>(size.value)),
           to_string(size) + " of pinned host memory cannot be had");
    return MemoryBlock(*this, static_cast<std::byte*>(data), size);
  }

 private:
  void release(std::byte* data, Bytes) noexcept override { cudaFreeHost(data); }
};

class CapturedGraph final : public CapturedWork {
 public:
  CapturedGraph(cudaGraph_t graph, cudaStream_t stream) : stream_(stream) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    expect(status, "the captured step cannot be made executable");
    expect(cudaGraphUpload(executable_, stream_), "the captured step cannot be put on the device");
  }
  ~CapturedGraph() override { cudaGraphExecDestroy(executable_); }
  void launch() override { expect(cudaGraphLaunch(executable_, stream_), "the captured step cannot be launched"); }

 private:
  cudaGraphExec_t executable_ = nullptr;
  cudaStream_t stream_;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int ordinal) {
    expect(cudaSetDevice(ordinal), "device " + std::to_string(ordinal) + " cannot be used");
    cudaDeviceProp properties;
    expect(cudaGetDeviceProperties(&properties, ordinal), "device " + std::to_string(ordinal) + " says nothing");
    name_ = properties.name;
    expect(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "no stream");
  }
  ~CudaDevice() override { cudaStreamDestroy(stream_); }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  std::string_view name() const override { return name_; }
  Memory& memory() override { return memory_; }
  Memory& staging() override { return pinned_; }
  DeviceMemory memory_info() override {
    std::size_t free = 0, total = 0;
    expect(cudaMemGetInfo(&free, &total), "the device's memory cannot be asked for");
    return {Bytes{static_cast<std::int64_t>(free)}, Bytes{static_cast<std::int64_t>(total)}};
  }
  void* stream() override { return stream_; }
  void copy_in(std::byte* to, const std::byte* from, Bytes size) override {
    copy(to, from, size, cudaMemcpyHostToDevice);
  }
  void copy_out(std::byte* to, const std::byte* from, Bytes size) override {
    copy(to, from, size, cudaMemcpyDeviceToHost);
  }
  void synchronize() override { expect(cudaStreamSynchronize(stream_), "work on the device failed"); }

  std::unique_ptr<CapturedWork> capture(const std::function<void()>& enqueue) override {
    expect(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "the stream cannot be captured");
    cudaGraph_t graph = nullptr;
    try {
      enqueue();
    } catch (...) {
      cudaStreamEndCapture(stream_, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    expect(cudaStreamEndCapture(stream_, &graph), "the step was not captured");
    return std::make_unique<CapturedGraph>(graph, stream_);
  }

 private:
  void copy(std::byte* to, const std::byte* from, Bytes size, cudaMemcpyKind kind) {
    if (size.value == 0) return;
    expect(cudaMemcpyAsync(to, from, static_cast<std::size_t>(size.value), kind, stream_),
           "a copy of " + to_string(size) + " cannot be enqueued");
  }

  std::string name_;
  CudaMemory memory_;
  PinnedMemory pinned_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

std::unique_ptr<Device> open_cuda_device(int ordinal) { return std::make_unique<CudaDevice>(ordinal); }

}  // namespace thimble
