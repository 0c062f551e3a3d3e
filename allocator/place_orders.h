// The orders in which greedy placement takes buffers. Each is a sort by a key; ties break by index.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace thimble {

/// A buffer as the planner sees it: time cut into slots, size rounded up to the alignment.
struct PlacementItem {
  std::int32_t begin = 0;  ///< slots [begin, end), never empty
  std::int32_t end = 0;
  std::int64_t size = 0;  ///< > 0
  std::size_t index = 0;  ///< in the problem
};

struct PlacementOrder {
  std::string_view name;
  bool tightest;  ///< tightest hole, else the lowest
  std::vector<std::size_t> (*sorted)(const std::vector<PlacementItem>&);
};

/// The portfolio, best bets first.
const std::vector<PlacementOrder>& placement_orders();

}  // namespace thimble
