#include "nesting.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace thimble {
namespace {

/// Moves the buffers that meet every other of the group to its bottom.
bool settle_enclosing(PlacementGroup& group, std::vector<std::int64_t>& offsets) {
  std::int32_t first_end = group.items.front().end;
  std::int32_t last_begin = group.items.front().begin;
  for (const PlacementItem& b : group.items) {
    first_end = std::min(first_end, b.end);
    last_begin = std::max(last_begin, b.begin);
  }
  const auto kept = std::stable_partition(group.items.begin(), group.items.end(), [&](const PlacementItem& b) {
    return b.begin >= first_end || b.end <= last_begin;
  });
  for (auto b = kept; b != group.items.end(); ++b) {
    offsets[b->index] = group.base;
    group.base += b->size;
  }
  const bool settled = kept != group.items.end();
  group.items.erase(kept, group.items.end());
  return settled;
}

/// Cuts where nothing is live. `items` are sorted by begin.
std::vector<PlacementGroup> cut(PlacementGroup group) {
  std::vector<PlacementGroup> parts;
  std::int32_t end = 0;
  for (const PlacementItem& b : group.items) {
    if (parts.empty() || b.begin >= end) parts.push_back({{}, group.base});
    parts.back().items.push_back(b);
    end = std::max(end, b.end);
  }
  return parts;
}

}  // namespace

void renumber_slots(std::vector<PlacementItem>& items) {
  std::vector<std::int32_t> begins;
  begins.reserve(items.size());
  for (const PlacementItem& b : items) begins.push_back(b.begin);
  std::sort(begins.begin(), begins.end());
  begins.erase(std::unique(begins.begin(), begins.end()), begins.end());
  const auto slot = [&](std::int32_t t) {
    return static_cast<std::int32_t>(std::lower_bound(begins.begin(), begins.end(), t) - begins.begin());
  };
  for (PlacementItem& b : items) {
    b.begin = slot(b.begin);
    b.end = slot(b.end);
  }
}

std::vector<PlacementGroup> split_nested(std::vector<PlacementItem> items, std::vector<std::int64_t>& offsets) {
  // Deep nests are peeled level by level; past this many visits the greedy orders take over, deterministically.
  std::int64_t visits_left = 20'000'000;
  std::sort(items.begin(), items.end(), [](const PlacementItem& a, const PlacementItem& b) {
    return std::tuple(a.begin, a.index) < std::tuple(b.begin, b.index);
  });
  std::vector<PlacementGroup> todo;
  std::vector<PlacementGroup> left;
  todo.push_back({std::move(items), 0});
  while (!todo.empty()) {
    PlacementGroup group = std::move(todo.back());
    todo.pop_back();
    std::vector<PlacementGroup> parts = cut(std::move(group));
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {  // a stack: the earliest group comes out first
      visits_left -= static_cast<std::int64_t>(part->items.size());
      if (visits_left < 0 || !settle_enclosing(*part, offsets)) {
        left.push_back(std::move(*part));
      } else if (!part->items.empty()) {
        todo.push_back(std::move(*part));
      }
    }
  }
  for (PlacementGroup& group : left) renumber_slots(group.items);
  std::sort(left.begin(), left.end(), [](const PlacementGroup& a, const PlacementGroup& b) {
    return a.items.front().index < b.items.front().index;
  });
  return left;
}

}  // namespace thimble
