// Walks the steps, the repeat's twice, with one owner per storage; what is given is written as each iteration begins.
// Reading anything else than what was written last is an error: used before it was made, overwritten in place too
// early, an old weight read after its update.
#include "program_check.h"

namespace thimble {
namespace {

constexpr InstanceId kNobody{-1};

class ValueWalk {
 public:
  explicit ValueWalk(ProgramCheck& check)
      : check_(check),
        written_(check.schedule.storages.size(), 0),
        seen_(check.schedule.instances.size(), -1),
        holder_(check.schedule.storages.size(), kNobody) {}

  void walk() {
    for (InstanceId id : ids_of(check_.schedule.instances))
      if (check_.is_given(id)) give(id);
    for (std::int32_t i = 0; i < check_.step_count(); ++i) {
      pass_step(i, false);
      const auto [begin, end] = check_.loop_of(i);
      if (i + 1 == end) pass_again(begin, end);
    }
    for (InstanceId id : ids_of(check_.schedule.instances))
      if (check_.tensor_of(id).is_output && !is_there(id))
        check_.report("output '" + check_.tensor_of(id).name + "' is overwritten before it can be read");
  }

 private:
  void give(InstanceId id) {
    const std::string& name = check_.tensor_of(id).name;
    if (const InstanceId other = holder_of(id); other != kNobody)
      check_.report("'" + name + "' and '" + check_.tensor_of(other).name + "' are given in the same storage");
    write(id);
    if (const Storage& storage = check_.schedule.storages[check_.storage_of(id)]; storage.name != name)
      check_.report("'" + name + "' is given in a storage named '" + storage.name + "'");
  }

  // One microbatch after another, in the same place. Of a whole batch the parts that were given before have to be there
  // still, and what is not batched is the same every time.
  void give_again(InstanceId id) {
    if (check_.is_given_in_parts(id)) return write(id);
    if (!is_there(id))
      check_.report("'" + check_.tensor_of(id).name + "' is given again over '" + check_.tensor_of(holder_of(id)).name +
                    "' or what was written over it");
  }

  void pass_step(std::int32_t i, bool again) {
    const ScheduledStep& step = check_.step(i);
    const OpDefinition& definition = check_.definition_of(i);
    for (InstanceId input : step.inputs) check_there(i, input, "reads");
    for (std::size_t k = 0; k < step.outputs.size(); ++k) {
      check_sharing(check_, i, k);
      const bool adds = check_.registry.accumulates(check_.op_of(i)) || check_.is_whole(step.outputs[k]);
      if (again && adds && !definition.view) check_there(i, step.outputs[k], "adds to");
    }
    if (step.workspace != kNoStorage) ++written_[step.workspace];
    for (std::size_t k = 0; k < step.outputs.size(); ++k)
      if (definition.view && k == 0)
        seen_[step.outputs[k]] = written(step.outputs[k]);
      else
        write(step.outputs[k]);
  }

  void pass_again(std::int32_t begin, std::int32_t end) {
    for (InstanceId id : ids_of(check_.schedule.instances))
      if (check_.is_given(id) && !is_persistent(check_.tensor_of(id))) give_again(id);
    begin_second_iteration(begin);
    for (std::int32_t i = begin; i < end; ++i) pass_step(i, true);
  }

  // What an iteration leaves as a new version is what the next one reads as the old.
  void begin_second_iteration(std::int32_t begin) {
    std::set<TensorId> older;
    for (InstanceId id : ids_of(check_.schedule.instances)) {
      if (!is_there(id) || check_.made_at[id] < begin) continue;
      TensorId old = check_.tensor_of(id).version_of;
      while (old != kNoTensor && older.insert(old).second) old = check_.graph.tensors[old].version_of;
    }
    for (InstanceId id : ids_of(check_.schedule.instances))
      if (older.count(check_.schedule.instances[id].tensor) != 0 && check_.made_at[id] < begin) seen_[id] = written(id);
  }

  void check_there(std::int32_t i, InstanceId id, const char* does) {
    if (is_there(id)) return;
    const InstanceId holder = holder_of(id);
    const std::string holds =
        holder == kNobody ? "nothing yet" : "'" + check_.tensor_of(holder).name + "' or what was written over it";
    check_.report("step " + std::to_string(i) + " ('" + check_.op_of(i).name + "') " + does + " '" +
                  check_.tensor_of(id).name + "', whose storage holds " + holds);
  }

  void write(InstanceId id) {
    seen_[id] = ++written(id);
    holder_of(id) = id;
  }

  bool is_there(InstanceId id) { return seen_[id] == written(id); }
  std::int64_t& written(InstanceId id) { return written_[check_.storage_of(id)]; }
  InstanceId& holder_of(InstanceId id) { return holder_[check_.storage_of(id)]; }

  ProgramCheck& check_;
  IdVector<StorageId, std::int64_t> written_;  // how often
  IdVector<InstanceId, std::int64_t> seen_;    // that count when it was written
  IdVector<StorageId, InstanceId> holder_;     // who wrote last
};

}  // namespace

void check_values(ProgramCheck& check) { ValueWalk(check).walk(); }

}  // namespace thimble
