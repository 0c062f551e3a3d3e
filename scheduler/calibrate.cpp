// Measuring: every distinct op of some programs, once, on buffers that nobody else sees.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <set>
#include <utility>

#include "thimble/calibration.h"
#include "thimble/error.h"
#include "thimble/memory.h"

namespace thimble {
namespace {

constexpr int kRounds = 9;  // through all ops, one after the other: what disturbs the machine meets an op once or twice
constexpr Bytes kMostSwept{64 << 20};  // before each run on the CPU: more than a core's share of the caches

constexpr int kRoundsOnDevice = 3;          // nobody else is there
constexpr double kSecondsOfLaunch = 0.001;  // on a device: of the runs that are enqueued at once
constexpr int kMostAtOnce = 40;

Bytes padded(const TensorType& type) { return align_up(bytes_of(type), kAlignment); }

struct Measurable {
  CalibrationEntry entry;
  OpShape shape;
  std::vector<char> just_made;     // of each input: by the op before
  std::vector<int> same_as_input;  // of each output: the input that it is a new version of, or -1
  std::int64_t samples = 0;
  std::int64_t batch = 0;
  Bytes swept;  // what a step writes between two uses of a tensor
};

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Disturbances only add.
double lower_quartile(std::vector<double> runs) {
  const auto at = runs.begin() + static_cast<std::ptrdiff_t>(runs.size() / 4);
  std::nth_element(runs.begin(), at, runs.end());
  return *at;
}

// What the runtime would hand out: one block, each tensor at an aligned address, new versions over old ones.
class Bench {
 public:
  Bench(const OpRegistry& registry, Device* device)
      : registry_(registry), device_(device), swept_(device ? 0 : static_cast<std::size_t>(kMostSwept.value)) {}

  double seconds(const Measurable& op, Kernel& kernel) {
    lay_out(op);
    // Not the first microbatch: sums are read too.
    const KernelArguments arguments{inputs_,
                                    outputs_,
                                    workspace_,
                                    reinterpret_cast<const StepScalars*>(scalars_),
                                    {0, op.samples},
                                    op.batch,
                                    /*first_microbatch=*/false,
                                    device_ ? device_->stream() : nullptr};
    const auto run = [&] { kernel.run(arguments); };
    if (device_) return on_device(run);
    sweep_caches(op);
    return seconds_of(run);
  }

 private:
  // As a step finds them: with what the op before has made, and little else.
  void sweep_caches(const Measurable& op) {
    const auto next = static_cast<std::byte>(static_cast<int>(swept_[0]) + 1);
    std::fill_n(swept_.begin(), op.swept.value, next);
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      if (op.just_made[i]) read(inputs_[i], bytes_of(op.shape.inputs[i]));
  }

  static void read(const volatile std::byte* data, Bytes size) {
    constexpr std::int64_t kLine = 64;
    for (std::int64_t at = 0; at < size.value; at += kLine) static_cast<void>(data[at]);
  }

  // As steps run there: recorded, where the device can. As many at once as waiting for them does not matter.
  double on_device(const std::function<void()>& run) {
    const auto wait_for = [&](const std::function<void()>& work) {
      return seconds_of([&] {
        work();
        device_->synchronize();
      });
    };
    wait_for(run);  // makes what libraries keep
    const int at_once = static_cast<int>(std::clamp(kSecondsOfLaunch / wait_for(run), 1.0, double{kMostAtOnce}));
    const auto enqueue = [&] {
      for (int i = 0; i < at_once; ++i) run();
    };
    const std::unique_ptr<CapturedWork> captured = device_->capture(enqueue);
    const auto launch = [&] { captured ? captured->launch() : enqueue(); };
    wait_for(launch);  // takes the record there
    return wait_for(launch) / at_once;
  }

