#include "thimble/runtime.h"

#include <algorithm>
#include <optional>

#include "staging.h"
#include "thimble/error.h"

namespace thimble {
namespace {

// A step ready to run: one kernel per microbatch size, and room for the addresses it is called with.
struct PreparedStep {
  std::vector<std::pair<std::int64_t, std::unique_ptr<Kernel>>> kernels;  // by samples
  std::vector<const std::byte*> inputs;
  std::vector<std::byte*> outputs;
};

struct PreparedProgram {
  const Program* program = nullptr;
  std::vector<PreparedStep> steps;
  std::vector<std::vector<StorageId>> begins, ends;  // at each static step
  std::vector<StorageId> read;                       // outputs: released after the caller has read them, not in `ends`
  std::vector<std::vector<InstanceId>> given;        // filled before each static step
  std::vector<InstanceId> outputs;
  // On a device.
  bool has_run = false;
  std::unique_ptr<CapturedWork> captured;
  Bytes captured_high_water;
};

// The half-open range of static steps in a node list; a body is contiguous (check_plan).
std::pair<std::int32_t, std::int32_t> step_range(const std::vector<ScheduleNode>& nodes) {
  std::pair<std::int32_t, std::int32_t> range{INT32_MAX, 0};
  for (const ScheduleNode& node : nodes) {
    std::pair<std::int32_t, std::int32_t> inner{index(node.step), index(node.step) + 1};
    if (node.kind == ScheduleNode::Kind::barrier) continue;
    if (node.kind == ScheduleNode::Kind::repeat) inner = step_range(node.body);
    range = {std::min(range.first, inner.first), std::max(range.second, inner.second)};
  }
  return range;
}

void collect_sizes(const std::vector<ScheduleNode>& nodes, std::int64_t samples,
                   std::vector<std::vector<std::int64_t>>& sizes) {
  for (const ScheduleNode& node : nodes) {
    if (node.kind == ScheduleNode::Kind::step) {
      auto& known = sizes[static_cast<std::size_t>(index(node.step))];
      if (std::find(known.begin(), known.end(), samples) == known.end()) known.push_back(samples);
    }
    for (HalfOpen range : node.ranges) collect_sizes(node.body, range.size(), sizes);
  }
}

// The first step of the repeat that each step stands in; -1: of none.
void collect_begins(const std::vector<ScheduleNode>& nodes, std::int32_t begin, std::vector<std::int32_t>& begins) {
  for (const ScheduleNode& node : nodes) {
    if (node.kind == ScheduleNode::Kind::step) begins[static_cast<std::size_t>(index(node.step))] = begin;
    if (node.kind == ScheduleNode::Kind::repeat) collect_begins(node.body, step_range(node.body).first, begins);
  }
}

// One microbatch of an input is filled as the iterations begin of the repeat that reads it, all else before step 0.
std::vector<std::vector<InstanceId>> find_given(const Program& program) {
  const Schedule& schedule = program.schedule;
  std::vector<std::int32_t> begins(schedule.steps.size(), -1);
  collect_begins(schedule.order, -1, begins);
  IdVector<InstanceId, std::int32_t> filled_at(schedule.instances.size(), 0);
  for (std::size_t i = schedule.steps.size(); i-- > 0;)
    for (InstanceId input : schedule.steps[i].inputs) filled_at[input] = std::max(begins[i], 0);
  std::vector<std::vector<InstanceId>> given(schedule.steps.size());
  for (std::size_t i = 0; i < schedule.instances.size() && !given.empty(); ++i) {
    const auto id = static_cast<InstanceId>(i);
    const Instance& instance = schedule.instances[id];
    const Tensor& tensor = program.graph.tensors[instance.tensor];
    if (tensor.producer != kNoOp || is_persistent(tensor)) continue;
    const bool is_part = tensor.type.batched && !instance.whole_batch;
    given[static_cast<std::size_t>(is_part ? filled_at[id] : 0)].push_back(id);
  }
  return given;
}

PreparedProgram prepare(const Program& program, const OpRegistry& registry, const DeviceDescription& device,
                        bool with_kernels) {
  PreparedProgram prepared;
  prepared.program = &program;
  const std::size_t count = program.schedule.steps.size();
  prepared.begins.resize(count + 1);
  prepared.ends.resize(count + 1);
  IdVector<StorageId, char> is_output(program.schedule.storages.size(), 0);
  for (std::size_t i = 0; i < program.schedule.instances.size(); ++i) {
    const Instance& instance = program.schedule.instances[static_cast<InstanceId>(i)];
    if (!program.graph.tensors[instance.tensor].is_output) continue;
    is_output[instance.storage] = 1;
    prepared.outputs.push_back(static_cast<InstanceId>(i));
  }
  for (std::size_t i = 0; i < program.schedule.storages.size(); ++i) {
    const auto id = static_cast<StorageId>(i);
    const Storage& storage = program.schedule.storages[id];
    if (storage.persistent) continue;
    auto& ends = prepared.ends[static_cast<std::size_t>(index(storage.lifetime.end))];
    prepared.begins[static_cast<std::size_t>(index(storage.lifetime.begin))].push_back(id);
    (is_output[id] != 0 ? prepared.read : ends).push_back(id);
  }
  prepared.given = find_given(program);
  std::vector<std::vector<std::int64_t>> sizes(count);
  collect_sizes(program.schedule.order, program.graph.batch, sizes);
  for (std::size_t i = 0; i < count; ++i) {
    const ScheduledStep& step = program.schedule.steps[i];
    PreparedStep ready;
    ready.inputs.resize(step.inputs.size());
    ready.outputs.resize(step.outputs.size());
    const OpDefinition& definition = registry.at(program.graph.ops[step.op].kind);
    if (with_kernels && !definition.view)
      for (std::int64_t samples : sizes[i])
        ready.kernels.emplace_back(samples, registry.make_kernel(program.graph.ops[step.op].kind,
                                                                 shape_of(program.graph, step.op, samples, device)));
    prepared.steps.push_back(std::move(ready));
  }
  return prepared;
}

// Not through with_samples, which copies the shape: a step allocates nothing.
Bytes bytes_per_sample(const TensorType& type) { return Bytes{bytes_of(type).value / type.shape[0]}; }

std::string joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += "\n  " + line;
  return all;
}

}  // namespace

