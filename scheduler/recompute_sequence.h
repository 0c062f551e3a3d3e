// The sequence of ops that ranks ask for, in one repeat over the microbatches or in several.
#pragma once

#include "thimble/recompute.h"

namespace thimble {

/// Which repeat each op that is no update runs in for the first time, and what later ones find there.
struct OpLoops {
  IdVector<OpId, std::int32_t> repeat_of;
  IdVector<TensorId, char> passes;  ///< of the forward phase: held for the whole batch beyond its repeat
  bool barrier_before_update = false;
};

/// `loops` is null where all stands in one repeat. Throws InvalidArgument where `ranks` is not one per tensor.
LoopSequence build_sequence(const Graph& graph, const RecomputeBasis& basis, const RecomputeRanks& ranks,
                            const OpLoops* loops);

}  // namespace thimble
