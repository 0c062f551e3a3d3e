// Ops that take less time where they get more workspace: what a schedule leaves below its peak is given to them.
#pragma once

#include <vector>

#include "op_prices.h"
#include "thimble/schedule.h"

namespace thimble {

/// One way to run an op.
struct OpPace {
  Attributes attributes;
  OpPrice price;
};

/// Of each op as it is, then of each of its `OpDefinition::faster`; none where that is empty.
using Paces = IdVector<OpId, std::vector<OpPace>>;
Paces paces_of(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
               const std::vector<std::int64_t>& microbatches, const CalibrationTable* calibration);

/// Of each op the fastest pace whose workspace leaves the peak where it is; null for the op as it is. Steps do not
/// disturb each other: a workspace lives for one. `live` are the bytes at each of the `steps`.
IdVector<OpId, const OpPace*> spend_slack(const std::vector<OpId>& steps, const std::vector<Bytes>& live,
                                          const Paces& paces);

/// The schedule and its graph with those paces.
void set_paces(const IdVector<OpId, const OpPace*>& chosen, Graph& graph, Schedule& schedule);

}  // namespace thimble