  // Filled on the host, which on the CPU is the block itself.
  void lay_out(const Measurable& op) {
    const Bytes workspace = registry_.workspace(op.entry.kind, op.shape);
    Bytes needed = align_up(Bytes{sizeof(StepScalars)}, kAlignment) + align_up(workspace, kAlignment);
    for (const TensorType& type : op.shape.inputs) needed += padded(type);
    for (const TensorType& type : op.shape.outputs) needed += padded(type);
    if (block_.size() < needed) {
      block_ = {};
      staged_ = {};
      block_ = (device_ ? device_->memory() : memory_).allocate(needed);
      if (device_) staged_ = device_->staging().allocate(needed);
    }
    std::byte* const host = device_ ? staged_.data() : block_.data();
    std::int64_t next = 0;
    const auto take = [&next](Bytes size) { return std::exchange(next, next + align_up(size, kAlignment).value); };
    const auto filled = [&](const TensorType& type) {
      const std::int64_t at = take(bytes_of(type));
      fill(host + at, type);
      return at;
    };
    const std::int64_t scalars = take(Bytes{sizeof(StepScalars)});
    std::construct_at(reinterpret_cast<StepScalars*>(host + scalars),
                      StepScalars{.seed = 1, .step = 1, .learning_rate = 0, .loss_terms = 1});
    scalars_ = block_.data() + scalars;
    std::vector<std::byte*> inputs;
    const OpDefinition& definition = registry_.at(op.entry.kind);
    for (std::size_t i = 0; i < op.shape.inputs.size(); ++i) {
      const TensorType& type = op.shape.inputs[i];
      const std::int64_t at = filled(type);
      if (type.dtype == DType::i32 && definition.fullest)
        definition.fullest(op.shape, i,
                           {reinterpret_cast<std::int32_t*>(host + at), static_cast<std::size_t>(element_count(type))});
      inputs.push_back(block_.data() + at);
    }
    inputs_.assign(inputs.begin(), inputs.end());
    outputs_.clear();
    for (std::size_t i = 0; i < op.shape.outputs.size(); ++i) {
      const int input = op.same_as_input[i];
      outputs_.push_back(input >= 0 ? inputs[static_cast<std::size_t>(input)]
                                    : block_.data() + filled(op.shape.outputs[i]));
    }
    if (device_) device_->copy_in(block_.data(), host, Bytes{next});
    workspace_ = workspace > Bytes{} ? block_.data() + take(workspace) : nullptr;
  }

  // Floats in [0.25, 0.75): some are variances, and none may grow to infinity or shrink to a denormal, which would be
  // slow. Anything else is zero, which is a class, a mask, a count.
  static void fill(std::byte* data, const TensorType& type) {
    const auto size = static_cast<std::size_t>(bytes_of(type).value);
    std::fill(data, data + size, std::byte{0});
    if (type.dtype != DType::f32) return;
    auto* floats = reinterpret_cast<float*>(data);
    std::uint32_t state = 1;
    for (std::size_t i = 0; i < size / sizeof(float); ++i) {
      state = state * 1664525U + 1013904223U;
      floats[i] = 0.25F + static_cast<float>(state >> 9) * 0x1p-24F;
    }
  }

  const OpRegistry& registry_;
  Device* device_;
  HostMemory memory_;
  std::vector<std::byte> swept_;
  MemoryBlock block_, staged_;
  const std::byte* scalars_ = nullptr;
  std::vector<const std::byte*> inputs_;
  std::vector<std::byte*> outputs_;
  std::byte* workspace_ = nullptr;
};

// The ops of some programs, one for each distinct shape, in the order in which they are met.
class Collection {
 public:
  Collection(const std::vector<PlanRequest>& variants, const OpRegistry& registry) : registry_(registry) {
    for (const PlanRequest& variant : variants) {
      if (variant.device != variants.front().device)
        throw InvalidArgument("calibrate: the variants are planned for two devices; measure one at a time");
      const ProgramRequest& step = variant.programs.at(0);
      add(step.graph, {step.graph.batch}, variant.device);  // what a search for values to keep is told
      if (step.microbatches.size() > 1)
        add(accumulate_over_microbatches(step.graph, registry), {step.microbatches.begin(), step.microbatches.end()},
            variant.device);
    }
  }
  const std::vector<Measurable>& ops() const { return ops_; }

 private:
  void add(const Graph& graph, const std::set<std::int64_t>& parts, const DeviceDescription& device) {
    for (std::int64_t samples : parts) {
      const Bytes swept = std::min(kMostSwept, Bytes{bytes_made(graph, samples).value / 4});
      for (std::size_t i = 0; i < graph.ops.size(); ++i) {
        const auto id = static_cast<OpId>(i);
        const OpDefinition& definition = registry_.at(graph.ops[id].kind);
        if (definition.view || !definition.make_kernel) continue;
        const bool is_update = graph.ops[id].phase == Phase::update;
        add(graph, id, is_update ? graph.batch : samples, swept, device);
      }
    }
  }

