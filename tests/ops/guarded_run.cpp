#include "guarded_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace thimble::testing {
namespace {

constexpr std::size_t kGuard = 256;
constexpr std::byte kGuardByte{0xA5};
constexpr std::byte kNaNByte{0xFF};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

// The guard behind begins at the very next byte. On a device there is a second block, which the kernel sees.
class GuardedBuffer {
 public:
  GuardedBuffer(std::size_t size, Device* device)
      : size_(size),
        block_(static_cast<std::byte*>(std::aligned_alloc(64, (size + 2 * kGuard + 63) / 64 * 64)), std::free),
        device_(device) {
    if (device_) there_ = device_->memory().allocate(whole());
    std::fill_n(block_.get(), size + 2 * kGuard, kGuardByte);
    fill_with_nan();
  }
  std::byte* data() const { return block_.get() + kGuard; }
  std::byte* address() const { return device_ ? there_.data() + kGuard : data(); }
  void to_device() {
    if (device_) device_->copy_in(there_.data(), block_.get(), whole());
  }
  void from_device() {
    if (device_) device_->copy_out(block_.get(), there_.data(), whole());
  }
  // Nobody may touch the guards while a kernel runs on this CPU, not even to read.
  void close_guards([[maybe_unused]] bool closed) {
#if defined(__SANITIZE_ADDRESS__)
    if (!device_ || device_->name() != "emulated") return;
    const auto poison = closed ? __asan_poison_memory_region : __asan_unpoison_memory_region;
    poison(there_.data(), kGuard);
    poison(address() + size_, kGuard);
#endif
  }
  void fill_with_nan() { std::fill_n(data(), size_, kNaNByte); }
  void assign(const ByteVector& bytes) {
    if (size_ != 0) std::memcpy(data(), bytes.data(), size_);
  }
  ByteVector bytes() const { return {data(), data() + size_}; }
  bool intact() const {
    const auto guards = [](const std::byte* at) {
      return std::all_of(at, at + kGuard, [](std::byte b) { return b == kGuardByte; });
    };
    return guards(block_.get()) && guards(data() + size_);
  }

 private:
  Bytes whole() const { return Bytes{static_cast<std::int64_t>(size_ + 2 * kGuard)}; }

  std::size_t size_;
  std::unique_ptr<std::byte, decltype(&std::free)> block_;
  Device* device_;
  MemoryBlock there_;
};

// Scalars where the kernel reads them.
class ScalarBlock {
 public:
  ScalarBlock(const StepScalars& scalars, Device* device) : here_(scalars) {
    if (!device) return;
    there_ = device->memory().allocate(kSize);
    device->copy_in(there_.data(), reinterpret_cast<const std::byte*>(&here_), kSize);
    device->synchronize();
  }
  const StepScalars* address() const {
    return there_.data() ? reinterpret_cast<const StepScalars*>(there_.data()) : &here_;
  }

 private:
  static constexpr Bytes kSize{sizeof(StepScalars)};
  StepScalars here_;
  MemoryBlock there_;
};

std::size_t size_of(const TensorType& type) { return static_cast<std::size_t>(bytes_of(type).value); }

int input_under(const KernelRun& run, std::size_t output) {
  for (InPlacePair pair : run.in_place)
    if (static_cast<std::size_t>(pair.output) == output) return pair.input;
  return -1;
}

}  // namespace

KernelResult run_guarded(const Bench& bench, const KernelRun& run) {
  const OpRegistry& registry = bench.registry;
  const OpDefinition& definition = registry.at(run.kind);
  OpShape shape{run.types, {}, run.attributes, run.device};
  for (const OutputSpec& spec : definition.infer(run.types, run.attributes)) shape.outputs.push_back(spec.type);

  KernelResult result{shape.outputs, {}, 0};
  std::vector<GuardedBuffer> inputs, outputs;
  std::vector<const std::byte*> input_addresses;
  std::vector<std::byte*> output_addresses;
  for (const TensorType& type : run.types)
    input_addresses.push_back(inputs.emplace_back(size_of(type), bench.device).address());
  for (std::size_t i = 0; i < shape.outputs.size(); ++i) {
    const int under = input_under(run, i);
    outputs.emplace_back(under >= 0 ? 0 : size_of(shape.outputs[i]), bench.device);
    output_addresses.push_back(under >= 0 ? inputs[static_cast<std::size_t>(under)].address() : outputs[i].address());
  }
  GuardedBuffer workspace(static_cast<std::size_t>(registry.workspace(run.kind, shape).value), bench.device);
  const ScalarBlock scalars(run.scalars, bench.device);
  const auto each = [&](auto&& what) {
    for (GuardedBuffer& input : inputs) what(input);
    for (GuardedBuffer& output : outputs) what(output);
    what(workspace);
  };
  const auto kernel = registry.make_kernel(run.kind, shape);
  const KernelArguments arguments{input_addresses,
                                  output_addresses,
                                  workspace.address(),
                                  scalars.address(),
                                  {run.first_sample, run.first_sample + run.samples},
                                  run.batch,
                                  run.first_microbatch,
                                  bench.device ? bench.device->stream() : nullptr};
  const int runs = kIsSanitized && bench.device != nullptr ? 1 : 2;  // emulated a second time, nothing more is seen
  for (int repeat = 0; repeat < runs; ++repeat) {
    for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].assign(run.inputs.at(i));
    for (GuardedBuffer& output : outputs) output.fill_with_nan();
    if (!run.sum_so_far.empty()) outputs[run.sum_output].assign(run.sum_so_far);
    workspace.fill_with_nan();
    each([](GuardedBuffer& buffer) { buffer.to_device(); });
    const std::int64_t before = own_allocations();
    each([](GuardedBuffer& buffer) { buffer.close_guards(true); });
    try {
      kernel->run(arguments);
    } catch (...) {
      each([](GuardedBuffer& buffer) { buffer.close_guards(false); });
      throw;
    }
    each([](GuardedBuffer& buffer) { buffer.close_guards(false); });
    if (bench.device == nullptr) result.own_allocations = own_allocations() - before;  // the shim of kernels has some
    each([](GuardedBuffer& buffer) { buffer.from_device(); });
    if (bench.device) bench.device->synchronize();
    std::vector<ByteVector> got;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const int under = input_under(run, i);
      const std::byte* at = (under >= 0 ? inputs[static_cast<std::size_t>(under)] : outputs[i]).data();
      got.emplace_back(at, at + size_of(shape.outputs[i]));
    }
    EXPECT_TRUE(repeat == 0 || got == result.outputs) << run.kind << " gives other bits the second time";
    result.outputs = std::move(got);
  }
  for (std::size_t i = 0; i < outputs.size(); ++i)
    EXPECT_TRUE(outputs[i].intact()) << run.kind << " writes outside of its output " << i;
  EXPECT_TRUE(workspace.intact()) << run.kind << " writes outside of its workspace";
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool overwritten = std::any_of(run.in_place.begin(), run.in_place.end(),
                                         [&](InPlacePair p) { return static_cast<std::size_t>(p.input) == i; });
    EXPECT_TRUE(inputs[i].intact()) << run.kind << " writes outside of its input " << i;
    EXPECT_TRUE(overwritten || inputs[i].bytes() == run.inputs[i]) << run.kind << " changes its input " << i;
  }
  return result;
}

}  // namespace thimble::testing
