#include "occupancy.h"

#include <algorithm>
#include <limits>

namespace thimble {

Occupancy::Occupancy(std::int32_t slots) {
  while (leaves_ < slots) leaves_ *= 2;
  nodes_.resize(2 * static_cast<std::size_t>(leaves_));
}

void Occupancy::clear() {
  for (Node& node : nodes_) {  // capacities stay: the next order needs about as much
    node.any.clear();
    node.full.clear();
  }
}

void Occupancy::add(RangeSet& set, Range range) {
  // First member that touches or follows the new range, and one past the last that touches it.
  auto first = std::lower_bound(set.begin(), set.end(), range.begin,
                                [](const Range& r, std::int64_t begin) { return r.end < begin; });
  auto last = first;
  while (last != set.end() && last->begin <= range.end) ++last;
  if (first == last) {
    set.insert(first, range);
    return;
  }
  first->begin = std::min(first->begin, range.begin);
  first->end = std::max((last - 1)->end, range.end);
  set.erase(first + 1, last);
}

void Occupancy::insert(std::int32_t begin, std::int32_t end, std::int64_t offset, std::int64_t size) {
  if (begin < end && size > 0) insert_at(1, 0, leaves_, begin, end, Range{offset, offset + size});
}

void Occupancy::insert_at(std::size_t node, std::int32_t low, std::int32_t high, std::int32_t begin, std::int32_t end,
                          Range range) {
  add(nodes_[node].any, range);
  if (begin <= low && high <= end) {
    add(nodes_[node].full, range);
    return;
  }
  const std::int32_t middle = low + (high - low) / 2;
  if (begin < middle) insert_at(2 * node, low, middle, begin, end, range);
  if (middle < end) insert_at(2 * node + 1, middle, high, begin, end, range);
}

void Occupancy::collect(std::size_t node, std::int32_t low, std::int32_t high, std::int32_t begin, std::int32_t end) {
  const bool covered = begin <= low && high <= end;
  const RangeSet& set = covered ? nodes_[node].any : nodes_[node].full;
  if (!set.empty()) cursors_.push_back({set.data(), set.data() + set.size()});
  if (covered) return;
  const std::int32_t middle = low + (high - low) / 2;
  if (begin < middle) collect(2 * node, low, middle, begin, end);
  if (middle < end) collect(2 * node + 1, middle, high, begin, end);
}

std::int64_t Occupancy::lowest_hole(std::int32_t begin, std::int32_t end, std::int64_t size) {
  cursors_.clear();
  collect(1, 0, leaves_, begin, end);
  std::int64_t candidate = 0;
  for (bool moved = true; moved;) {
    moved = false;
    for (Cursor& cursor : cursors_) {
      while (cursor.next != cursor.end && cursor.next->begin < candidate + size) {
        if (cursor.next->end > candidate) {
          candidate = cursor.next->end;
          moved = true;
        }
        ++cursor.next;
      }
    }
  }
  return candidate;
}

std::int64_t Occupancy::tightest_hole(std::int32_t begin, std::int32_t end, std::int64_t size) {
  constexpr std::int64_t kOpen = std::numeric_limits<std::int64_t>::max();
  cursors_.clear();
  collect(1, 0, leaves_, begin, end);
  std::int64_t best = 0;
  std::int64_t best_length = kOpen;
  for (std::int64_t hole = 0;;) {
    std::int64_t hole_end = hole;
    while (hole_end == hole) {  // climb out of everything that covers `hole`
      hole_end = kOpen;
      for (Cursor& cursor : cursors_) {
        while (cursor.next != cursor.end && cursor.next->begin <= hole) {
          hole = std::max(hole, cursor.next->end);
          ++cursor.next;
        }
        if (cursor.next != cursor.end) hole_end = std::min(hole_end, cursor.next->begin);
      }
      if (hole_end < hole) hole_end = hole;
    }
    if (hole_end == kOpen) return best_length == kOpen ? hole : best;
    if (hole_end - hole >= size && hole_end - hole < best_length) {
      best = hole;
      best_length = hole_end - hole;
    }
    hole = hole_end;
  }
}

}  // namespace thimble
