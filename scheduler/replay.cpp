#include "thimble/replay.h"

#include <map>
#include <ostream>
#include <set>
#include <sstream>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::size_t kMostProblems = 20;

// Who wrote each byte of the arena last. Granted bytes that nobody wrote belong to kNoTensor.
class ShadowOwners {
 public:
  void set(Offset begin, Bytes size, TensorId owner) {
    clear(begin, size);
    if (size > Bytes{}) ranges_[begin] = {begin + size, owner};
  }

  void clear(Offset begin, Bytes size) {
    const Offset end = begin + size;
    split(begin);
    split(end);
    ranges_.erase(ranges_.lower_bound(begin), ranges_.lower_bound(end));
  }

  template <class Function>
  void rename(Function new_owner) {
    for (auto& [begin, range] : ranges_) range.owner = new_owner(range.owner);
  }

  // The first byte in the range that is not `owner`'s, if any.
  std::optional<Offset> first_foreign(Offset begin, Bytes size, TensorId owner) const {
    return first_but(begin, size, [owner](TensorId other) { return other == owner; });
  }

  std::optional<Offset> first_not_granted(Offset begin, Bytes size) const {
    return first_but(begin, size, [](TensorId) { return true; });
  }

 private:
  template <class Predicate>
  std::optional<Offset> first_but(Offset begin, Bytes size, Predicate is_expected) const {
    Offset at = begin;
    while (at < begin + size) {
      auto next = ranges_.upper_bound(at);
      if (next == ranges_.begin()) return at;
      const auto& [range_begin, range] = *std::prev(next);
      if (range.end <= at || !is_expected(range.owner)) return at;
      at = range.end;
    }
    return std::nullopt;
  }

  struct Range {
    Offset end;
    TensorId owner;
  };
  void split(Offset at) {
    auto next = ranges_.upper_bound(at);
    if (next == ranges_.begin()) return;
    auto& [begin, range] = *std::prev(next);
    if (begin == at || range.end <= at) return;
    const Range upper{range.end, range.owner};
    range.end = at;
    ranges_[at] = upper;
  }
  std::map<Offset, Range> ranges_;
};

// Follows one run of a program through its events.
class ShadowRun {
 public:
  ShadowRun(const Plan& plan, const Program& program, const OpRegistry& registry, ReplayReport& report)
      : program_(program),
        registry_(registry),
        report_(report),
        first_read_(program.schedule.instances.size(), kNever) {
    for (std::size_t i = program.schedule.steps.size(); i-- > 0;)
      for (InstanceId input : program.schedule.steps[i].inputs) first_read_[input] = Step{static_cast<std::int32_t>(i)};
    for (const PersistentTensor& tensor : plan.persistent)
      owners_.set(tensor.offset, bytes_of(tensor.type), program.graph.find(tensor.name));
    report_.programs.push_back({.name = program.name, .high_water = {}});
  }

  void follow(const RuntimeEvent& event) {
    ReplayedProgram& counts = report_.programs.back();
    if (event.kind == RuntimeEvent::Kind::fill) return fill_inputs(event);
    if (event.kind == RuntimeEvent::Kind::step) {
      ++counts.steps;
      if (event.step <= last_step_) begin_iteration();
      last_step_ = event.step;
      run_step(event);
      return;
    }
    ++counts.requests;
    if (event.kind == RuntimeEvent::Kind::release) return owners_.clear(event.offset, event.size);
    owners_.set(event.offset, event.size, kNoTensor);
  }

