// A schedule: the order of the steps, and which tensors share which storage for how long.
//
//   Schedule s = make_schedule(step_graph, registry, device, {.microbatches = {100}});
//   s.steps.size();  s.storages[id].lifetime;
//
// The order is a tree of `step | repeat(ranges of samples, body) | barrier`. Lifetimes count static steps: a body
// counts once, and what has to survive an iteration lives for the whole repeat.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "thimble/graph.h"
#include "thimble/op_registry.h"
#include "thimble/placement.h"

namespace thimble {

enum class StorageId : std::int32_t {};
enum class InstanceId : std::int32_t {};
inline constexpr StorageId kNoStorage{-1};

/// A range of the arena.
struct Storage {
  std::string name;  ///< of its first tensor
  Role role = Role::activation;
  Bytes size;         ///< a multiple of kAlignment
  Lifetime lifetime;  ///< static steps; the whole program where persistent
  bool persistent = false;
  Offset offset{};  ///< decided by placement
  bool operator==(const Storage&) const = default;
};

/// One materialization of a tensor. Recomputing it gives another instance with a storage of its own. What the caller
/// gives one microbatch of has one in each repeat that reads it, made at the beginning of every iteration; else it has
/// one, made before step 0, in a cut program in every iteration of the first repeat.
struct Instance {
  TensorId tensor = kNoTensor;
  StorageId storage = kNoStorage;
  bool whole_batch = false;  ///< holds every sample of the step; steps inside a repeat see their range of it
  bool operator==(const Instance&) const = default;
};

struct ScheduledStep {
  OpId op = kNoOp;
  bool is_recomputation = false;
  std::vector<InstanceId> inputs;
  std::vector<InstanceId> outputs;
  StorageId workspace = kNoStorage;
  bool operator==(const ScheduledStep&) const = default;
};

/// A node of the order. A program has any number of repeats, each over the whole cut. `barrier` says that every
/// gradient has passed before anything after it may update.
struct ScheduleNode {
  enum class Kind : std::uint8_t { step, repeat, barrier };
  Kind kind = Kind::step;
  Step step{};                     ///< step
  std::vector<HalfOpen> ranges{};  ///< repeat: samples of each iteration, in order
  std::vector<ScheduleNode> body{};
  bool operator==(const ScheduleNode&) const = default;
};

struct Schedule {
  std::vector<ScheduledStep> steps;  ///< in static order; Step indexes this
  std::vector<ScheduleNode> order;
  IdVector<InstanceId, Instance> instances;
  IdVector<StorageId, Storage> storages;
  bool operator==(const Schedule&) const = default;
};

struct ScheduleOptions {
  std::vector<std::int64_t> microbatches;  ///< sums to the graph's batch; one entry is no cut
  bool barrier_before_update = false;
  std::vector<OpId> sequence{};        ///< empty: each op once. An op named again is recomputed (recompute.h)
  std::vector<HalfOpen> repeats{};     ///< places in `sequence`, ascending; empty: a cut has one, of all but updates
  IdVector<OpId, Bytes> workspaces{};  ///< what each op books; empty: asked of the registry, which can take long
};

/// Rewrites a step graph for more than one microbatch: gradients read by updates, and unbatched outputs, are summed
/// by whoever makes them, where such an op may, else by `accumulate` ops. The identity for one microbatch.
Graph accumulate_over_microbatches(const Graph& graph, const OpRegistry& registry);

/// `graph` has to be rewritten already where the cut has more than one part. Throws InvalidArgument where the cut
/// does not sum to the batch, or the sequence lacks an op or reads a value before it is made, or the repeats are none
/// of the sequence, do not begin it or hold an update.
Schedule make_schedule(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                       const ScheduleOptions& options);

/// Bytes live at each step, persistent ones included: no placement of this schedule goes below the most of them.
std::vector<Bytes> live_by_step(const Schedule& schedule);

/// The shapes a step runs on with `samples` samples at hand.
OpShape shape_of(const Graph& graph, OpId op, std::int64_t samples, const DeviceDescription& device);

}  // namespace thimble
