// Which bytes are taken during which slots of time: the structure that placement asks for holes.
//
// A segment tree over time slots. Every node holds two sets of byte ranges: `full`, taken during all of the
// node's time, and `any`, taken at some moment of it.
// What is taken during [begin, end) is then the union of O(log slots) sets.
// Ranges that touch are merged, so a set has as many members as there are separate blocks, not buffers: this
// is what keeps tightly packed problems far from quadratic, and why there are no conflict lists.
#pragma once

#include <cstdint>
#include <vector>

namespace thimble {

class Occupancy {
 public:
  explicit Occupancy(std::int32_t slots);

  void clear();
  /// Marks bytes [offset, offset + size) as taken during slots [begin, end).
  void insert(std::int32_t begin, std::int32_t end, std::int64_t offset, std::int64_t size);
  /// Lowest offset at which `size` bytes are free during all of [begin, end).
  std::int64_t lowest_hole(std::int32_t begin, std::int32_t end, std::int64_t size);
  /// Start of the smallest hole that fits (ties: the lowest); the open end above everything is the last resort.
  std::int64_t tightest_hole(std::int32_t begin, std::int32_t end, std::int64_t size);

 private:
  struct Range {
    std::int64_t begin;
    std::int64_t end;
  };
  using RangeSet = std::vector<Range>;  // sorted, disjoint, not touching
  struct Node {
    RangeSet any;
    RangeSet full;
  };
  struct Cursor {
    const Range* next;
    const Range* end;
  };

  static void add(RangeSet& set, Range range);
  void insert_at(std::size_t node, std::int32_t low, std::int32_t high, std::int32_t begin, std::int32_t end,
                 Range range);
  void collect(std::size_t node, std::int32_t low, std::int32_t high, std::int32_t begin, std::int32_t end);

  std::int32_t leaves_ = 1;
  std::vector<Node> nodes_;      // 1 is the root; the children of i are 2i and 2i+1
  std::vector<Cursor> cursors_;  // the sets of one query
};

}  // namespace thimble