 private:
  // The caller writes the inputs that are read from here on, for its samples: one microbatch of what the repeat at hand
  // reads; as the program begins also what holds the whole batch, is not batched or not read at all.
  void fill_inputs(const RuntimeEvent& event) {
    if (event.step <= last_step_) begin_iteration();
    last_step_ = Step{index(event.step) - 1};
    for (std::size_t i = 0; i < program_.schedule.instances.size(); ++i) {
      const auto id = static_cast<InstanceId>(i);
      const Instance& instance = program_.schedule.instances[id];
      const Tensor& tensor = program_.graph.tensors[instance.tensor];
      if (tensor.producer != kNoOp || is_persistent(tensor)) continue;
      const bool is_first = event.step == Step{0}, is_part = tensor.type.batched && !instance.whole_batch;
      const auto [begin, end] = repeat_from(event.step);
      const Step read = first_read_[id];
      if (is_part ? (begin <= read && read < end) || (is_first && read == kNever) : is_first)
        write(instance, event.samples, [] { return std::string("the caller"); });
    }
  }

  // The steps of the repeat that begins there; all of them where none does.
  Lifetime repeat_from(Step step) const {
    for (const ScheduleNode& node : program_.schedule.order)
      if (node.kind == ScheduleNode::Kind::repeat && !node.body.empty() && node.body.front().step == step)
        return {step, Step{index(node.body.back().step) + 1}};
    return {Step{0}, kNever};
  }

  template <class Text>
  void write(const Instance& instance, HalfOpen samples, Text who) {
    const auto [begin, size] = range_of(instance, samples);
    if (const auto at = owners_.first_not_granted(begin, size))
      report(who() + " writes '" + program_.graph.tensors[instance.tensor].name + "' where byte " +
             std::to_string(at->value) + " is not granted");
    owners_.set(begin, size, instance.tensor);
  }

  static std::string step_text(const RuntimeEvent& event) {
    return "step " + std::to_string(index(event.step)) + " ('" + std::string(event.name) + "')";
  }

  void report(const std::string& what) {
    if (report_.problems.size() < kMostProblems) report_.problems.push_back("program '" + program_.name + "', " + what);
  }

  std::pair<Offset, Bytes> range_of(const Instance& instance, HalfOpen samples) const {
    const TensorType& type = program_.graph.tensors[instance.tensor].type;
    const Offset begin = program_.schedule.storages[instance.storage].offset;
    const Bytes skipped =
        instance.whole_batch && type.batched ? samples.begin * bytes_of(with_samples(type, 1)) : Bytes{};
    return {begin + skipped, bytes_of(with_samples(type, samples.size()))};
  }

  // A view is the bytes of what it looks at.
  TensorId viewed(TensorId id) const {
    for (std::size_t left = program_.graph.ops.size(); left > 0; --left) {
      const OpId producer = program_.graph.tensors[id].producer;
      if (producer == kNoOp) return id;
      const Op& op = program_.graph.ops[producer];
      if (!registry_.at(op.kind).view) return id;
      id = op.inputs.at(0);
    }
    return id;
  }

  void run_step(const RuntimeEvent& event) {
    const ScheduledStep& step = program_.schedule.steps[static_cast<std::size_t>(index(event.step))];
    const Op& op = program_.graph.ops[step.op];
    for (InstanceId id : step.inputs) read(event, id);
    if (registry_.at(op.kind).view) return;
    for (std::size_t k = 0; k < step.outputs.size(); ++k) {
      const InstanceId id = step.outputs[k];
      if (registry_.accumulates(op, k) && event.samples.begin > 0) read(event, id);
      const Instance& instance = program_.schedule.instances[id];
      write(instance, event.samples, [&] { return step_text(event); });
      if (program_.graph.tensors[instance.tensor].version_of != kNoTensor && event.samples.end < program_.graph.batch)
        made_.insert(instance.tensor);
    }
    if (step.workspace != kNoStorage) {
      const Storage& workspace = program_.schedule.storages[step.workspace];
      owners_.set(workspace.offset, workspace.size, kNoTensor);
    }
  }

  void read(const RuntimeEvent& event, InstanceId id) {
    const Instance& instance = program_.schedule.instances[id];
    const auto [begin, size] = range_of(instance, event.samples);
    const auto foreign = owners_.first_foreign(begin, size, viewed(instance.tensor));
    if (foreign)
      report(step_text(event) + ": byte " + std::to_string(foreign->value) + " is not '" +
             program_.graph.tensors[instance.tensor].name + "' any more, or not yet");
  }

