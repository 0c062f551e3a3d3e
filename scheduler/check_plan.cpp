// The independent checker. It knows what a plan has to satisfy, nothing of how one is made: it derives every
// lifetime, size and claim again from the graph and the order, and compares.
#include <algorithm>
#include <map>
#include <set>

#include "thimble/error.h"
#include "thimble/placement.h"
#include "thimble/plan.h"

namespace thimble {
namespace {

constexpr std::size_t kMostFindings = 20;
constexpr std::size_t kMostPrograms = 64;
constexpr std::int64_t kMostBytes = std::int64_t{1} << 46;  // of anything: sums of a few stay far from overflow

bool has_sane_shape(const TensorType& type) {
  std::int64_t elements = 1;
  for (std::int64_t extent : type.shape) {
    if (extent < 1 || extent > kMostBytes / 8 / elements) return false;
    elements *= extent;
  }
  return !type.batched || !type.shape.empty();
}

bool has_sane_size(Bytes size) { return size >= Bytes{} && size <= Bytes{kMostBytes}; }
bool has_sane_offset(Offset offset) { return has_sane_size(offset - Offset{}); }

class ProgramChecker {
 public:
  ProgramChecker(const Plan& plan, const Program& program, const OpRegistry& registry, std::vector<std::string>& findings)
      : plan_(plan), program_(program), graph_(program.graph), schedule_(program.schedule), registry_(registry), findings_(findings) {}

  void check() try {
    if (schedule_.steps.empty() && !graph_.ops.empty()) return report("has no step");
    check_ids();
    if (failed_) return;  // what follows relies on ids and sizes that mean something
    if (!schedule_.steps.empty()) check_run();  // a program that only holds what persists has none
    if (failed_) return;
    check_persistent();
    if (!failed_) check_claims();
  } catch (const std::exception& error) {  // of a registered function
    report(error.what());
  }

 private:
  void report(const std::string& what) {
    failed_ = true;
    if (findings_.size() < kMostFindings) findings_.push_back("program '" + program_.name + "': " + what);
  }

  void check_run() {
    check_order();
    check_graph();
    if (failed_) return;
    check_steps();
    check_borders();
    check_values();
    check_storages();
    check_workspaces();
    check_overlaps();
  }

