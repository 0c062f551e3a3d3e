#include "op_prices.h"

#include <algorithm>

#include "thimble/schedule.h"

namespace thimble {

OpPrice price_op(const Graph& graph, OpId id, const Attributes& attributes, const OpRegistry& registry,
                 const DeviceDescription& device, const std::vector<std::int64_t>& microbatches,
                 const CalibrationTable* calibration) {
  const Op& op = graph.ops[id];
  std::map<std::int64_t, std::int64_t> parts;  // how many parts have that many samples
  if (op.phase == Phase::update)
    parts[graph.batch] = 1;
  else
    for (std::int64_t part : microbatches) ++parts[part];
  OpPrice price;
  for (const auto& [samples, count] : parts) {
    OpShape shape = shape_of(graph, id, samples, device);
    shape.attributes = attributes;
    price.seconds += static_cast<double>(count) * op_seconds(op.kind, shape, registry, calibration);
    // The largest part does not always need the most.
    price.workspace = std::max(price.workspace, registry.workspace(op.kind, shape));
  }
  return price;
}

IdVector<OpId, OpPrice> price_ops(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                                  const std::vector<std::int64_t>& microbatches, const CalibrationTable* calibration) {
  IdVector<OpId, OpPrice> prices;
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    const auto id = static_cast<OpId>(i);
    prices.push_back(price_op(graph, id, graph.ops[id].attributes, registry, device, microbatches, calibration));
  }
  return prices;
}

double seconds_of_repeats(const std::vector<OpId>& sequence, const IdVector<OpId, OpPrice>& prices) {
  IdVector<OpId, char> ran(prices.size(), 0);
  double seconds = 0;
  for (OpId op : sequence) {
    if (ran[op] != 0) seconds += prices[op].seconds;
    ran[op] = 1;
  }
  return seconds;
}

}  // namespace thimble