struct Runtime::Impl final : ProgramView {
  // Without a device the host does everything itself, between the steps.
  Impl(Plan p, const OpRegistry& r, Memory& memory, Device* device, RuntimeOptions o)
      : plan(std::move(p)),
        options(o),
        arena((validate(r), memory), plan.arena,
              {.poison = o.poison, .canaries = o.canaries, .max_spans = most_spans()}) {
    if (device == nullptr && memory.is_host_accessible() && plan.device.backend != "cpu")
      throw InvalidArgument("runtime: the plan is for device '" + plan.device.name + "' (" + plan.device.backend +
                            "), not for the CPU; plan again, or open that device");
    if (device != nullptr && plan.device.backend == "cpu")
      throw InvalidArgument("runtime: the plan is for the CPU, not for device '" + std::string(device->name()) +
                            "'; plan again with --device");
    if (device != nullptr) staging.emplace(*device, plan);
    for (const Program& program : plan.programs)
      programs.push_back(prepare(program, r, plan.device, device != nullptr || memory.is_host_accessible()));
    for (const PersistentTensor& tensor : plan.persistent)
      arena.grant(tensor.name, tensor.offset, align_up(bytes_of(tensor.type), kAlignment));
  }

  void validate(const OpRegistry& registry) const {
    if (!options.check) return;
    if (const auto findings = check_plan(plan, registry); !findings.empty())
      throw BadInput("plan: refused by the checker:" + joined(findings));
  }

  std::size_t most_spans() const {
    std::size_t most = 0;
    for (const Program& program : plan.programs) most = std::max(most, program.schedule.storages.size());
    return most + plan.persistent.size();
  }