  void check_ids() {
    const auto refuse = [&](bool is_good, const std::string& what) { if (!is_good) report(what); };
    refuse(graph_.batch >= 0 && graph_.batch <= 1 << 30, "has a batch of " + std::to_string(graph_.batch));
    for (const Tensor& tensor : graph_.tensors)
      refuse(has_sane_shape(tensor.type) && (tensor.version_of == kNoTensor || graph_.tensors.contains(tensor.version_of)),
             "tensor '" + tensor.name + "' has an impossible shape or version");
    const auto all_there = [](const auto& ids, const auto& table) {
      return std::all_of(ids.begin(), ids.end(), [&](auto id) { return table.contains(id); });
    };
    for (const Op& op : graph_.ops)
      refuse(all_there(op.inputs, graph_.tensors) && all_there(op.outputs, graph_.tensors), "op '" + op.name + "' names a tensor that is not there");
    for (const Instance& instance : schedule_.instances)
      refuse(graph_.tensors.contains(instance.tensor) && schedule_.storages.contains(instance.storage), "an instance names a tensor or storage that is not there");
    for (const Storage& storage : schedule_.storages) {
      refuse(has_sane_size(storage.size) && has_sane_offset(storage.offset), "storage '" + storage.name + "' has an impossible size or offset");
      refuse(storage.lifetime.begin >= Step{0} && storage.lifetime.begin <= storage.lifetime.end && index(storage.lifetime.end) <= step_count(),
             "storage '" + storage.name + "' has an impossible lifetime");
    }
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i) {
      const ScheduledStep& step = schedule_.steps[i];
      refuse(graph_.ops.contains(step.op) && all_there(step.inputs, schedule_.instances) && all_there(step.outputs, schedule_.instances) &&
                 (step.workspace == kNoStorage || schedule_.storages.contains(step.workspace)),
             "step " + std::to_string(i) + " names an op, instance or storage that is not there");
    }
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
        const bool is_known = index(node.step) >= 0 && index(node.step) < step_count();
        if (is_known && !has_barrier_) before_barrier_.push_back(index(node.step));
      } else if (node.kind == ScheduleNode::Kind::repeat) {
        if (loop.first >= 0) {
          report("nested repeats are not known to this version");
          return;
        }
        if (has_repeat_) report("a second repeat is not known to this version");
        has_repeat_ = true;
        if (count(node.body) == 0 || node.ranges.empty()) report("has a repeat without steps or ranges");
        check_ranges(node, samples);
        const std::int32_t begin = next;
        walk(node.body, samples, {begin, begin + count(node.body)}, next);
      } else {
        if (loop.first >= 0) report("a barrier inside a repeat is not known to this version");
        has_barrier_ = true;
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
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const Tensor& tensor = graph_.tensors[static_cast<TensorId>(i)];
      if (!names.insert(tensor.name).second) report("two tensors are named '" + tensor.name + "'");
      if (tensor.producer == kNoOp && tensor.version_of != kNoTensor) report("tensor '" + tensor.name + "' is given, but a version of another");
      if (tensor.producer != kNoOp && (!graph_.ops.contains(tensor.producer) || !makes(graph_.ops[tensor.producer], static_cast<TensorId>(i))))
        report("tensor '" + tensor.name + "' is not made by the op it names");
    }
    for (std::size_t i = 0; i < graph_.ops.size(); ++i) {
      const Op& op = graph_.ops[static_cast<OpId>(i)];
      for (TensorId output : op.outputs)
        if (graph_.tensors[output].producer != static_cast<OpId>(i)) report("tensor '" + graph_.tensors[output].name + "' is not made by op '" + op.name + "'");
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
    if (failed_) return;
    for (const Tensor& tensor : graph_.tensors)
      if (tensor.type.batched && tensor.type.shape[0] != graph_.batch)
        report("tensor '" + tensor.name + "' holds " + std::to_string(tensor.type.shape[0]) + " samples, the batch has " + std::to_string(graph_.batch));
  }

