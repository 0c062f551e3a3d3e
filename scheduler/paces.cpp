#include "paces.h"

#include <algorithm>

namespace thimble {
namespace {

// What each op's workspace may grow to without a new peak; of ops that run several times the least.
IdVector<OpId, Bytes> room_for_workspaces(const std::vector<OpId>& steps, const std::vector<Bytes>& live,
                                          const Paces& paces) {
  const Bytes peak = live.empty() ? Bytes{} : *std::max_element(live.begin(), live.end());
  IdVector<OpId, Bytes> room(paces.size(), peak);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const std::vector<OpPace>& all = paces[steps[i]];
    if (all.empty()) continue;
    const Bytes own = align_up(all.front().price.workspace, kAlignment);
    room[steps[i]] = own == Bytes{} ? Bytes{} : std::min(room[steps[i]], peak - live[i] + own);
  }
  return room;
}

}  // namespace

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

IdVector<OpId, const OpPace*> spend_slack(const std::vector<OpId>& steps, const std::vector<Bytes>& live,
                                          const Paces& paces) {
  const IdVector<OpId, Bytes> room = room_for_workspaces(steps, live, paces);
  IdVector<OpId, const OpPace*> chosen(paces.size(), nullptr);
  for (std::size_t i = 0; i < paces.size(); ++i) {
    const auto id = static_cast<OpId>(i);
    if (paces[id].empty()) continue;
    double seconds = paces[id].front().price.seconds;
    for (const OpPace& pace : paces[id]) {
      if (pace.price.seconds >= seconds || align_up(pace.price.workspace, kAlignment) > room[id]) continue;
      chosen[id] = &pace;
      seconds = pace.price.seconds;
    }
  }
  return chosen;
}

void set_paces(const IdVector<OpId, const OpPace*>& chosen, Graph& graph, Schedule& schedule) {
  for (const ScheduledStep& step : schedule.steps) {
    const OpPace* pace = chosen[step.op];
    if (pace == nullptr) continue;
    graph.ops[step.op].attributes = pace->attributes;
    schedule.storages[step.workspace].size = align_up(pace->price.workspace, kAlignment);
  }
}

}  // namespace thimble
