// The independent checker. It knows what a plan has to satisfy, nothing of how one is made: it derives every
// lifetime, size and claim again from the graph and the order, and compares.
#include <algorithm>
#include <set>

#include "thimble/error.h"
#include "thimble/plan.h"

namespace thimble {
namespace {

constexpr std::size_t kMostFindings = 20;

class ProgramChecker {
 public:
  ProgramChecker(const Plan& plan, const Program& program, const OpRegistry& registry, std::vector<std::string>& findings)
      : plan_(plan), program_(program), graph_(program.graph), schedule_(program.schedule), registry_(registry), findings_(findings) {}

  void check() {
    const std::size_t before = findings_.size();
    check_order();
    check_graph();
    if (findings_.size() > before) return;  // what follows relies on ids that mean something
    check_steps();
    check_values();
    check_storages();
    check_overlaps();
    check_claims();
  }

 private:
  void report(const std::string& what) {
    if (findings_.size() < kMostFindings) findings_.push_back("program '" + program_.name + "': " + what);
  }

  std::int32_t step_count() const { return static_cast<std::int32_t>(schedule_.steps.size()); }

  // Every step stands in the order exactly once, ascending; repeats cut the batch into adjoining ranges.
  void check_order() {
    std::int32_t next = 0;
    walk(schedule_.order, {0, graph_.batch}, {-1, -1}, next);
    if (next != step_count()) report("the order has " + std::to_string(next) + " steps, the plan " + std::to_string(step_count()));
    std::vector<std::int64_t> cut;
    for (const ScheduleNode& node : schedule_.order)
      for (HalfOpen range : node.ranges) cut.push_back(range.size());
    if (cut.empty() && graph_.batch > 0) cut = {graph_.batch};
    if (cut != program_.microbatches) report("the order's ranges are not the microbatches the program states");
  }

  void walk(const std::vector<ScheduleNode>& nodes, HalfOpen samples, std::pair<std::int32_t, std::int32_t> loop,
            std::int32_t& next) {
    for (const ScheduleNode& node : nodes) {
      if (node.kind == ScheduleNode::Kind::step) {
        if (index(node.step) != next) report("step " + std::to_string(index(node.step)) + " stands where step " + std::to_string(next) + " belongs");
        ++next;
        loops_.push_back(loop);
      } else if (node.kind == ScheduleNode::Kind::repeat) {
        if (loop.first >= 0) {
          report("nested repeats are not known to this version");
          return;
        }
        check_ranges(node, samples);
        const std::int32_t begin = next;
        walk(node.body, samples, {begin, begin + count(node.body)}, next);
      }
    }
  }

  static std::int32_t count(const std::vector<ScheduleNode>& nodes) {
    std::int32_t n = 0;
    for (const ScheduleNode& node : nodes)
      n += node.kind == ScheduleNode::Kind::step ? 1 : count(node.body);
    return n;
  }

  void check_ranges(const ScheduleNode& node, HalfOpen samples) {
    std::int64_t at = samples.begin;
    for (HalfOpen range : node.ranges) {
      if (range.begin != at || range.end <= range.begin)
        report("repeat range [" + std::to_string(range.begin) + ", " + std::to_string(range.end) + ") does not begin at sample " + std::to_string(at));
      at = range.end;
      sizes_.insert(range.size());
    }
    if (at != samples.end) report("repeat ends at sample " + std::to_string(at) + " of " + std::to_string(samples.end));
  }

  // Outputs are what the registry infers: types in the file cannot lie about what a kernel will touch.
  void check_graph() {
    for (const Op& op : graph_.ops) {
      if (!registry_.contains(op.kind)) {
        report("op '" + op.name + "' is of unknown kind '" + op.kind + "'");
        continue;
      }
      std::vector<TensorType> inputs;
      for (TensorId id : op.inputs) inputs.push_back(graph_.tensors[id].type);
      try {
        compare_outputs(op, registry_.at(op.kind).infer(inputs, op.attributes));
      } catch (const std::exception& error) {
        report("op '" + op.name + "': " + error.what());
      }
    }
    for (const Tensor& tensor : graph_.tensors)
      if (tensor.type.batched && tensor.type.shape[0] != graph_.batch)
        report("tensor '" + tensor.name + "' holds " + std::to_string(tensor.type.shape[0]) + " samples, the batch has " + std::to_string(graph_.batch));
  }