  static bool makes(const Op& op, TensorId id) { return std::find(op.outputs.begin(), op.outputs.end(), id) != op.outputs.end(); }

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
      const bool makes_version = std::any_of(op.outputs.begin(), op.outputs.end(), [&](TensorId t) { return graph_.tensors[t].version_of != kNoTensor; });
      if (op.phase == Phase::update && in_loop(i)) report("update '" + op.name + "' stands inside a repeat");
      if (step.is_recomputation && (registry_.at(op.kind).once || makes_version)) report("op '" + op.name + "' changes state and is recomputed");
    }
    for (std::size_t i = 0; i < graph_.ops.size(); ++i)
      if (const OpId op{static_cast<std::int32_t>(i)}; runs[op] != 1)
        report("op '" + graph_.ops[op].name + "' runs " + std::to_string(runs[op]) + " times (recomputations apart), not once");
    if (!has_barrier_) return;
    for (std::int32_t step : before_barrier_)
      if (const Op& op = graph_.ops[schedule_.steps[static_cast<std::size_t>(step)].op]; op.phase == Phase::update)
        report("update '" + op.name + "' stands before the barrier");
  }

  bool same_tensors(const std::vector<TensorId>& tensors, const std::vector<InstanceId>& instances) const {
    return std::equal(tensors.begin(), tensors.end(), instances.begin(), instances.end(),
                      [&](TensorId t, InstanceId i) { return schedule_.instances[i].tensor == t; });
  }

  bool in_loop(std::size_t step) const { return loops_[step].first >= 0; }
  bool is_given(InstanceId id) const { return tensor_of(id).producer == kNoOp; }
  StorageId storage_of(InstanceId id) const { return schedule_.instances[id].storage; }
  bool is_whole(InstanceId id) const { return schedule_.instances[id].whole_batch; }
  bool is_batched(InstanceId id) const { return tensor_of(id).type.batched; }

  // What passes between the iterations of a repeat and the steps outside: whole batches, sums and new versions only.
  void check_borders() {
    made_at_.assign(schedule_.instances.size(), -1);
    last_read_.assign(schedule_.instances.size(), -1);
    std::map<TensorId, int> given;
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i)
      if (const InstanceId id{static_cast<std::int32_t>(i)}; is_given(id) && ++given[schedule_.instances[id].tensor] > 1)
        report("'" + tensor_of(id).name + "' is given in two places");
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i) {
      for (InstanceId input : schedule_.steps[i].inputs) last_read_[at(input)] = static_cast<std::int32_t>(i);
      for (InstanceId output : schedule_.steps[i].outputs) {
        if (made_at_[at(output)] >= 0) report("one instance of '" + tensor_of(output).name + "' is made twice, at step " + std::to_string(made_at_[at(output)]) + " and " + std::to_string(i));
        made_at_[at(output)] = static_cast<std::int32_t>(i);
      }
    }
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i)
      for (InstanceId input : schedule_.steps[i].inputs) check_crossing(i, input);
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i) {
      const InstanceId id{static_cast<std::int32_t>(i)};
      const bool lasts = has_repeat_ && (tensor_of(id).is_output || is_given(id));
      if (lasts && is_batched(id) && !is_whole(id)) report("'" + tensor_of(id).name + "' is given or read outside, but holds one microbatch only");
      if (lasts && !is_given(id) && is_partial(id)) report("output '" + tensor_of(id).name + "' holds the last microbatch's value, not the sum");
    }
  }

  static std::size_t at(InstanceId id) { return static_cast<std::size_t>(id); }

  bool is_sum(InstanceId id) const { return !is_given(id) && registry_.at(graph_.ops[tensor_of(id).producer].kind).accumulates; }

  // Made inside the repeat, and of the last iteration only once that has ended.
  bool is_partial(InstanceId id) const {
    const std::int32_t made = made_at_[at(id)];
    return made >= 0 && in_loop(static_cast<std::size_t>(made)) && !is_whole(id) && !is_sum(id) && tensor_of(id).version_of == kNoTensor;
  }

  void check_crossing(std::size_t step, InstanceId input) {
    const std::int32_t made = made_at_[at(input)];
    const std::string reads = "step " + std::to_string(step) + " reads '" + tensor_of(input).name + "'";
    const bool made_inside = made >= 0 && in_loop(static_cast<std::size_t>(made));
    if (!in_loop(step) && is_partial(input)) report(reads + " outside the repeat, where it is the last microbatch's");
    if (in_loop(step) && made_inside && is_sum(input)) report(reads + " inside the repeat, where the sum is not complete");
    if (in_loop(step) && made >= 0 && !made_inside && is_batched(input) && !is_whole(input)) report(reads + ", which does not hold the whole batch");
  }

  // Walks the steps, the repeat's twice, with one owner per storage. Reading anything else than what was written last
  // is an error: used before it was made, overwritten in place too early, an old weight read after its update.
  void check_values() {
    written_.assign(schedule_.storages.size(), 0);
    seen_.assign(schedule_.instances.size(), -1);
    holder_.assign(schedule_.storages.size(), InstanceId{-1});
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i)
      if (const InstanceId id{static_cast<std::int32_t>(i)}; is_given(id)) {
        if (holder_of(id) != InstanceId{-1}) report("'" + tensor_of(id).name + "' and '" + tensor_of(holder_of(id)).name + "' are given in the same storage");
        write(id);
        if (const Storage& storage = schedule_.storages[storage_of(id)]; storage.name != tensor_of(id).name)
          report("'" + tensor_of(id).name + "' is given in a storage named '" + storage.name + "'");
      }
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i) {
      pass_step(i, false);
      if (!in_loop(i) || static_cast<std::int32_t>(i) + 1 != loops_[i].second) continue;
      begin_second_iteration(loops_[i].first);
      for (auto again = static_cast<std::size_t>(loops_[i].first); again <= i; ++again) pass_step(again, true);
    }
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i)
      if (const InstanceId id{static_cast<std::int32_t>(i)}; tensor_of(id).is_output && !is_there(id))
        report("output '" + tensor_of(id).name + "' is overwritten before it can be read");
  }

  InstanceId& holder_of(InstanceId id) { return holder_[static_cast<std::size_t>(storage_of(id))]; }
  std::int64_t& written(StorageId id) { return written_[static_cast<std::size_t>(id)]; }
  bool is_there(InstanceId id) { return seen_[at(id)] == written(storage_of(id)); }
  void write(InstanceId id) {
    seen_[at(id)] = ++written(storage_of(id));
    holder_of(id) = id;
  }

  void pass_step(std::size_t i, bool again) {
    const ScheduledStep& step = schedule_.steps[i];
    const OpDefinition& definition = registry_.at(graph_.ops[step.op].kind);
    for (InstanceId input : step.inputs) check_there(i, input, "reads");
    for (std::size_t k = 0; k < step.outputs.size(); ++k) {
      const InstanceId output = step.outputs[k];
      check_sharing(i, definition, k);
      if (again && !definition.view && (definition.accumulates || is_whole(output))) check_there(i, output, "adds to");
    }
    if (step.workspace != kNoStorage) ++written(step.workspace);
    for (std::size_t k = 0; k < step.outputs.size(); ++k) {
      const InstanceId output = step.outputs[k];
      if (definition.view && k == 0)
        seen_[at(output)] = written(storage_of(output));
      else
        write(output);
    }
  }

  void check_there(std::size_t step, InstanceId id, const char* does) {
    if (is_there(id)) return;
    const InstanceId holder = holder_of(id);
    report("step " + std::to_string(step) + " ('" + graph_.ops[schedule_.steps[step].op].name + "') " + does + " '" + tensor_of(id).name +
           "', whose storage holds " + (holder == InstanceId{-1} ? "nothing yet" : "'" + tensor_of(holder).name + "' or what was written over it"));
  }

  // An output shares bytes with the inputs of its own step only where the op says that it may, or must.
  void check_sharing(std::size_t i, const OpDefinition& definition, std::size_t k) {
    const ScheduledStep& step = schedule_.steps[i];
    const InstanceId output = step.outputs[k];
    const TensorId old = tensor_of(output).version_of;
    const std::string makes = "step " + std::to_string(i) + " ('" + graph_.ops[step.op].name + "') makes '" + tensor_of(output).name + "' ";
    std::vector<std::size_t> shared;
    for (std::size_t j = 0; j < step.inputs.size(); ++j)
      if (storage_of(step.inputs[j]) == storage_of(output)) shared.push_back(j);
    for (std::size_t j = 0; j < k; ++j)
      if (storage_of(step.outputs[j]) == storage_of(output)) report(makes + "in the storage of another output");
    if (step.workspace == storage_of(output)) report(makes + "in its workspace");
    for (InstanceId input : step.inputs)
      if (k == 0 && step.workspace == storage_of(input)) report("step " + std::to_string(i) + " reads '" + tensor_of(input).name + "' from its workspace");
    if (definition.view && k == 0) {
      if (step.inputs.empty() || storage_of(step.inputs[0]) != storage_of(output)) return report(makes + "a view, in another storage than what it looks at");
      if (in_loop(i) && is_whole(step.inputs[0]) != is_whole(output)) report(makes + "a view of other samples than what it looks at");
      return;
    }
    if (old != kNoTensor) {
      if (shared.size() != 1 || schedule_.instances[step.inputs[shared[0]]].tensor != old || (in_loop(i) && is_whole(step.inputs[shared[0]]) != is_whole(output)))
        report(makes + "a new version, elsewhere than the old one");
      return;
    }
    if (shared.empty()) return;
    const bool allowed = std::any_of(definition.in_place.begin(), definition.in_place.end(), [&](InPlacePair pair) {
      return pair.output >= 0 && static_cast<std::size_t>(pair.output) == k && pair.input >= 0 && static_cast<std::size_t>(pair.input) == shared[0];
    });
    if (!allowed || shared.size() > 1 || (in_loop(i) && is_whole(step.inputs[shared[0]]) != is_whole(output))) report(makes + "over its input '" + tensor_of(step.inputs[shared[0]]).name + "', which its kind does not allow");
  }

  // What an iteration leaves as a new version is what the next one reads as the old.
  void begin_second_iteration(std::int32_t loop_begin) {
    std::set<TensorId> older;
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i) {
      const InstanceId id{static_cast<std::int32_t>(i)};
      if (!is_there(id) || made_at_[i] < loop_begin) continue;
      for (TensorId t = tensor_of(id).version_of; t != kNoTensor && older.insert(t).second;) t = graph_.tensors[t].version_of;
    }
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i) {
      const InstanceId id{static_cast<std::int32_t>(i)};
      if (older.count(schedule_.instances[id].tensor) != 0 && made_at_[i] < loop_begin) seen_[i] = written(storage_of(id));
    }
  }

  const Tensor& tensor_of(InstanceId id) const { return graph_.tensors[schedule_.instances[id].tensor]; }

  // Sizes suffice, lifetimes cover every use.
  void check_storages() {
    need_.assign(schedule_.storages.size(), {});
    live_.assign(schedule_.storages.size(), {INT32_MAX, 0});
    given_.assign(schedule_.storages.size(), false);
    if (sizes_.empty()) sizes_.insert(graph_.batch);
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i) use_step(static_cast<std::int32_t>(i));
    for (std::size_t i = 0; i < schedule_.instances.size(); ++i) use_from_outside(InstanceId{static_cast<std::int32_t>(i)});
    for (std::size_t i = 0; i < schedule_.storages.size(); ++i) check_storage(i);
  }

  void check_storage(std::size_t i) {
    const Storage& storage = schedule_.storages[static_cast<StorageId>(i)];
    const std::int32_t begin = index(storage.lifetime.begin), end = index(storage.lifetime.end);
    const std::string lives = "storage '" + storage.name + "' lives in [" + std::to_string(begin) + ", " + std::to_string(end) + ")";
    if (storage.size < need_[i])
      report("storage '" + storage.name + "' has " + to_string(storage.size) + ", needs " + to_string(need_[i]) + " on this machine; plan again here");
    if (storage.size.value % kAlignment.value != 0) report("storage '" + storage.name + "' has a size that is not a multiple of " + std::to_string(kAlignment.value) + " bytes");
    if (live_[i].first < live_[i].second && (begin > live_[i].first || end < live_[i].second))
      report(lives + ", is used in [" + std::to_string(live_[i].first) + ", " + std::to_string(live_[i].second) + ")");
    if (storage.persistent) return;
    if (begin == end) report(lives + ", which is never");
    for (std::size_t step : {static_cast<std::size_t>(begin), static_cast<std::size_t>(end)}) {
      if (step >= loops_.size() || step == 0 || loops_[step].first < 0) continue;
      const auto [first, last] = loops_[step];
      const bool is_inside = begin >= first && end <= last && !given_[i];
      if (!is_inside && (begin > first || end < last) && end > first) report(lives + ", which crosses the border of the repeat [" + std::to_string(first) + ", " + std::to_string(last) + ")");
    }
  }

  void use(StorageId id, std::int32_t begin, std::int32_t end) {
    auto& live = live_[static_cast<std::size_t>(id)];
    live = {std::min(live.first, begin), std::max(live.second, end)};
  }

  void need(InstanceId id, std::int64_t samples) {
    Bytes& most = need_[static_cast<std::size_t>(storage_of(id))];
    most = std::max(most, bytes_of(with_samples(tensor_of(id).type, is_whole(id) ? graph_.batch : samples)));
  }

  std::int64_t most_samples(std::int32_t step) const { return in_loop(static_cast<std::size_t>(step)) ? *sizes_.rbegin() : graph_.batch; }

  // A use inside a repeat of something that crosses an iteration's border lasts for the whole repeat.
  void use_step(std::int32_t i) {
    const ScheduledStep& step = schedule_.steps[static_cast<std::size_t>(i)];
    const auto loop = loops_[static_cast<std::size_t>(i)];
    const bool accumulates = registry_.at(graph_.ops[step.op].kind).accumulates;
    for (InstanceId input : step.inputs) {
      const bool from_outside = loop.first >= 0 && (made_at_[at(input)] < loop.first || is_whole(input));
      use(storage_of(input), is_given(input) ? 0 : i, from_outside ? loop.second : i + 1);
      need(input, most_samples(i));
    }
    for (InstanceId output : step.outputs) {
      const bool lasts = loop.first >= 0 && (accumulates || is_whole(output) || tensor_of(output).is_output || last_read_[at(output)] >= loop.second);
      lasts ? use(storage_of(output), loop.first, loop.second) : use(storage_of(output), i, i + 1);
      need(output, most_samples(i));
    }
    if (step.workspace != kNoStorage) use(step.workspace, i, i + 1);
  }

  // Inputs are filled before the first step, outputs read after the last, both as whole batches.
  void use_from_outside(InstanceId id) {
    if (is_given(id)) use(storage_of(id), 0, 1);
    if (is_given(id)) given_[static_cast<std::size_t>(storage_of(id))] = true;
    if (tensor_of(id).is_output) use(storage_of(id), step_count() - 1, step_count());
    if (is_given(id) || tensor_of(id).is_output) need(id, graph_.batch);
  }

  // Persistent tensors lie where the plan says, and nothing else lies in their storage.
  void check_persistent() {
    std::map<std::string_view, const PersistentTensor*> known;
    for (const PersistentTensor& tensor : plan_.persistent) known[tensor.name] = &tensor;
    for (const Storage& storage : schedule_.storages) {
      if (!storage.persistent) continue;
      const auto found = known.find(storage.name);
      if (found == known.end())
        report("persistent storage '" + storage.name + "' is not in the plan's list");
      else if (found->second->offset != storage.offset || align_up(bytes_of(found->second->type), kAlignment) != storage.size)
        report("persistent tensor '" + storage.name + "' lies elsewhere than the plan says");
    }
    for (const Instance& instance : schedule_.instances) {
      const Tensor& tensor = graph_.tensors[instance.tensor];
      const Storage& storage = schedule_.storages[instance.storage];
      if (tensor.producer == kNoOp) {
        const auto found = known.find(tensor.name);
        if (is_persistent(tensor) != storage.persistent) report("'" + tensor.name + "' and its storage disagree on whether they are persistent");
        if (storage.persistent && found != known.end() && (found->second->type != tensor.type || found->second->role != tensor.role))
          report("persistent tensor '" + tensor.name + "' has another type or role than the plan says");
      } else if (storage.persistent && tensor.version_of == kNoTensor && !registry_.at(graph_.ops[tensor.producer].kind).view) {
        report("'" + tensor.name + "' is made in the storage of the persistent '" + storage.name + "'");
      }
    }
  }

  // As this machine's engines want them.
  void check_workspaces() {
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i) {
      const ScheduledStep& step = schedule_.steps[i];
      const Op& op = graph_.ops[step.op];
      Bytes most;
      for (std::int64_t samples : in_loop(i) ? sizes_ : std::set<std::int64_t>{graph_.batch})
        most = std::max(most, registry_.workspace(op.kind, shape_of(graph_, step.op, samples, plan_.device)));
      const Bytes has = step.workspace == kNoStorage ? Bytes{} : schedule_.storages[step.workspace].size;
      if (most > has) report("op '" + op.name + "' has a workspace of " + to_string(has) + ", needs " + to_string(most) + " on this machine; plan again here");
    }
  }

  // No two storages that live together share a byte, and all lie inside the arena.
  void check_overlaps() {
    PlacementProblem problem{.buffers = {}, .alignment = kAlignment};
    std::vector<Offset> offsets;
    for (const PersistentTensor& tensor : plan_.persistent) {
      problem.buffers.push_back({tensor.name, {Step{0}, Step{step_count()}}, align_up(bytes_of(tensor.type), kAlignment)});
      offsets.push_back(tensor.offset);
    }
    for (const Storage& storage : schedule_.storages) {
      if (storage.persistent) continue;
      problem.buffers.push_back({storage.name, storage.lifetime, storage.size});
      offsets.push_back(storage.offset);
    }
    for (const std::string& message : check_placement(problem, offsets, plan_.arena)) report(message);
  }

  void check_claims() {
    Bytes base;
    for (const PersistentTensor& tensor : plan_.persistent)
      base = std::max(base, align_up(tensor.offset + bytes_of(tensor.type), kAlignment) - Offset{});
    Bytes highest = base;
    std::vector<Bytes> change(schedule_.steps.size() + 1);
    for (const Storage& storage : schedule_.storages) {
      if (storage.persistent) continue;
      highest = std::max(highest, storage.offset + storage.size - Offset{});
      change[static_cast<std::size_t>(index(storage.lifetime.begin))] += storage.size;
      change[static_cast<std::size_t>(index(storage.lifetime.end))] -= storage.size;
    }
    Bytes live = base, most = base;
    Step peak{};
    for (std::size_t i = 0; i < schedule_.steps.size(); ++i) {
      live += change[i];
      if (live > most) peak = Step{static_cast<std::int32_t>(i)};
      most = std::max(most, live);
    }
    if (program_.planned != highest) report("states " + to_string(program_.planned) + ", its highest byte is at " + to_string(highest));
    if (program_.lower_bound != most) report("states a lower bound of " + to_string(program_.lower_bound) + ", it is " + to_string(most));
    if (program_.peak_step != peak) report("states its peak at step " + std::to_string(index(program_.peak_step)) + ", it is at step " + std::to_string(index(peak)));
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
  std::vector<bool> given_;                 // storages that the caller fills
  std::vector<std::int32_t> made_at_;       // step of each instance, -1: given
  std::vector<std::int32_t> last_read_;     // last step that reads each instance
  std::vector<std::int64_t> written_;       // how often each storage was
  std::vector<std::int64_t> seen_;          // that count when each instance was written
  std::vector<InstanceId> holder_;          // who wrote each storage last
  std::vector<std::int32_t> before_barrier_;
  bool has_repeat_ = false;
  bool has_barrier_ = false;
  bool failed_ = false;
};

