// Which steps stand in which repeat, and which tensors hold the whole batch because of it.
#pragma once

#include <vector>

#include "thimble/schedule.h"

namespace thimble {

/// The repeats of a program, each over the whole cut. Half-open static steps, ascending.
struct StepLoops {
  std::vector<HalfOpen> repeats{};
  std::vector<std::int32_t> repeat_of{};  ///< of each step, -1: none

  /// None where `step` is in no repeat.
  const HalfOpen* around(std::int32_t step) const {
    const std::int32_t repeat = repeat_of[static_cast<std::size_t>(step)];
    return repeat < 0 ? nullptr : &repeats[static_cast<std::size_t>(repeat)];
  }
};

/// Brings `order` into the one in which steps run, and says where they stand: with one microbatch updates run as soon
/// as they may; with several, or before a barrier, where `options.repeats` leaves them, else after all the rest. Throws
/// InvalidArgument where the options' repeats cannot be.
StepLoops order_steps(const Graph& graph, const ScheduleOptions& options, std::vector<OpId>& order);

/// The tree that runs these steps.
std::vector<ScheduleNode> order_tree(const Graph& graph, const ScheduleOptions& options, const std::vector<OpId>& order,
                                     const StepLoops& loops);

/// Who holds every sample of the step. One entry per value: tensors given from outside in order of id, then what each
/// step makes, in order. A value made again may hold one microbatch where it held the whole batch before.
struct WholeBatches {
  IdVector<TensorId, char> given{};
  std::vector<std::vector<char>> made{};  ///< of each step, one per output
  /// Of each step, one per output: whether a whole batch may be made in its place, or in that of what is made there. It
  /// may hold the whole batch too, then, where it lies over a whole batch itself: so one passes through a repeat in
  /// place.
  std::vector<std::vector<char>> leads{};
};

/// Batched ones that the caller reads, or that pass between a repeat and other steps, and whatever shares bytes with
/// them as a view. Without a repeat, inputs too.
WholeBatches find_whole_batches(const Graph& graph, const IdVector<OpId, const OpDefinition*>& definitions,
                                const std::vector<OpId>& order, const StepLoops& loops);

/// For each repeat the tensors that the caller gives at the beginning of its iterations, in order of id: of those that
/// hold one microbatch, what its steps read. What nobody reads is given in the first.
std::vector<std::vector<TensorId>> find_given(const Graph& graph, const std::vector<OpId>& order,
                                              const StepLoops& loops, const IdVector<TensorId, char>& whole_given);

}  // namespace thimble
