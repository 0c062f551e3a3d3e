// Lossless shrinking of a placement problem before any search.
//
// Buffers are grouped by time: groups that never meet share the same bytes and are solved apart. A buffer that meets
// every other of its group goes to the bottom and costs nothing but its own size. Both rules
// repeat inside what is left. A forward and backward pass whose lifetimes nest dissolves completely.
#pragma once

#include <cstdint>
#include <vector>

#include "place_orders.h"

namespace thimble {

struct PlacementGroup {
  std::vector<PlacementItem> items;  ///< slots counted from 0
  std::int64_t base = 0;             ///< bytes below are taken by buffers that enclose the group
};

/// Renumbers slots so that only distinct beginnings count: two lifetimes meet exactly if one holds the other's begin.
void renumber_slots(std::vector<PlacementItem>& items);

/// Writes offsets[item.index] for what is decided, returns what is left, in order of time.
std::vector<PlacementGroup> split_nested(std::vector<PlacementItem> items, std::vector<std::int64_t>& offsets);

}  // namespace thimble