  void compare_outputs(const Op& op, const std::vector<OutputSpec>& specs) {
    if (specs.size() != op.outputs.size()) {
      report("op '" + op.name + "' has " + std::to_string(op.outputs.size()) + " outputs, its kind makes " + std::to_string(specs.size()));
      return;
    }
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const Tensor& tensor = graph_.tensors[op.outputs[i]];
      const int from = specs[i].version_of_input;
      const TensorId old = from < 0 ? kNoTensor : op.inputs.at(static_cast<std::size_t>(from));
      if (tensor.type != specs[i].type) report("tensor '" + tensor.name + "' has another type than op '" + op.name + "' makes");
      if (tensor.version_of != old) report("tensor '" + tensor.name + "' is a version of another value than op '" + op.name + "' makes");
    }
  }

  void check_steps() {
    IdVector<OpId, int> runs(graph_.ops.size(), 0);
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i) {
      const ScheduledStep& step = schedule_.steps[i];
      const Op& op = graph_.ops[step.op];
      if (!same_tensors(op.inputs, step.inputs) || !same_tensors(op.outputs, step.outputs))
        report("step " + std::to_string(i) + " does not take the tensors of op '" + op.name + "'");
      if (!step.is_recomputation) ++runs[step.op];
      if (step.is_recomputation && registry_.at(op.kind).once) report("op '" + op.name + "' changes state and is recomputed");
    }
    for (std::size_t i = 0; i < graph_.ops.size(); ++i)
      if (const OpId op{static_cast<std::int32_t>(i)}; runs[op] != 1)
        report("op '" + graph_.ops[op].name + "' runs " + std::to_string(runs[op]) + " times (recomputations apart), not once");
  }

  bool same_tensors(const std::vector<TensorId>& tensors, const std::vector<InstanceId>& instances) const {
    return std::equal(tensors.begin(), tensors.end(), instances.begin(), instances.end(),
                      [&](TensorId t, InstanceId i) { return schedule_.instances[i].tensor == t; });
  }

