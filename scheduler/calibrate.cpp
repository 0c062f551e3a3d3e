// Measuring: every distinct op of some programs, once, on buffers that nobody else sees.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>
#include <utility>

#include "thimble/calibration.h"
#include "thimble/error.h"
#include "thimble/memory.h"

namespace thimble {
namespace {

constexpr double kSecondsOfRuns = 0.02;  // by the roofline: how often an op runs does not depend on the clock
constexpr int kFewestRuns = 5, kMostRuns = 25;

Bytes padded(const TensorType& type) { return align_up(bytes_of(type), kAlignment); }

struct Measurable {
  CalibrationEntry entry;
  OpShape shape;
  std::vector<int> same_as_input;  // of each output: the input that it is a new version of, or -1
  std::int64_t samples = 0;
  std::int64_t batch = 0;
};

// What the runtime would hand out: one block, each tensor at an aligned address, new versions over old ones.
class Bench {
 public:
  double median_seconds(const Measurable& op, const OpRegistry& registry) {
    const auto kernel = registry.make_kernel(op.entry.kind, op.shape);
    lay_out(op, registry.workspace(op.entry.kind, op.shape));
    const StepScalars scalars{.seed = 1, .step = 1, .learning_rate = 0};
    // Not the first microbatch: sums are read too.
    const KernelArguments arguments{inputs_,
                                    outputs_,
                                    workspace_,
                                    &scalars,
                                    {0, op.samples},
                                    op.batch,
                                    /*first_microbatch=*/false};
    kernel->run(arguments);  // touches pages, starts threads
    std::vector<double> runs(static_cast<std::size_t>(runs_of(op, registry)));
    for (double& seconds : runs) {
      const auto start = std::chrono::steady_clock::now();
      kernel->run(arguments);
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    std::nth_element(runs.begin(), runs.begin() + static_cast<std::ptrdiff_t>(runs.size() / 2), runs.end());
    return runs[runs.size() / 2];
  }

 private:
  static int runs_of(const Measurable& op, const OpRegistry& registry) {
    const double once = predicted_seconds(registry.cost(op.entry.kind, op.shape), op.shape.device);
    const double runs = once > 0 ? kSecondsOfRuns / once : kMostRuns;
    return static_cast<int>(std::clamp(runs, double{kFewestRuns}, double{kMostRuns}));
  }

  void lay_out(const Measurable& op, Bytes workspace) {
    Bytes needed = align_up(workspace, kAlignment);
    for (const TensorType& type : op.shape.inputs) needed += padded(type);
    for (const TensorType& type : op.shape.outputs) needed += padded(type);
    if (block_.size() < needed) {
      block_ = {};
      block_ = memory_.allocate(needed);
    }
    std::byte* next = block_.data();
    const auto take = [&next](Bytes size) { return std::exchange(next, next + align_up(size, kAlignment).value); };
    std::vector<std::byte*> inputs;
    for (const TensorType& type : op.shape.inputs) {
      inputs.push_back(take(bytes_of(type)));
      fill(inputs.back(), type);
    }
    inputs_.assign(inputs.begin(), inputs.end());
    outputs_.clear();
    for (std::size_t i = 0; i < op.shape.outputs.size(); ++i) {
      const int input = op.same_as_input[i];
      outputs_.push_back(input >= 0 ? inputs[static_cast<std::size_t>(input)] : take(bytes_of(op.shape.outputs[i])));
      if (input < 0) fill(outputs_.back(), op.shape.outputs[i]);
    }
    workspace_ = workspace > Bytes{} ? take(workspace) : nullptr;
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

  HostMemory memory_;
  MemoryBlock block_;
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
    for (std::size_t i = 0; i < graph.ops.size(); ++i) {
      const auto id = static_cast<OpId>(i);
      const OpDefinition& definition = registry_.at(graph.ops[id].kind);
      if (definition.view || !definition.make_kernel) continue;
      const bool is_update = graph.ops[id].phase == Phase::update;
      for (std::int64_t samples : is_update ? std::set{graph.batch} : parts) add(graph, id, samples, device);
    }
  }

  void add(const Graph& graph, OpId id, std::int64_t samples, const DeviceDescription& device) {
    const OpShape shape = shape_of(graph, id, samples, device);
    add(graph, id, samples, shape);
    for (Attributes& attributes : registry_.faster(graph.ops[id].kind, shape)) {
      OpShape other = shape;
      other.attributes = std::move(attributes);
      add(graph, id, samples, std::move(other));
    }
  }

  void add(const Graph& graph, OpId id, std::int64_t samples, OpShape shape) {
    const Op& op = graph.ops[id];
    CalibrationEntry entry{op.kind, shape.attributes, shape.inputs, shape.outputs};
    if (!known_.insert(calibration_key(entry)).second) return;
    Measurable one{std::move(entry), std::move(shape), {}, samples, graph.batch};
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

CalibrationTable calibrate(const std::vector<PlanRequest>& variants, const OpRegistry& registry) {
  if (variants.empty()) throw InvalidArgument("calibrate: there is no program to measure the ops of");
  if (const DeviceDescription& device = variants.front().device; device.backend != "cpu")
    throw InvalidArgument("calibrate: ops are measured on the CPU only, the plan is for '" + device.name + "'");
  const Collection collection(variants, registry);
  Bench bench;
  std::vector<CalibrationEntry> entries;
  for (const Measurable& op : collection.ops()) {
    entries.push_back(op.entry);
    // Whole nanoseconds: the clock has no more, and files stay short.
    entries.back().seconds = std::max(1.0, std::round(1e9 * bench.median_seconds(op, registry))) / 1e9;
  }
  return {this_place(variants.front().device, registry), std::move(entries)};
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
