// The search for the offsets of one group of buffers: every order of the portfolio, then a short exact
// search where the group is small, then repair of the best order.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "nesting.h"
#include "occupancy.h"
#include "thimble/units.h"

namespace thimble {

class GroupSearch {
 public:
  /// `fixed` is indexed by PlacementItem::index. Both references have to outlive the search.
  GroupSearch(const PlacementGroup& group, const std::vector<std::optional<Offset>>& fixed);

  /// Searches until the peak is at most `target` or the effort is spent. Effort is counted in buffers placed, never
  /// in time, so the same problem gives the same bytes on every machine.
  void run(std::int64_t target);
  /// The first part of run: the orders alone.
  void run_orders(std::int64_t target);

  std::int64_t peak() const { return peak_; }
  const std::string& made_by() const { return made_by_; }
  /// By position in the group, counted from the group's base.
  const std::vector<std::int64_t>& offsets() const { return best_; }

 private:
  /// One greedy pass, given up at the first buffer that ends at or above the best peak: returns its position in
  /// `order`, or the order's length where the pass went through and is the new best.
  std::size_t attempt(const std::vector<std::size_t>& order, bool tightest);
  std::int64_t place_fixed();
  void try_exact(std::int64_t target);
  void repair(std::vector<std::size_t> order, bool tightest, std::int64_t target, const std::string& name);

  const std::vector<PlacementItem>& items_;
  const std::vector<std::optional<Offset>>& fixed_;
  Occupancy taken_;
  std::vector<std::int64_t> offsets_;  // of the pass under way
  std::vector<std::int64_t> best_;
  std::int64_t peak_ = std::numeric_limits<std::int64_t>::max();
  const PlacementOrder* winner_ = nullptr;
  std::string made_by_;
  std::int64_t effort_left_ = 0;
};

}  // namespace thimble
