// Rematerialization: which forward values are kept for the backward pass, and in which order the others are made again.
//
//   const RecomputeBasis basis = recompute_basis(step_graph, registry);
//   RecomputeRanks ranks = keep_everything(step_graph);
//   ranks[x] = kOnDemand;  // dropped after the forward pass, made again when asked for
//   make_schedule(step_graph, registry, device, {.sequence = recompute_sequence(step_graph, basis, ranks)});
//
// Rank 0 is kept from the forward pass. Where the backward pass asks for a value that is gone, one pass makes it again
// from the nearest values still there. Of all that this pass makes it holds, until their last readers, the value asked
// for, the values of the smallest rank among them, and every ranked value of the block that it ends in. Nested
// checkpoints (Griewank and Walther 2000) are ranks 0, 1, 2, ... of the values between blocks; any graph may have them.
#pragma once

#include <cstdint>
#include <vector>

#include "thimble/graph.h"
#include "thimble/op_registry.h"

namespace thimble {

/// No rank: held by a pass only if it was made for this value.
inline constexpr std::int32_t kOnDemand = INT32_MAX;

/// A rank behind all numbers: held by a pass that ends in this value's block, not by those that pass through.
inline constexpr std::int32_t kWithinBlock = INT32_MAX - 1;

/// One per tensor of the graph; only those of `RecomputeBasis::values` count.
using RecomputeRanks = IdVector<TensorId, std::int32_t>;

RecomputeRanks keep_everything(const Graph& graph);

/// What every sequence of one graph starts from.
struct RecomputeBasis {
  std::vector<OpId> order;        ///< each op once
  std::vector<TensorId> values;   ///< made in the forward phase by an op that may run again, and read, they or what is
                                  ///< made of them, in the backward phase
  std::vector<TensorId> between;  ///< those that separate one block from the next
  std::vector<TensorId> side;     ///< values that pass by blocks (both as `borders_of_blocks` has them)
  IdVector<OpId, char> may_repeat, is_view, is_sum;
};
RecomputeBasis recompute_basis(const Graph& graph, const OpRegistry& registry);

/// Where blocks are joined, in order of id. `between`: values of the forward phase that everything passes through,
/// beside the `side` values. These are read all along, as what an encoder made is by every layer of a decoder.
struct BlockBorders {
  std::vector<TensorId> between;
  std::vector<TensorId> side;
};
BlockBorders borders_of_blocks(const Graph& graph);

/// The basis' order with ops repeated where the ranks ask for it. Updates come as soon as their gradient is complete
/// and nobody reads the old version any more. Throws InvalidArgument where `ranks` is not one per tensor.
std::vector<OpId> recompute_sequence(const Graph& graph, const RecomputeBasis& basis, const RecomputeRanks& ranks);

/// The places of a sequence that are repeats over the microbatches: `ScheduleOptions`.
struct LoopSequence {
  std::vector<OpId> ops;
  std::vector<HalfOpen> repeats;
};

/// Where the loop over microbatches is split: a value between blocks.
struct LoopSplit {
  TensorId value = kNoTensor;
  /// Not held from the way forward on, but made again on the way back for the whole batch, with all others between two
  /// splits that are held. Needs one of these behind it.
  bool rebuilt = false;
  bool operator==(const LoopSplit&) const = default;
};

/// Values between blocks where the loop over microbatches may be split: beside the side values nothing else passes
/// there on the way forward, and what else two repeats share of a microbatch is batched, or may be made again. In the
/// order of their making.
std::vector<TensorId> loop_splits(const Graph& graph, const RecomputeBasis& basis);

/// Block-major order of a graph for several microbatches. `splits`, of `loop_splits`, part it into groups of blocks.
/// One repeat goes forward through the groups from one split that is held to the next, the last of these also backward
/// through the last group, then one per group backwards, and behind each repeat the updates whose gradients it has
/// completed, or behind the last if there is a barrier. Before the first group that needs them, one more repeat makes
/// the values between groups that were not held. Values between groups hold the whole batch; what else a repeat needs
/// of the forward phase it makes again, held as `ranks` say within it. Forward ops belong to the last group that they
/// can, backward ops to the last group that they lead to an update of, or read weights or inner values of. Without
/// splits, microbatch-major order. Throws InvalidArgument where `ranks` is not one per tensor, or it cannot be split
/// so.
LoopSequence block_major_sequence(const Graph& graph, const RecomputeBasis& basis, const RecomputeRanks& ranks,
                                  const std::vector<LoopSplit>& splits, bool barrier_before_update);

}  // namespace thimble
