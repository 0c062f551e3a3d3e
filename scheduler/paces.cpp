#include "paces.h"

#include <algorithm>

namespace thimble {
Paces paces_of(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
               const std::vector<std::int64_t>& microbatches, const CalibrationTable* calibration) {
  Paces paces(graph.ops.size());
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    const auto id = static_cast<OpId>(i);
    const Op& op = graph.ops[id];
    std::vector<Attributes> all = registry.faster(op.kind, shape_of(graph, id, graph.batch, device));
    if (all.empty()) continue;
    all.insert(all.begin(), op.attributes);
    for (Attributes& attributes : all) {
      const OpPrice price = price_op(graph, id, attributes, registry, device, microbatches, calibration);
      paces[id].push_back({std::move(attributes), price});
    }
  }
  return paces;
}

Slack::Slack(const std::vector<OpId>& steps, const std::vector<Bytes>& live, const Paces& paces) : paces_(paces) {
  IdVector<OpId, Bytes> beside(paces.size(), Bytes{-1});
  for (std::size_t i = 0; i < steps.size(); ++i) {
    peak_ = std::max(peak_, live[i]);
    const std::vector<OpPace>& all = paces[steps[i]];
    if (all.empty()) continue;
    // What has no workspace has no storage in the schedule that could grow.
    const Bytes own = align_up(all.front().price.workspace, kAlignment);
    if (own > Bytes{}) beside[steps[i]] = std::max(beside[steps[i]], live[i] - own);
  }
  for (std::size_t i = 0; i < paces.size(); ++i)
    if (const auto id = static_cast<OpId>(i); beside[id] >= Bytes{}) ops_.push_back({id, beside[id]});
}

ChosenPaces Slack::spend(Bytes room) const {
  ChosenPaces chosen(paces_.size(), nullptr);
  for (const auto& [op, beside] : ops_) {
    double seconds = paces_[op].front().price.seconds;
    for (const OpPace& pace : paces_[op]) {
      if (pace.price.seconds >= seconds) continue;
      if (beside + align_up(pace.price.workspace, kAlignment) > std::max(peak_, room)) continue;
      chosen[op] = &pace;
      seconds = pace.price.seconds;
    }
  }
  return chosen;
}

Bytes Slack::peak(const ChosenPaces& chosen) const {
  Bytes most = peak_;
  for (const auto& [op, beside] : ops_)
    if (chosen[op] != nullptr) most = std::max(most, beside + align_up(chosen[op]->price.workspace, kAlignment));
  return most;
}

double Slack::seconds_saved(const ChosenPaces& chosen) const {
  double seconds = 0;
  for (const Widest& widest : ops_)
    if (const OpPace* pace = chosen[widest.op]; pace != nullptr)
      seconds += paces_[widest.op].front().price.seconds - pace->price.seconds;
  return seconds;
}

void set_paces(const ChosenPaces& chosen, Graph& graph, Schedule& schedule) {
  for (const ScheduledStep& step : schedule.steps) {
    const OpPace* pace = chosen[step.op];
    if (pace == nullptr) continue;
    graph.ops[step.op].attributes = pace->attributes;
    schedule.storages[step.workspace].size = align_up(pace->price.workspace, kAlignment);
  }
}

}  // namespace thimble