bool has_sane_header(const Plan& plan) {
  return plan.programs.size() <= kMostPrograms && has_sane_size(plan.arena) &&
         std::all_of(plan.persistent.begin(), plan.persistent.end(),
                     [](const PersistentTensor& tensor) { return has_sane_shape(tensor.type) && has_sane_offset(tensor.offset); });
}

void check_header(const Plan& plan, const OpRegistry& registry, std::vector<std::string>& findings) {
  Bytes largest;
  std::set<std::string> names;
  for (const Program& program : plan.programs) {
    largest = std::max(largest, program.planned);
    if (!names.insert(program.name).second) findings.push_back("plan: two programs are named '" + program.name + "'");
  }
  if (!has_sane_header(plan)) findings.push_back("plan: its arena or a persistent tensor has an impossible size, or it has more than " + std::to_string(kMostPrograms) + " programs");
  names.clear();
  for (const PersistentTensor& tensor : plan.persistent)
    if (!names.insert(tensor.name).second) findings.push_back("plan: two persistent tensors are named '" + tensor.name + "'");
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
  if (!findings.empty() && !has_sane_header(plan)) return findings;
  for (const Program& program : plan.programs) ProgramChecker(plan, program, registry, findings).check();
  if (findings.size() > kMostFindings) findings.resize(kMostFindings);
  return findings;
}

}  // namespace thimble
