// What the parts of the plan checker share: the program at hand, what was found, and what a part left for later ones.
// A part is one file and one function below; check_plan.cpp calls them in the order in which they rely on each other.
// Nothing here may be known to a planner: every lifetime, size and claim is derived again from the graph and the order.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "thimble/plan.h"

namespace thimble {

inline constexpr std::size_t kMostFindings = 20;

/// Static steps begin <= i < end; {-1, -1} where there are none.
struct StepRange {
  std::int32_t begin = -1;
  std::int32_t end = -1;
};

struct ProgramCheck {
  const Plan& plan;
  const Program& program;
  const OpRegistry& registry;
  std::vector<std::string>& findings;
  const Graph& graph = program.graph;
  const Schedule& schedule = program.schedule;
  bool failed = false;

  // Left by check_order, and to be trusted where it found nothing.
  std::vector<StepRange> loops{};  ///< the repeat that each step stands in
  StepRange first_loop{};          ///< begins the program, where it has any repeat
  std::set<std::int64_t> sizes{};  ///< samples of a microbatch
  bool has_repeat = false;
  std::int32_t barrier_at = -1;  ///< number of steps before the barrier

  // Left by check_borders.
  IdVector<InstanceId, std::int32_t> made_at{};    ///< step that makes each instance, -1: none
  IdVector<InstanceId, std::int32_t> last_read{};  ///< last step that reads it, -1: none
  IdVector<InstanceId, StepRange> given_in{};      ///< of what is given in parts: the repeat it is given for

  void report(const std::string& what) {
    failed = true;
    if (findings.size() < kMostFindings) findings.push_back("program '" + program.name + "': " + what);
  }

  std::int32_t step_count() const { return static_cast<std::int32_t>(schedule.steps.size()); }
  const ScheduledStep& step(std::int32_t i) const { return schedule.steps[static_cast<std::size_t>(i)]; }
  const Op& op_of(std::int32_t i) const { return graph.ops[step(i).op]; }
  const OpDefinition& definition_of(std::int32_t i) const { return registry.at(op_of(i).kind); }
  StepRange loop_of(std::int32_t i) const { return loops[static_cast<std::size_t>(i)]; }
  bool in_loop(std::int32_t i) const { return loop_of(i).begin >= 0; }

  const Tensor& tensor_of(InstanceId id) const { return graph.tensors[schedule.instances[id].tensor]; }
  StorageId storage_of(InstanceId id) const { return schedule.instances[id].storage; }
  bool is_given(InstanceId id) const { return tensor_of(id).producer == kNoOp; }
  bool is_whole(InstanceId id) const { return schedule.instances[id].whole_batch; }
  /// Of a batched tensor; all of another one.
  Bytes bytes_per_sample(InstanceId id) const { return bytes_of(with_samples(tensor_of(id).type, 1)); }
  /// Batched, and of one microbatch only.
  bool is_cut(InstanceId id) const { return has_repeat && tensor_of(id).type.batched && !is_whole(id); }
  /// Given anew at the beginning of every iteration of one repeat, `given_in`.
  bool is_given_in_parts(InstanceId id) const { return is_given(id) && is_cut(id) && !is_persistent(tensor_of(id)); }
};

/// Every id of a table, in order.
template <class Id, class T>
std::vector<Id> ids_of(const IdVector<Id, T>& table) {
  std::vector<Id> ids;
  for (std::size_t i = 0; i < table.size(); ++i) ids.push_back(static_cast<Id>(i));
  return ids;
}

// Sizes small enough that sums of a few stay far from overflow.
bool has_sane_shape(const TensorType& type);
bool has_sane_size(Bytes size);
bool has_sane_offset(Offset offset);

void check_ids(ProgramCheck& check);         ///< ids and sizes that mean something
void check_order(ProgramCheck& check);       ///< every step once, ascending; repeats cut the batch
void check_graph(ProgramCheck& check);       ///< tensors and ops against the registry
void check_steps(ProgramCheck& check);       ///< steps against ops
void check_borders(ProgramCheck& check);     ///< what passes between a repeat and the steps outside
void check_values(ProgramCheck& check);      ///< every read sees what was written for it
void check_storages(ProgramCheck& check);    ///< sizes and lifetimes cover every use
void check_workspaces(ProgramCheck& check);  ///< as this machine's engines want them
void check_overlaps(ProgramCheck& check);    ///< what lives together shares no byte
void check_persistent(ProgramCheck& check);  ///< persistent tensors lie where the plan says
void check_claims(ProgramCheck& check);      ///< highest byte, lower bound and peak step

/// Output `k` of a step shares bytes only where its op says that it may, or must. Called by check_values.
void check_sharing(ProgramCheck& check, std::int32_t step, std::size_t k);

}  // namespace thimble