  const Storage& storage(StorageId id) const { return current->program->schedule.storages[id]; }

  void grant(StorageId id) {
    const Storage& s = storage(id);
    arena.grant(s.name, s.offset, s.size);
    if (listener) listener({.kind = RuntimeEvent::Kind::grant, .name = s.name, .offset = s.offset, .size = s.size});
  }

  void release(StorageId id) {
    const Storage& s = storage(id);
    if (listener) listener({.kind = RuntimeEvent::Kind::release, .name = s.name, .offset = s.offset, .size = s.size});
    arena.release(s.offset);
  }

  // After a failure: the next run finds the arena as if this one had not been.
  void release_all(const Program& program) noexcept {
    for (const Storage& s : program.schedule.storages) {
      if (s.persistent || !arena.is_granted(s.offset, s.size)) continue;
      try {
        arena.release(s.offset);
      } catch (const Error&) {  // a canary: the failure at hand is the one to report
      }
    }
  }

  // What a device will read is filled beforehand, in the order in which it reads it.
  void fill_nodes(const std::vector<ScheduleNode>& nodes, HalfOpen samples) {
    for (const ScheduleNode& node : nodes) {
      if (node.kind == ScheduleNode::Kind::step && !current->given[static_cast<std::size_t>(index(node.step))].empty())
        fill_inputs(index(node.step), samples);
      for (HalfOpen range : node.ranges) fill_nodes(node.body, range);
    }
  }

  void run_nodes(const std::vector<ScheduleNode>& nodes, HalfOpen samples, bool first, std::int32_t low,
                 std::int32_t high) {
    for (const ScheduleNode& node : nodes) {
      if (node.kind == ScheduleNode::Kind::step) run_step(index(node.step), samples, first, low, high);
      if (node.kind == ScheduleNode::Kind::repeat) run_repeat(node, low, high);
    }
  }

  // What crosses the repeat's borders is granted once around it; inside, each iteration grants its own.
  void run_repeat(const ScheduleNode& node, std::int32_t low, std::int32_t high) {
    const auto [begin, end] = step_range(node.body);
    if (begin >= end) return;
    for (StorageId id : current->begins[static_cast<std::size_t>(begin)])
      if (is_around(id, begin, end) && !is_around(id, low, high)) grant(id);
    bool first = true;
    for (HalfOpen range : node.ranges) {
      run_nodes(node.body, range, first, begin, end);
      first = false;
    }
    for (StorageId id : current->ends[static_cast<std::size_t>(end)])
      if (is_around(id, begin, end) && !is_around(id, low, high)) release(id);
  }

  // Whether a storage lives at least for the whole of the static steps [begin, end).
  bool is_around(StorageId id, std::int32_t begin, std::int32_t end) const {
    return index(storage(id).lifetime.begin) <= begin && index(storage(id).lifetime.end) >= end;
  }

  void run_step(std::int32_t step, HalfOpen samples, bool first, std::int32_t low, std::int32_t high) {
    const bool in_repeat = low >= 0;
    const auto at = static_cast<std::size_t>(step);
    for (StorageId id : current->begins[at])
      if (!in_repeat || !is_around(id, low, high)) grant(id);
    if (staging)
      copy_inputs(current->given[at], samples);
    else if (!current->given[at].empty())
      fill_inputs(step, samples);
    call_kernel(at, samples, first);
    for (StorageId id : current->ends[at + 1])
      if (!in_repeat || !is_around(id, low, high)) release(id);
  }

  // The caller is what makes inputs.
  void fill_inputs(std::int32_t step, HalfOpen samples) {
    at_hand = samples;
    if (listener) listener({.kind = RuntimeEvent::Kind::fill, .name = {}, .step = Step{step}, .samples = samples});
    if (!fill || !*fill) return;
    filling = &current->given[static_cast<std::size_t>(step)];
    (*fill)(*this);
    filling = nullptr;
  }