  // Walks the steps with one owner per storage. Reading anything else than what was written last is an error: used
  // before it was made, overwritten in place too early, an old weight read after its update.
  void check_values() {
    IdVector<StorageId, std::vector<InstanceId>> owners(schedule_.storages.size());
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i) {
      const InstanceId id{static_cast<std::int32_t>(i)};
      if (graph_.tensors[schedule_.instances[id].tensor].producer == kNoOp) owners[schedule_.instances[id].storage].push_back(id);
    }
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i) {
      const ScheduledStep& step = schedule_.steps[i];
      const Op& op = graph_.ops[step.op];
      for (InstanceId input : step.inputs) {
        const auto& owner = owners[schedule_.instances[input].storage];
        if (std::find(owner.begin(), owner.end(), input) == owner.end())
          report("step " + std::to_string(i) + " ('" + op.name + "') reads '" + tensor_of(input).name + "', whose storage holds " +
                 (owner.empty() ? "nothing yet" : "'" + tensor_of(owner.front()).name + "'"));
      }
      const bool view = registry_.at(op.kind).view;
      for (InstanceId output : step.outputs) {
        auto& owner = owners[schedule_.instances[output].storage];
        if (!view) owner.clear();
        owner.push_back(output);
      }
    }
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i) {
      const InstanceId id{static_cast<std::int32_t>(i)};
      const auto& owner = owners[schedule_.instances[id].storage];
      if (tensor_of(id).is_output && std::find(owner.begin(), owner.end(), id) == owner.end())
        report("output '" + tensor_of(id).name + "' is overwritten before it can be read");
    }
  }

  const Tensor& tensor_of(InstanceId id) const { return graph_.tensors[schedule_.instances[id].tensor]; }

  // Sizes suffice, lifetimes cover every use, persistent tensors lie where the plan says.
  void check_storages() {
    need_.assign(schedule_.storages.size(), {});
    live_.assign(schedule_.storages.size(), {INT32_MAX, 0});
    if (sizes_.empty()) sizes_.insert(graph_.batch);
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i) use_step(static_cast<std::int32_t>(i));
    for (const Instance& instance : schedule_.instances) need_instance(instance);
    for (std::size_t i = 0; i < schedule_.storages.size(); ++i) {
      const Storage& storage = schedule_.storages[static_cast<StorageId>(i)];
      if (storage.size < need_[i])
        report("storage '" + storage.name + "' has " + to_string(storage.size) + ", needs " + to_string(need_[i]) + " on this machine; plan again here");
      if (storage.size.value % kAlignment.value != 0 || storage.offset.value % kAlignment.value != 0)
        report("storage '" + storage.name + "' is not aligned to " + std::to_string(kAlignment.value) + " bytes");
      if (storage.offset + storage.size > Offset{plan_.arena.value})
        report("storage '" + storage.name + "' ends at byte " + std::to_string((storage.offset + storage.size).value) + ", the arena has " + std::to_string(plan_.arena.value));
      if (index(storage.lifetime.end) > step_count() || storage.lifetime.end < storage.lifetime.begin)
        report("storage '" + storage.name + "' has an impossible lifetime");
      if (live_[i].first < live_[i].second &&
          (index(storage.lifetime.begin) > live_[i].first || index(storage.lifetime.end) < live_[i].second))
        report("storage '" + storage.name + "' lives in [" + std::to_string(index(storage.lifetime.begin)) + ", " + std::to_string(index(storage.lifetime.end)) +
               "), is used in [" + std::to_string(live_[i].first) + ", " + std::to_string(live_[i].second) + ")");
    }
  }

  void use(StorageId id, std::int32_t begin, std::int32_t end) {
    auto& live = live_[static_cast<std::size_t>(id)];
    live = {std::min(live.first, begin), std::max(live.second, end)};
  }

  // A use inside a repeat of something that crosses an iteration's border lasts for the whole repeat.
  void use_step(std::int32_t i) {
    const ScheduledStep& step = schedule_.steps[static_cast<std::size_t>(i)];
    const auto loop = loops_[static_cast<std::size_t>(i)];
    const bool accumulates = registry_.at(graph_.ops[step.op].kind).accumulates;
    for (InstanceId input : step.inputs) {
      const Tensor& tensor = tensor_of(input);
      const bool from_outside = loop.first >= 0 && (tensor.producer == kNoOp || schedule_.instances[input].whole_batch);
      const StorageId storage = schedule_.instances[input].storage;
      from_outside ? use(storage, tensor.producer == kNoOp ? 0 : i, loop.second) : use(storage, tensor.producer == kNoOp ? 0 : i, i + 1);
    }
    for (InstanceId output : step.outputs) {
      const bool lasts = loop.first >= 0 && (accumulates || tensor_of(output).is_output || read_after(output, loop.second));
      const StorageId storage = schedule_.instances[output].storage;
      lasts ? use(storage, loop.first, loop.second) : use(storage, i, i + 1);
      if (tensor_of(output).is_output) use(storage, i, step_count());
    }
    if (step.workspace == kNoStorage) return;
    use(step.workspace, i, i + 1);
  }

  bool read_after(InstanceId id, std::int32_t step) const {
    for (std::int32_t i = step; i < step_count(); ++i) {
      const auto& inputs = schedule_.steps[static_cast<std::size_t>(i)].inputs;
      if (std::find(inputs.begin(), inputs.end(), id) != inputs.end()) return true;
    }
    return false;
  }

  void need_instance(const Instance& instance) {
    const TensorType& type = graph_.tensors[instance.tensor].type;
    const std::int64_t samples = instance.whole_batch ? graph_.batch : *sizes_.rbegin();
    Bytes& need = need_[static_cast<std::size_t>(instance.storage)];
    need = std::max(need, bytes_of(with_samples(type, samples)));
  }

  // Workspaces as this machine's engines want them, then every pair of storages that live together, by a sweep over
  // offsets at each step at which something begins.
  void check_overlaps() {
    for (const ScheduledStep& step : schedule_.steps) {
      const Op& op = graph_.ops[step.op];
      Bytes need;
      for (std::int64_t samples : sizes_)
        need = std::max(need, registry_.workspace(op.kind, shape_of(graph_, step.op, op.phase == Phase::update ? graph_.batch : samples, plan_.device)));
      const Bytes has = step.workspace == kNoStorage ? Bytes{} : schedule_.storages[step.workspace].size;
      if (need > has) report("op '" + op.name + "' has a workspace of " + to_string(has) + ", needs " + to_string(need) + " on this machine; plan again here");
    }
    std::set<std::int32_t> begins;
    for (const Storage& storage : schedule_.storages) begins.insert(index(storage.lifetime.begin));
    for (std::int32_t step : begins) check_step_overlaps(Step{step});
  }

  void check_step_overlaps(Step step) {
    std::vector<std::pair<std::pair<Offset, Offset>, const std::string*>> spans;
    for (const Storage& storage : schedule_.storages)
      if (!storage.persistent && storage.size > Bytes{} && storage.lifetime.begin <= step && step < storage.lifetime.end)
        spans.push_back({{storage.offset, storage.offset + storage.size}, &storage.name});
    for (const PersistentTensor& tensor : plan_.persistent)
      spans.push_back({{tensor.offset, tensor.offset + bytes_of(tensor.type)}, &tensor.name});
    std::sort(spans.begin(), spans.end());
    for (std::size_t i = 1; i < spans.size(); ++i)
      if (spans[i].first.first < spans[i - 1].first.second)
        report("at step " + std::to_string(index(step)) + " '" + *spans[i - 1].second + "' and '" + *spans[i].second + "' share bytes");
  }

  void check_claims() {
    Bytes highest;
    for (const PersistentTensor& tensor : plan_.persistent)
      highest = std::max(highest, align_up(tensor.offset + bytes_of(tensor.type), kAlignment) - Offset{});
    Bytes base = highest, most = base;
    std::vector<Bytes> live(schedule_.steps.size());
    for (const Storage& storage : schedule_.storages) {
      if (storage.persistent) {
        check_persistent(storage);
        continue;
      }
      if (storage.lifetime.begin < storage.lifetime.end) highest = std::max(highest, storage.offset + storage.size - Offset{});
      for (std::int32_t i = index(storage.lifetime.begin); i < index(storage.lifetime.end); ++i) live[static_cast<std::size_t>(i)] += storage.size;
    }
    for (Bytes bytes : live) most = std::max(most, base + bytes);
    if (program_.planned != highest) report("states " + to_string(program_.planned) + ", its highest byte is at " + to_string(highest));
    if (program_.lower_bound != most) report("states a lower bound of " + to_string(program_.lower_bound) + ", it is " + to_string(most));
  }

  void check_persistent(const Storage& storage) {
    for (const PersistentTensor& tensor : plan_.persistent)
      if (tensor.name == storage.name) {
        if (tensor.offset != storage.offset || bytes_of(tensor.type) > storage.size)
          report("persistent tensor '" + tensor.name + "' lies elsewhere than the plan says");
        return;
      }
    report("persistent storage '" + storage.name + "' is not in the plan's list");
  }

  const Plan& plan_;
  const Program& program_;
  const Graph& graph_;
  const Schedule& schedule_;
  const OpRegistry& registry_;
  std::vector<std::string>& findings_;
  std::vector<std::pair<std::int32_t, std::int32_t>> loops_;  // of each step; {-1, -1} outside
  std::set<std::int64_t> sizes_;                              // samples of a microbatch
  std::vector<Bytes> need_;
  std::vector<std::pair<std::int32_t, std::int32_t>> live_;
};

