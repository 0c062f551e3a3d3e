// Ops that take less time where they get more workspace: they get what a schedule leaves below its peak, or more bytes.
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

/// Of each op the pace it takes; null for the op as it is.
using ChosenPaces = IdVector<OpId, const OpPace*>;

/// What workspaces may grow to at the `steps` of a schedule with as many `live` bytes at each. Steps do not disturb
/// each other: a workspace lives for one.
class Slack {
 public:
  Slack(const std::vector<OpId>& steps, const std::vector<Bytes>& live, const Paces& paces);

  /// The most live bytes of the schedule as it is.
  Bytes peak() const { return peak_; }
  /// The fastest paces whose workspaces leave live bytes within the peak, or within `room` where that is more.
  ChosenPaces spend(Bytes room = {}) const;
  /// The most live bytes with these paces, and what they save of a step.
  Bytes peak(const ChosenPaces& chosen) const;
  double seconds_saved(const ChosenPaces& chosen) const;

 private:
  struct Widest {
    OpId op;
    Bytes beside;  // live at the fullest of the op's steps, without its workspace
  };
  const Paces& paces_;
  Bytes peak_;
  std::vector<Widest> ops_;  // that have a choice
};

/// The schedule and its graph with those paces.
void set_paces(const ChosenPaces& chosen, Graph& graph, Schedule& schedule);

}  // namespace thimble
