// What each op of a graph takes, in time and workspace, for one cut of the batch: asked once, used by every candidate.
#pragma once

#include <vector>

#include "thimble/calibration.h"
#include "thimble/graph.h"
#include "thimble/op_registry.h"

namespace thimble {

struct OpPrice {
  double seconds = 0;  ///< of all parts of the cut
  Bytes workspace;     ///< the most of any part
};

/// Of one op as if it had those attributes. Seconds are those of `op_seconds`.
OpPrice price_op(const Graph& graph, OpId op, const Attributes& attributes, const OpRegistry& registry,
                 const DeviceDescription& device, const std::vector<std::int64_t>& microbatches,
                 const CalibrationTable* calibration = nullptr);

IdVector<OpId, OpPrice> price_ops(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                                  const std::vector<std::int64_t>& microbatches,
                                  const CalibrationTable* calibration = nullptr);

/// Of the ops in a sequence that have been in it before.
double seconds_of_repeats(const std::vector<OpId>& sequence, const IdVector<OpId, OpPrice>& prices);

}  // namespace thimble
