// What each op of a graph takes, in time and workspace, for one cut of the batch: asked once, used by every candidate.
#pragma once

#include <vector>

#include "thimble/calibration.h"
#include "thimble/graph.h"
#include "thimble/op_registry.h"

namespace thimble {

struct OpPrice {
  double seconds = 0;  ///< of all parts of the cut
  double flops = 0;    ///< likewise
  Bytes workspace;     ///< the most of any part
};

/// Seconds are those of `op_seconds`.
IdVector<OpId, OpPrice> price_ops(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                                  const std::vector<std::int64_t>& microbatches,
                                  const CalibrationTable* calibration = nullptr);

}  // namespace thimble
