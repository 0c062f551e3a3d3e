#include "op_prices.h"

#include <algorithm>

#include "thimble/schedule.h"

namespace thimble {

IdVector<OpId, OpPrice> price_ops(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                                  const std::vector<std::int64_t>& microbatches, const CalibrationTable* calibration) {
  std::map<std::int64_t, std::int64_t> parts;  // how many parts have that many samples
  for (std::int64_t part : microbatches) ++parts[part];
  const std::map<std::int64_t, std::int64_t> once{{graph.batch, 1}};
  IdVector<OpId, OpPrice> prices(graph.ops.size());
  for (std::size_t i = 0; i < graph.ops.size(); ++i) {
    const auto id = static_cast<OpId>(i);
    const Op& op = graph.ops[id];
    OpPrice& price = prices[id];
    for (const auto& [samples, count] : op.phase == Phase::update ? once : parts) {
      const OpShape shape = shape_of(graph, id, samples, device);
      price.seconds += static_cast<double>(count) * op_seconds(op.kind, shape, registry, calibration);
      price.flops += static_cast<double>(count) * registry.cost(op.kind, shape).flops;
      // The largest part does not always need the most.
      price.workspace = std::max(price.workspace, registry.workspace(op.kind, shape));
    }
  }
  return prices;
}

}  // namespace thimble