  // A new version made inside a repeat is what the next iteration reads as the old one.
  void begin_iteration() {
    owners_.rename([this](TensorId owner) {
      for (auto left = made_.size(); left > 0 && made_.count(owner) != 0; --left)
        owner = program_.graph.tensors[owner].version_of;
      return owner;
    });
    made_.clear();
  }

  const Program& program_;
  const OpRegistry& registry_;
  ReplayReport& report_;
  ShadowOwners owners_;
  static constexpr Step kNever{INT32_MAX};
  IdVector<InstanceId, Step> first_read_;
  Step last_step_{-1};
  std::set<TensorId> made_;  // new versions of this iteration
};

std::string trace_line(std::string_view program, const RuntimeEvent& event) {
  std::ostringstream line;
  write_trace_event(line, program, event);
  return line.str();
}

// Every request of one run, as trace lines.
std::vector<std::string> requests_of(Runtime& runtime, const std::string& program) {
  std::vector<std::string> lines;
  runtime.set_event_listener([&](const RuntimeEvent& event) {
    if (std::string line = trace_line(program, event); !line.empty()) lines.push_back(std::move(line));
  });
  runtime.run(program, {}, nullptr, nullptr);
  runtime.set_event_listener(nullptr);
  return lines;
}

}  // namespace

ReplayReport replay(const Plan& plan, const OpRegistry& registry) {
  ReplayReport report;
  FakeMemory memory;
  Runtime runtime(plan, registry, memory, {.check = false});
  for (const Program& program : runtime.plan().programs) {
    ShadowRun shadow(runtime.plan(), program, registry, report);
    runtime.set_event_listener([&](const RuntimeEvent& event) { shadow.follow(event); });
    try {
      runtime.run(program.name, {}, nullptr, nullptr);
    } catch (const Error& error) {
      report.problems.push_back(error.what());
    }
    report.programs.back().high_water = runtime.last_high_water();
  }
  return report;
}

void write_trace_event(std::ostream& out, std::string_view program, const RuntimeEvent& event) {
  if (event.kind == RuntimeEvent::Kind::step || event.kind == RuntimeEvent::Kind::fill) return;
  out << program << ',' << (event.kind == RuntimeEvent::Kind::grant ? "grant" : "release") << ',' << event.name << ','
      << event.offset.value << ',' << event.size.value << '\n';
}

std::optional<std::string> compare_trace(const Plan& plan, const OpRegistry& registry, std::string_view trace,
                                         std::string_view name) {
  FakeMemory memory;
  Runtime runtime(plan, registry, memory, {.check = false});
  std::map<std::string, std::vector<std::string>> expected;
  std::istringstream in{std::string(trace)};
  std::string line;
  if (!std::getline(in, line) || line != kTraceHeader)
    throw BadInput(std::string(name) + ": line 1 is not '" + kTraceHeader + "'");
  std::int64_t number = 1;
  const std::vector<std::string>* run = nullptr;
  std::size_t next = 0;
  while (std::getline(in, line)) {
    ++number;
    if (run == nullptr || next == run->size()) {
      const std::string program = line.substr(0, line.find(','));
      auto& lines = expected[program];
      if (lines.empty()) lines = requests_of(runtime, plan.program(program).name);
      run = &lines;
      next = 0;
    }
    const std::string wanted = run->empty() ? "" : run->at(next++);
    if (line + "\n" != wanted)
      return std::string(name) + ": line " + std::to_string(number) + ": recorded '" + line + "', the plan asks for '" +
             wanted.substr(0, wanted.size() - 1) + "'";
  }
  if (run != nullptr && next != run->size())
    return std::string(name) + ": ends after line " + std::to_string(number) + ", the plan asks for '" +
           run->at(next).substr(0, run->at(next).size() - 1) + "'";
  return std::nullopt;
}

}  // namespace thimble
