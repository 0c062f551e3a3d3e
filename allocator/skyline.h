// The state of an exact search for offsets: how high every section of time is filled, and undoing it.
//
// Time is cut into sections, one for each largest set of buffers live together. Buffers are put on top of what is
// there, so a section's state is one height. A section may also be raised above its top: the search has decided that
// these bytes stay empty. Everything is undone through one trail, so that a step of the search costs what it changes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "place_orders.h"

namespace thimble {

class Skyline {
 public:
  using Ids = std::vector<std::int32_t>;

  /// Sections [begin, end) with buffers still to be put there; no buffer reaches over its ends.
  struct Part {
    std::int32_t begin = 0;
    std::int32_t end = 0;
    Ids items;
  };
  /// Names a state: equal states have equal keys; 128 bits make the opposite as good as true.
  struct Key {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    bool operator==(const Key&) const = default;
  };

  /// `items` are renumbered to sections; `fixed` holds offsets by position.
  Skyline(std::vector<PlacementItem> items, std::vector<std::optional<std::int64_t>> fixed);

  std::int32_t sections() const { return static_cast<std::int32_t>(height_.size()); }
  const std::vector<PlacementItem>& items() const { return items_; }
  const PlacementItem& item(std::int32_t id) const { return items_[at(id)]; }
  bool is_fixed(std::int32_t id) const { return fixed_[at(id)].has_value(); }
  std::int64_t height(std::int32_t section) const { return height_[at(section)]; }
  /// Lowest offset that the heights (and fixed buffers in the way) leave for an unplaced buffer.
  std::int64_t lowest(std::int32_t id) const { return lowest_[at(id)]; }
  const std::vector<std::int64_t>& offsets() const { return offset_; }

  Part everything() const;
  /// The unplaced buffers of `part`, cut where none of them is live on both sides: each is a problem of its own.
  std::vector<Part> split(const Part& part) const;
  /// True where the buffer at `offset` would rest on the floor, on a buffer, or is fixed there. A layout whose buffers
  /// all rest on something exists wherever any layout does: let everything fall.
  bool rests(std::int32_t id, std::int64_t offset) const;
  /// True where an identical buffer with a smaller number is unplaced: that one goes first.
  bool waits_for_twin(std::int32_t id) const { return twin_[at(id)] >= 0 && !placed_[at(twin_[at(id)])]; }
  /// False where a fixed buffer of the part can no longer lie where it is fixed.
  bool fixed_are_free(const Part& part) const;
  Key key(const Part& part) const;

  /// Both lift the lowest offsets of the unplaced buffers of `part` that meet the change.
  void put(std::int32_t id, std::int64_t offset, const Part& part);
  void raise(std::int32_t section, std::int64_t height, const Part& part);
  std::size_t mark() const { return trail_.size(); }
  void undo(std::size_t mark);

 private:
  enum class Change : std::int32_t { kHeight, kTop, kLowest, kPlaced };
  struct Entry {
    Change change;
    std::int32_t index;
    std::int64_t before;
  };
  static std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }
  void cut_sections();
  void find_twins();
  void lift(std::int32_t id, std::int64_t height);
  std::int64_t above_fixed(std::int32_t id, std::int64_t offset) const;

  std::vector<PlacementItem> items_;
  std::vector<std::optional<std::int64_t>> fixed_;
  Ids fixed_ids_;
  Ids twin_;  // the last identical buffer before, or -1
  std::vector<std::int64_t> height_;
  std::vector<std::int64_t> top_;  // end of the highest buffer: below the height where bytes stay empty
  std::vector<std::int64_t> lowest_;
  std::vector<std::int64_t> offset_;
  std::vector<char> placed_;
  std::vector<Entry> trail_;
};

}  // namespace thimble