  void read_outputs(const ViewFunction& read) {
    at_hand = {0, current->program->graph.batch};
    filling = nullptr;
    if (read) read(*this);
  }

  void release_outputs() {
    for (StorageId id : current->read) release(id);
  }

  std::byte* staged(InstanceId id, HalfOpen samples) const {
    const TensorId tensor = current->program->schedule.instances[id].tensor;
    const TensorType& type = current->program->graph.tensors[tensor].type;
    const Bytes skipped = type.batched ? samples.begin * bytes_per_sample(type) : Bytes{};
    return staging->tensor(static_cast<std::size_t>(current - programs.data()), tensor) + skipped.value;
  }

  Bytes size_of(InstanceId id, HalfOpen samples) const {
    const TensorType& type = current->program->graph.tensors[current->program->schedule.instances[id].tensor].type;
    return type.batched ? samples.size() * bytes_per_sample(type) : bytes_of(type);
  }

  void copy_inputs(const std::vector<InstanceId>& ids, HalfOpen samples) {
    for (InstanceId id : ids)
      staging->device().copy_in(address(id, samples), staged(id, samples), size_of(id, samples));
  }

  // All that a run of the program does on the device, from the scalars to the outputs.
  void enqueue() {
    const HalfOpen all{0, current->program->graph.batch};
    staging->enqueue_scalars();
    run_nodes(current->program->schedule.order, all, true, -1, -1);
    for (InstanceId id : current->outputs)
      staging->device().copy_out(staged(id, all), address(id, all), size_of(id, all));
    release_outputs();
  }

  void run_on_device() {
    Device& device = staging->device();
    staging->upload(plan, arena);
    staging->set_scalars(*scalars);
    fill_nodes(current->program->schedule.order, {0, current->program->graph.batch});
    // The first run makes what libraries and the driver keep; events are those of a run that is not repeated.
    if (options.capture && !current->captured && current->has_run && !listener) {
      current->captured = device.capture([this] { enqueue(); });
      current->captured_high_water = arena.high_water();
    }
    is_repeated = current->captured != nullptr && !listener;
    if (is_repeated)
      current->captured->launch();
    else
      enqueue();
    device.synchronize();
    current->has_run = true;
  }

  // Returns the high water.
  Bytes run_program(const ViewFunction& read) {
    if (staging) {
      run_on_device();
      read_outputs(read);
      return is_repeated ? current->captured_high_water : arena.high_water();
    }
    run_nodes(current->program->schedule.order, {0, current->program->graph.batch}, true, -1, -1);
    read_outputs(read);
    release_outputs();
    return arena.high_water();
  }

  std::byte* address(InstanceId id, HalfOpen samples) {
    const Instance& instance = current->program->schedule.instances[id];
    const Storage& s = storage(instance.storage);
    const TensorType& type = current->program->graph.tensors[instance.tensor].type;
    const Bytes skipped = instance.whole_batch && type.batched ? samples.begin * bytes_per_sample(type) : Bytes{};
    return arena.address(s.offset + skipped);
  }

  void call_kernel(std::size_t step, HalfOpen samples, bool first) {
    PreparedStep& ready = current->steps[step];
    const ScheduledStep& scheduled = current->program->schedule.steps[step];
    if (listener)
      listener({.kind = RuntimeEvent::Kind::step,
                .name = current->program->graph.ops[scheduled.op].name,
                .step = Step{static_cast<std::int32_t>(step)},
                .samples = samples});
    for (auto& [size, kernel] : ready.kernels) {
      if (size != samples.size()) continue;
      for (std::size_t i = 0; i < ready.inputs.size(); ++i) ready.inputs[i] = address(scheduled.inputs[i], samples);
      for (std::size_t i = 0; i < ready.outputs.size(); ++i) ready.outputs[i] = address(scheduled.outputs[i], samples);
      std::byte* workspace =
          scheduled.workspace == kNoStorage ? nullptr : arena.address(storage(scheduled.workspace).offset);
      kernel->run({ready.inputs, ready.outputs, workspace, staging ? staging->device_scalars() : scalars, samples,
                   current->program->graph.batch, first, staging ? staging->device().stream() : nullptr});
    }
  }