  static Bytes bytes_made(const Graph& graph, std::int64_t samples) {
    Bytes sum;
    for (const Op& op : graph.ops)
      for (TensorId output : op.outputs) sum += bytes_of(with_samples(graph.tensors[output].type, samples));
    return sum;
  }

  void add(const Graph& graph, OpId id, std::int64_t samples, Bytes swept, const DeviceDescription& device) {
    const OpShape shape = shape_of(graph, id, samples, device);
    add(graph, id, samples, swept, shape);
    for (Attributes& attributes : registry_.faster(graph.ops[id].kind, shape)) {
      OpShape other = shape;
      other.attributes = std::move(attributes);
      add(graph, id, samples, swept, std::move(other));
    }
  }

  void add(const Graph& graph, OpId id, std::int64_t samples, Bytes swept, OpShape shape) {
    const Op& op = graph.ops[id];
    CalibrationEntry entry{op.kind, shape.attributes, shape.inputs, shape.outputs};
    if (!known_.insert(calibration_key(entry)).second) return;
    Measurable one{std::move(entry), std::move(shape), {}, {}, samples, graph.batch, swept};
    const auto before = static_cast<OpId>(static_cast<std::int64_t>(id) - 1);
    for (TensorId input : op.inputs)
      one.just_made.push_back(before != kNoOp && graph.tensors[input].producer == before);
    for (TensorId output : op.outputs) {
      const auto old = std::find(op.inputs.begin(), op.inputs.end(), graph.tensors[output].version_of);
      one.same_as_input.push_back(old == op.inputs.end() ? -1 : static_cast<int>(old - op.inputs.begin()));
    }
    ops_.push_back(std::move(one));
  }

  const OpRegistry& registry_;
  std::set<std::string> known_;
  std::vector<Measurable> ops_;
};

}  // namespace

CalibrationTable calibrate(const std::vector<PlanRequest>& variants, const OpRegistry& registry, Device* device) {
  if (variants.empty()) throw InvalidArgument("calibrate: there is no program to measure the ops of");
  const DeviceDescription& description = variants.front().device;
  if ((description.backend == "cpu") != (device == nullptr))
    throw InvalidArgument("calibrate: the plan is for '" + description.name + "', to be measured on " +
                          (device ? "'" + std::string(device->name()) + "'" : "the CPU"));
  const Collection collection(variants, registry);
  Bench bench(registry, device);
  const std::vector<Measurable>& ops = collection.ops();
  std::vector<std::unique_ptr<Kernel>> kernels;
  kernels.reserve(ops.size());
  for (const Measurable& op : ops) kernels.push_back(registry.make_kernel(op.entry.kind, op.shape));
  std::vector<std::vector<double>> seconds(ops.size());
  for (int round = 0; round < (device ? kRoundsOnDevice : kRounds); ++round)
    for (std::size_t i = 0; i < ops.size(); ++i) seconds[i].push_back(bench.seconds(ops[i], *kernels[i]));
  std::vector<CalibrationEntry> entries;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    entries.push_back(ops[i].entry);
    // Whole nanoseconds: the clock has no more, and files stay short.
    entries.back().seconds = std::max(1.0, std::round(1e9 * lower_quartile(std::move(seconds[i])))) / 1e9;
  }
  return {this_place(description, registry), std::move(entries)};
}

std::size_t count_unmeasured(const CalibrationTable& table, const std::vector<PlanRequest>& variants,
                             const OpRegistry& registry) {
  std::size_t count = 0;
  const Collection collection(variants, registry);
  for (const Measurable& op : collection.ops())
    if (!table.seconds(op.entry.kind, op.shape)) ++count;
  return count;
}

double op_seconds(const std::string& kind, const OpShape& shape, const OpRegistry& registry,
                  const CalibrationTable* table) {
  if (registry.at(kind).view) return 0;
  if (table != nullptr)
    if (const auto measured = table->seconds(kind, shape)) return *measured;
  return predicted_seconds(registry.cost(kind, shape), shape.device);
}

}  // namespace thimble
