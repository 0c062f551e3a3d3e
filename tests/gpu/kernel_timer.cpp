#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <utility>

#include "kernel_timer.h"
#include "thimble/arena.h"
#include "thimble/error.h"

namespace thimble {

using namespace literals;

namespace {

constexpr Bytes kIntegers = 4_MiB;
constexpr double kApart = 160e6;  // bytes between two runs on the same buffers: more than any cache holds
constexpr double kWindow = 0.03;  // seconds
constexpr int kWindows = 3, kMostRuns = 200, kMostSets = 16;

using Clock = std::chrono::steady_clock;

// As CUDA aligns what it allocates.
Bytes padded(Bytes size) { return align_up(size, 256_B); }

// Of an op on sentences, whose integers of rank 1 are lengths; else 0.
std::int64_t room_of(const OpShape& shape) {
  const TensorType& x = shape.inputs[0];
  const bool has_sentences = x.dtype == DType::i32 ? x.shape.size() == 2 : x.shape.size() == 3;
  return has_sentences ? x.shape[1] : 0;
}

}  // namespace

KernelTimer::KernelTimer(const OpRegistry& registry, Device& device, DeviceDescription description, Bytes pool)
    : registry_(registry),
      device_(device),
      description_(std::move(description)),
      pool_(device.memory().allocate(pool)),
      ids_(device.memory().allocate(kIntegers)),
      labels_(device.memory().allocate(kIntegers)),
      lengths_(device.memory().allocate(kIntegers)),
      scalars_(device.memory().allocate(Bytes{sizeof(StepScalars)})),
      staged_(device.staging().allocate(kIntegers)) {
  std::mt19937 random(1);
  const auto values = reinterpret_cast<float*>(staged_.data());
  const Bytes piece = std::min(pool, kIntegers);
  for (std::int64_t i = 0; i < piece.value / 4; ++i)
    values[i] = static_cast<float>(static_cast<std::int32_t>(random())) / 2147483648.0f;
  for (Bytes at{0}; at < pool; at = at + piece)
    device.copy_in(pool_.data() + at.value, staged_.data(), std::min(piece, pool - at));
  device.synchronize();
  const auto numbers = reinterpret_cast<std::int32_t*>(staged_.data());
  const auto fill = [&](const MemoryBlock& block, std::uint32_t count) {
    for (std::int64_t i = 0; i < kIntegers.value / 4; ++i) numbers[i] = static_cast<std::int32_t>(4 + random() % count);
    device.copy_in(block.data(), staged_.data(), kIntegers);
    device.synchronize();
  };
  fill(ids_, 6000);
  fill(labels_, 5);
  const StepScalars scalars{.seed = 1, .step = 1, .learning_rate = 1e-4f, .loss_terms = 4000};
  std::memcpy(staged_.data(), &scalars, sizeof scalars);
  device.copy_in(scalars_.data(), staged_.data(), Bytes{sizeof scalars});
  device.synchronize();
}

const std::byte* KernelTimer::integers(const TensorType& type, std::int64_t room) {
  if (bytes_of(type) > kIntegers)
    throw InvalidArgument("kernel timer: " + std::to_string(element_count(type)) + " integers are too many");
  if (type.shape.size() != 1) return ids_.data();
  if (room == 0) return labels_.data();
  if (room != room_) {
    std::fill_n(reinterpret_cast<std::int32_t*>(staged_.data()), kIntegers.value / 4, static_cast<std::int32_t>(room));
    device_.copy_in(lengths_.data(), staged_.data(), kIntegers);
    device_.synchronize();
    room_ = room;
  }
  return lengths_.data();
}

double KernelTimer::elapsed(const std::function<void()>& enqueue) {
  device_.synchronize();
  const auto start = Clock::now();
  enqueue();
  device_.synchronize();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double KernelTimer::seconds_of(const std::function<void(int)>& run) {
  run(0);  // what is loaded or chosen in a first run
  const double once = elapsed([&] { run(1); });
  const int runs = std::clamp(static_cast<int>(kWindow / std::max(once, 1e-7)), 1, kMostRuns);
  const auto all = [&] {
    for (int i = 0; i < runs; ++i) run(i);
  };
  const std::unique_ptr<CapturedWork> captured = device_.capture(all);
  if (captured) elapsed([&] { captured->launch(); });
  double windows[kWindows];
  for (double& window : windows) window = elapsed([&] { captured ? captured->launch() : all(); });
  std::nth_element(windows, windows + kWindows / 2, windows + kWindows);
  return windows[kWindows / 2] / runs;
}

KernelTime KernelTimer::measure(const std::string& kind, const OpShape& shape) {
  struct Set {
    std::vector<const std::byte*> inputs;
    std::vector<std::byte*> outputs;
    std::byte* workspace;
  };
  const auto specs = registry_.at(kind).infer(shape.inputs, shape.attributes);
  KernelTime time{.cost = registry_.cost(kind, shape), .workspace = registry_.workspace(kind, shape)};
  std::vector<Set> sets;
  std::byte *at = pool_.data(), *const end = at + pool_.size().value;
  const auto take = [&](Bytes size) {
    if (end - at < padded(size).value)
      throw InvalidArgument("kernel timer: " + kind + " needs more than the pool's " +
                            std::to_string(pool_.size().value) + " bytes");
    return std::exchange(at, at + padded(size).value);
  };
  const auto add_set = [&] {
    Set set{};
    for (const TensorType& type : shape.inputs)
      set.inputs.push_back(type.dtype == DType::i32 ? integers(type, room_of(shape)) : take(bytes_of(type)));
    for (std::size_t i = 0; i < shape.outputs.size(); ++i) {
      const int under = specs.at(i).version_of_input;
      set.outputs.push_back(under >= 0 ? const_cast<std::byte*>(set.inputs.at(static_cast<std::size_t>(under)))
                                       : take(bytes_of(shape.outputs[i])));
    }
    set.workspace = take(time.workspace);
    sets.push_back(std::move(set));
  };
  add_set();
  const auto size = at - pool_.data();
  while (static_cast<int>(sets.size()) < kMostSets && static_cast<double>(at - pool_.data()) < kApart &&
         end - at >= size)
    add_set();

  std::int64_t samples = 1;
  for (const TensorType& type : shape.inputs)
    if (type.batched) samples = type.shape[0];
  const auto kernel = registry_.make_kernel(kind, shape);
  time.seconds = seconds_of([&](int i) {
    const Set& set = sets[static_cast<std::size_t>(i) % sets.size()];
    kernel->run({.inputs = set.inputs,
                 .outputs = set.outputs,
                 .workspace = set.workspace,
                 .scalars = reinterpret_cast<const StepScalars*>(scalars_.data()),
                 .samples = {0, samples},
                 .batch = samples,
                 .first_microbatch = true,
                 .stream = device_.stream()});
  });
  return time;
}

std::optional<double> KernelTimer::copy_seconds(Bytes size) {
  if (pool_.size() < size + size) throw InvalidArgument("kernel timer: the pool does not hold a copy");
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr || device_.stream() == nullptr) return {};
  using Copy = int (*)(unsigned long long to, unsigned long long from, std::size_t size, void* stream);
  const auto copy = reinterpret_cast<Copy>(dlsym(driver, "cuMemcpyDtoDAsync_v2"));
  if (copy == nullptr) return {};
  const auto address = [&](Bytes at) {
    return static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(pool_.data() + at.value));
  };
  int status = 0;
  const double seconds = seconds_of([&](int) {
    if (const int one = copy(address(size), address(Bytes{0}), static_cast<std::size_t>(size.value), device_.stream());
        one != 0)
      status = one;
  });
  if (status != 0) return {};
  return seconds;
}

}  // namespace thimble