  HalfOpen samples() const override { return at_hand; }

  std::span<std::byte> bytes(std::string_view name) override {
    const auto& instances = current->program->schedule.instances;
    bool is_known = false;
    for (std::size_t i = 0; i < instances.size(); ++i) {
      const auto id = static_cast<InstanceId>(i);
      const Tensor& tensor = current->program->graph.tensors[instances[id].tensor];
      const bool is_open = filling ? tensor.producer == kNoOp && !is_persistent(tensor) : tensor.is_output;
      if (!is_open || tensor.name != name) continue;
      is_known = true;
      if (filling && std::find(filling->begin(), filling->end(), id) == filling->end()) continue;
      return {staging ? staged(id, at_hand) : address(id, at_hand),
              static_cast<std::size_t>(size_of(id, at_hand).value)};
    }
    if (is_known) return {};  // for other steps
    throw InvalidArgument("runtime: program '" + current->program->name + "' has no " + (filling ? "input" : "output") +
                          " '" + std::string(name) + "'");
  }

  Plan plan;
  RuntimeOptions options;
  Arena arena;
  std::vector<PreparedProgram> programs;
  PreparedProgram* current = nullptr;
  const StepScalars* scalars = nullptr;
  const ViewFunction* fill = nullptr;
  HalfOpen at_hand{};                                // samples that the caller fills or reads
  const std::vector<InstanceId>* filling = nullptr;  // what the caller fills, if it does
  Bytes high_water;
  bool is_repeated = false;  // the last run, from a record
  std::optional<Staging> staging;
  std::function<void(const RuntimeEvent&)> listener;
};

Runtime::Runtime(Plan plan, const OpRegistry& registry, Memory& memory, RuntimeOptions options)
    : impl_(std::make_unique<Impl>(std::move(plan), registry, memory, nullptr, options)) {}
Runtime::Runtime(Plan plan, const OpRegistry& registry, Device& device, RuntimeOptions options)
    : impl_(std::make_unique<Impl>(std::move(plan), registry, device.memory(), &device, options)) {}
Runtime::~Runtime() = default;

const Plan& Runtime::plan() const { return impl_->plan; }
Arena& Runtime::arena() { return impl_->arena; }
Bytes Runtime::last_high_water() const { return impl_->high_water; }
bool Runtime::was_captured() const { return impl_->is_repeated; }
void Runtime::set_event_listener(std::function<void(const RuntimeEvent&)> listener) {
  impl_->listener = std::move(listener);
}

std::span<std::byte> Runtime::persistent(std::string_view name) {
  for (const PersistentTensor& tensor : impl_->plan.persistent)
    if (tensor.name == name) {
      if (impl_->staging) return impl_->staging->persistent(tensor, impl_->arena);
      return {impl_->arena.address(tensor.offset), static_cast<std::size_t>(bytes_of(tensor.type).value)};
    }
  throw InvalidArgument("runtime: there is no persistent tensor '" + std::string(name) + "'");
}

void Runtime::run(std::string_view name, const StepScalars& scalars, const ViewFunction& fill,
                  const ViewFunction& read) {
  Impl& self = *impl_;
  auto found = std::find_if(self.programs.begin(), self.programs.end(),
                            [&](const PreparedProgram& p) { return p.program->name == name; });
  if (found == self.programs.end()) self.plan.program(std::string(name));  // throws, naming those there are
  self.current = &*found;
  self.scalars = &scalars;
  self.fill = &fill;
  self.arena.reset_high_water();
  const Program& program = *found->program;
  try {
    self.high_water = self.run_program(read);
  } catch (...) {
    self.release_all(program);
    throw;
  }
  if (self.high_water != program.planned)
    throw Error("runtime: program '" + program.name + "' was planned at " + to_string(program.planned) +
                ", its high water was " + to_string(self.high_water));
}

}  // namespace thimble
