#include "group_search.h"

#include <algorithm>

#include "exact_search.h"

namespace thimble {
namespace {

// Buffers placed while repairing one group. At 1-6 microseconds each this bounds what repair adds to a plan's time;
// small groups get less, because they are planned by the hundred.
constexpr std::int64_t kRepairEffort = 100'000;
constexpr std::int64_t kRepairPasses = 200;
// Some ten milliseconds, for the target only: what the search does not see at once it seldom sees soon.
constexpr std::size_t kExactBuffers = 500;
constexpr std::int64_t kExactNodes = 10'000;

std::int32_t slot_count(const std::vector<PlacementItem>& items) {
  std::int32_t slots = 1;
  for (const PlacementItem& b : items) slots = std::max(slots, b.end);
  return slots;
}

}  // namespace

GroupSearch::GroupSearch(const PlacementGroup& group, const std::vector<std::optional<Offset>>& fixed)
    : items_(group.items), fixed_(fixed), taken_(slot_count(group.items)), offsets_(group.items.size()) {}

std::int64_t GroupSearch::place_fixed() {
  std::int64_t peak = 0;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const PlacementItem& b = items_[i];
    const std::optional<Offset>& fixed = fixed_[b.index];
    if (!fixed) continue;
    taken_.insert(b.begin, b.end, fixed->value, b.size);
    offsets_[i] = fixed->value;
    peak = std::max(peak, fixed->value + b.size);
  }
  return peak;
}

std::size_t GroupSearch::attempt(const std::vector<std::size_t>& order, bool tightest) {
  taken_.clear();
  std::int64_t peak = place_fixed();
  for (std::size_t at = 0; at < order.size(); ++at) {
    const std::size_t i = order[at];
    const PlacementItem& b = items_[i];
    if (fixed_[b.index]) continue;
    --effort_left_;
    offsets_[i] = tightest ? taken_.tightest_hole(b.begin, b.end, b.size) : taken_.lowest_hole(b.begin, b.end, b.size);
    peak = std::max(peak, offsets_[i] + b.size);
    if (peak >= peak_) return at;
    taken_.insert(b.begin, b.end, offsets_[i], b.size);
  }
  peak_ = peak;
  best_ = offsets_;
  return order.size();
}

/// The buffer that found no room below the best peak is taken earlier, half way to the front, and the pass repeated.
/// (Squeaky wheel optimization: Joslin and Clements, JAIR 10, 1999.)
void GroupSearch::repair(std::vector<std::size_t> order, bool tightest, std::int64_t target, const std::string& name) {
  while (effort_left_ > 0 && peak_ > target) {
    const std::size_t failed = attempt(order, tightest);
    if (failed == order.size()) {
      made_by_ = name + ", repaired";
      continue;
    }
    if (failed == 0) return;  // nothing can be taken before it
    const auto from = order.begin() + static_cast<std::ptrdiff_t>(failed);
    std::rotate(order.begin() + static_cast<std::ptrdiff_t>(failed / 2), from, from + 1);
  }
}

void GroupSearch::run_orders(std::int64_t target) {
  for (const PlacementOrder& order : placement_orders()) {
    if (attempt(order.sorted(items_), order.tightest) == items_.size()) {
      winner_ = &order;
      made_by_ = order.name;
    }
    if (peak_ <= target) return;
  }
}

void GroupSearch::try_exact(std::int64_t target) {
  std::vector<std::optional<std::int64_t>> fixed;
  for (const PlacementItem& b : items_)
    fixed.push_back(fixed_[b.index] ? std::optional(fixed_[b.index]->value) : std::nullopt);
  ExactSearch search(items_, fixed);
  if (search.place(target, kExactNodes) != ExactSearch::Answer::kPlaced) return;
  best_ = search.offsets();
  peak_ = target;
  made_by_ = "exact search";
}

void GroupSearch::run(std::int64_t target) {
  run_orders(target);
  if (peak_ <= target) return;
  if (items_.size() <= kExactBuffers) try_exact(target);
  if (peak_ <= target) return;
  effort_left_ = std::min(kRepairEffort, kRepairPasses * static_cast<std::int64_t>(items_.size()));
  repair(winner_->sorted(items_), winner_->tightest, target, std::string(winner_->name));
}

}  // namespace thimble
