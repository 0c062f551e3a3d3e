// The sequence of ops that ranks ask for, in one repeat over the microbatches or in several.
#pragma once

#include <memory>

#include "thimble/recompute.h"

namespace thimble {

/// Values that a repeat of their own makes again, for the whole batch.
struct Rebuild {
  std::int32_t before = 0;  ///< the repeat that needs them first
  std::vector<TensorId> values;
};

/// Which repeat each op that is no update runs in for the first time, and what later ones find there.
struct OpLoops {
  IdVector<OpId, std::int32_t> repeat_of;
  IdVector<TensorId, char> passes;  ///< of the forward phase: held for the whole batch beyond its repeat
  std::vector<Rebuild> rebuilds;    ///< of values that pass, but are not held until they are made again
  bool barrier_before_update = false;
};

/// Of one graph, for any ranks. All three have to outlive it; `loops` is null where all stands in one repeat.
class SequenceBuilder {
 public:
  SequenceBuilder(const Graph& graph, const RecomputeBasis& basis, const OpLoops* loops);
  ~SequenceBuilder();
  /// Valid until the next one is built. Throws InvalidArgument where `ranks` is not one per tensor.
  const LoopSequence& build(const RecomputeRanks& ranks);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thimble
