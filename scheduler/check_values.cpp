// Walks the steps, each repeat's twice, with the owners of every storage's bytes; what is given is written as an
// iteration begins. Reading anything else than what was written last is an error: used before it was made, overwritten
// in place too early, an old weight read after its update.
//
// Of whole batches an iteration touches its own samples only. So a storage has two halves here: the samples of the
// first walk through a repeat, and those of the second. Whatever is no whole batch lies in both.
#include <array>

#include "program_check.h"

namespace thimble {
namespace {

constexpr InstanceId kNobody{-1};

// The halves that a step at hand touches of a whole batch.
struct Halves {
  std::size_t begin = 0, end = 2;
};
constexpr Halves kBoth{0, 2}, kFirst{0, 1}, kSecond{1, 2};

class ValueWalk {
 public:
  explicit ValueWalk(ProgramCheck& check)
      : check_(check),
        written_(check.schedule.storages.size(), {0, 0}),
        seen_(check.schedule.instances.size(), {-1, -1}),
        holder_(check.schedule.storages.size(), {kNobody, kNobody}) {}

  void walk() {
    give([&](InstanceId id) { return !check_.is_given_in_parts(id); });
    for (std::int32_t i = 0; i < check_.step_count(); ++i) {
      const auto [begin, end] = check_.loop_of(i);
      if (i == begin) begin_repeat(begin);
      at_hand_ = check_.in_loop(i) ? kFirst : kBoth;
      pass_step(i, false);
      if (i + 1 == end) pass_again(begin, end);
    }
    at_hand_ = kBoth;
    for (InstanceId id : ids_of(check_.schedule.instances))
      if (check_.tensor_of(id).is_output && !is_there(id))
        check_.report("output '" + check_.tensor_of(id).name + "' is overwritten before it can be read");
  }

 private:
  template <class Predicate>
  void give(Predicate is_given_now) {
    IdVector<StorageId, InstanceId> given(check_.schedule.storages.size(), kNobody);
    at_hand_ = kBoth;
    for (InstanceId id : ids_of(check_.schedule.instances)) {
      if (!check_.is_given(id) || !is_given_now(id)) continue;
      const std::string& name = check_.tensor_of(id).name;
      InstanceId& other = given[check_.storage_of(id)];
      if (other != kNobody)
        check_.report("'" + name + "' and '" + check_.tensor_of(other).name + "' are given in the same storage");
      other = id;
      write(id);
      if (const Storage& storage = check_.schedule.storages[check_.storage_of(id)]; storage.name != name)
        check_.report("'" + name + "' is given in a storage named '" + storage.name + "'");
    }
  }

  // One microbatch after another, in the same place.
  void begin_repeat(std::int32_t begin) {
    give([&](InstanceId id) { return check_.is_given_in_parts(id) && check_.given_in[id].begin == begin; });
  }

  // Of a whole batch the parts that were given before have to be there still, and what is not batched is the same every
  // time.
  void check_given_again() {
    at_hand_ = kBoth;
    for (InstanceId id : ids_of(check_.schedule.instances))
      if (check_.is_given(id) && !is_persistent(check_.tensor_of(id)) && !check_.is_given_in_parts(id) && !is_there(id))
        check_.report("'" + check_.tensor_of(id).name + "' is given again over '" +
                      check_.tensor_of(holder_of(id)).name + "' or what was written over it");
  }

  void pass_step(std::int32_t i, bool again) {
    const ScheduledStep& step = check_.step(i);
    const OpDefinition& definition = check_.definition_of(i);
    for (InstanceId input : step.inputs) check_there(i, input, "reads");
    for (std::size_t k = 0; k < step.outputs.size(); ++k) {
      check_sharing(check_, i, k);
      if (again && check_.registry.accumulates(check_.op_of(i), k)) check_there(i, step.outputs[k], "adds to");
    }
    if (step.workspace != kNoStorage)
      for (std::int64_t& written : written_[step.workspace]) ++written;
    for (std::size_t k = 0; k < step.outputs.size(); ++k)
      if (definition.view && k == 0)
        look_at(step.outputs[k]);
      else
        write(step.outputs[k]);
  }

  void pass_again(std::int32_t begin, std::int32_t end) {
    if (begin == check_.first_loop.begin) check_given_again();
    begin_repeat(begin);
    begin_second_iteration(begin);
    at_hand_ = kSecond;
    for (std::int32_t i = begin; i < end; ++i) pass_step(i, true);
  }

  // What an iteration leaves as a new version is what the next one reads as the old.
  void begin_second_iteration(std::int32_t begin) {
    at_hand_ = kBoth;
    std::set<TensorId> older;
    for (InstanceId id : ids_of(check_.schedule.instances)) {
      if (!is_there(id) || check_.made_at[id] < begin) continue;
      TensorId old = check_.tensor_of(id).version_of;
      while (old != kNoTensor && older.insert(old).second) old = check_.graph.tensors[old].version_of;
    }
    for (InstanceId id : ids_of(check_.schedule.instances))
      if (older.count(check_.schedule.instances[id].tensor) != 0 && check_.made_at[id] < begin) look_at(id);
  }

  void check_there(std::int32_t i, InstanceId id, const char* does) {
    if (is_there(id)) return;
    const InstanceId holder = holder_of(id);
    const std::string holds =
        holder == kNobody ? "nothing yet" : "'" + check_.tensor_of(holder).name + "' or what was written over it";
    check_.report("step " + std::to_string(i) + " ('" + check_.op_of(i).name + "') " + does + " '" +
                  check_.tensor_of(id).name + "', whose storage holds " + holds);
  }

  Halves halves_of(InstanceId id) const {
    return check_.is_whole(id) && check_.tensor_of(id).type.batched ? at_hand_ : kBoth;
  }

  void write(InstanceId id) {
    const auto [begin, end] = halves_of(id);
    for (std::size_t half = 0; half < 2; ++half) {
      InstanceId& holder = holder_[check_.storage_of(id)][half];
      const bool is_mine = half >= begin && half < end;
      if (!is_mine && holder != kNobody && lies_sample_by_sample(holder, id)) continue;
      ++written_[check_.storage_of(id)][half];
      if (is_mine) seen_[id][half] = written_[check_.storage_of(id)][half];
      if (is_mine) holder = id;
    }
  }

  // Whether the samples of one begin where those of the other do.
  bool lies_sample_by_sample(InstanceId a, InstanceId b) const {
    return check_.is_whole(a) && check_.is_whole(b) && check_.bytes_per_sample(a) == check_.bytes_per_sample(b);
  }

  void look_at(InstanceId id) {
    const auto [begin, end] = halves_of(id);
    for (std::size_t half = begin; half < end; ++half) seen_[id][half] = written_[check_.storage_of(id)][half];
  }

  bool is_there(InstanceId id) const {
    const auto [begin, end] = halves_of(id);
    for (std::size_t half = begin; half < end; ++half)
      if (seen_[id][half] != written_[check_.storage_of(id)][half]) return false;
    return true;
  }

  InstanceId holder_of(InstanceId id) const { return holder_[check_.storage_of(id)][halves_of(id).begin]; }

  ProgramCheck& check_;
  Halves at_hand_ = kBoth;
  template <class Value>
  using OfHalves = std::array<Value, 2>;
  IdVector<StorageId, OfHalves<std::int64_t>> written_;  // how often
  IdVector<InstanceId, OfHalves<std::int64_t>> seen_;    // that count when it was written
  IdVector<StorageId, OfHalves<InstanceId>> holder_;     // who wrote last
};

}  // namespace

void check_values(ProgramCheck& check) { ValueWalk(check).walk(); }

}  // namespace thimble