void check_header(const Plan& plan, const OpRegistry& registry, std::vector<std::string>& findings) {
  Bytes largest;
  std::set<std::string> names;
  for (const Program& program : plan.programs) {
    largest = std::max(largest, program.planned);
    if (!names.insert(program.name).second) findings.push_back("plan: two programs are named '" + program.name + "'");
  }
  if (plan.programs.empty()) findings.push_back("plan: has no program");
  if (plan.arena != largest) findings.push_back("plan: states an arena of " + to_string(plan.arena) + ", its programs need " + to_string(largest));
  for (const auto& [name, version] : plan.engines) {
    const auto found = registry.engines().find(name);
    const std::string here = found == registry.engines().end() ? "absent" : found->second;
    if (here != version) findings.push_back("plan: made for " + name + " '" + version + "', here it is '" + here + "'; plan again here");
  }
  if (plan.arithmetic_hash != arithmetic_hash(plan)) findings.push_back("plan: its arithmetic hash is " + plan.arithmetic_hash + ", the section gives " + arithmetic_hash(plan));
}

}  // namespace

std::vector<std::string> check_plan(const Plan& plan, const OpRegistry& registry) {
  std::vector<std::string> findings;
  check_header(plan, registry, findings);
  for (const Program& program : plan.programs) ProgramChecker(plan, program, registry, findings).check();
  return findings;
}

}  // namespace thimble
