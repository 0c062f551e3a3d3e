#include "place_orders.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <tuple>

namespace thimble {
namespace {

using Items = std::vector<PlacementItem>;
using Order = std::vector<std::size_t>;

template <class Key>
Order sorted_by(const Items& items, Key key) {
  using K = decltype(key(items.front()));
  std::vector<std::pair<K, std::size_t>> keyed;
  keyed.reserve(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) keyed.emplace_back(key(items[i]), i);
  std::sort(keyed.begin(), keyed.end());  // the position is part of the key: no ties are left to the library
  Order order;
  order.reserve(items.size());
  for (const auto& [k, i] : keyed) order.push_back(i);
  return order;
}

std::int32_t length(const PlacementItem& b) { return b.end - b.begin; }
// A double, because size times length may exceed 64 bits; one IEEE product is the same everywhere.
double area(const PlacementItem& b) { return static_cast<double>(b.size) * static_cast<double>(length(b)); }
int size_class(const PlacementItem& b) { return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(b.size))); }

Order by_size(const Items& items) {
  return sorted_by(items, [](const PlacementItem& b) { return std::tuple(-b.size, -length(b)); });
}
Order by_size_then_begin(const Items& items) {
  return sorted_by(items, [](const PlacementItem& b) { return std::tuple(-b.size, b.begin); });
}
Order by_size_class_then_begin(const Items& items) {
  return sorted_by(items, [](const PlacementItem& b) { return std::tuple(-size_class(b), b.begin, -b.size); });
}
Order by_first_use(const Items& items) {
  return sorted_by(items, [](const PlacementItem& b) { return std::tuple(b.begin, -b.end, -b.size); });
}
Order by_first_use_then_size(const Items& items) {
  return sorted_by(items, [](const PlacementItem& b) { return std::tuple(b.begin, -b.size); });
}
Order by_last_use(const Items& items) {
  return sorted_by(items, [](const PlacementItem& b) { return std::tuple(-b.end, b.begin, -b.size); });
}
Order by_area(const Items& items) {
  return sorted_by(items, [](const PlacementItem& b) { return std::tuple(-area(b), -b.size); });
}
Order by_lifetime(const Items& items) {
  return sorted_by(items, [](const PlacementItem& b) { return std::tuple(-length(b), -b.size); });
}
Order by_lifetime_class_then_size(const Items& items) {
  return sorted_by(items, [](const PlacementItem& b) {
    return std::tuple(-std::bit_width(static_cast<std::uint32_t>(length(b))), -b.size, b.begin);
  });
}

/// Bytes live at the fullest slot of each buffer's lifetime: buffers of the crowded steps first, when room is still
/// whole; what lives only in quiet steps fits afterwards anywhere.
std::vector<std::int64_t> crowding(const Items& items) {
  std::int32_t slots = 0;
  for (const PlacementItem& b : items) slots = std::max(slots, b.end);
  std::vector<std::vector<std::int64_t>> table(1, std::vector<std::int64_t>(static_cast<std::size_t>(slots) + 1));
  for (const PlacementItem& b : items) {
    table[0][static_cast<std::size_t>(b.begin)] += b.size;
    table[0][static_cast<std::size_t>(b.end)] -= b.size;
  }
  std::partial_sum(table[0].begin(), table[0].end(), table[0].begin());
  for (std::size_t width = 1; 2 * width <= table[0].size(); width *= 2) {  // sparse table for range maxima
    const auto& last = table.back();
    std::vector<std::int64_t> next(last.size() - width);
    for (std::size_t i = 0; i < next.size(); ++i) next[i] = std::max(last[i], last[i + width]);
    table.push_back(std::move(next));
  }
  std::vector<std::int64_t> result;
  result.reserve(items.size());
  for (const PlacementItem& b : items) {
    const std::size_t width = std::bit_floor(static_cast<std::uint32_t>(length(b)));
    const auto& row = table[static_cast<std::size_t>(std::countr_zero(width))];
    result.push_back(std::max(row[static_cast<std::size_t>(b.begin)], row[static_cast<std::size_t>(b.end) - width]));
  }
  return result;
}

Order by_crowding_then_size(const Items& items) {
  const auto crowd = crowding(items);
  return sorted_by(items, [&](const PlacementItem& b) {
    return std::tuple(-crowd[static_cast<std::size_t>(&b - items.data())], -b.size, b.begin);
  });
}
Order by_crowding_then_lifetime(const Items& items) {
  const auto crowd = crowding(items);
  return sorted_by(items, [&](const PlacementItem& b) {
    return std::tuple(-crowd[static_cast<std::size_t>(&b - items.data())], -length(b), -b.size);
  });
}

}  // namespace

const std::vector<PlacementOrder>& placement_orders() {
  static const std::vector<PlacementOrder> orders = {
      {"size, tightest hole", true, by_size},
      {"size, lowest hole", false, by_size},
      {"lifetime, lowest hole", false, by_lifetime},
      {"first use, tightest hole", true, by_first_use},
      {"area, lowest hole", false, by_area},
      {"area, tightest hole", true, by_area},
      {"crowding then size, lowest hole", false, by_crowding_then_size},
      {"crowding then size, tightest hole", true, by_crowding_then_size},
      {"crowding then lifetime, lowest hole", false, by_crowding_then_lifetime},
      {"crowding then lifetime, tightest hole", true, by_crowding_then_lifetime},
      {"first use, lowest hole", false, by_first_use},
      {"last use, lowest hole", false, by_last_use},
      {"last use, tightest hole", true, by_last_use},
      {"lifetime, tightest hole", true, by_lifetime},
      {"size then first use, lowest hole", false, by_size_then_begin},
      {"size then first use, tightest hole", true, by_size_then_begin},
      {"size class then first use, lowest hole", false, by_size_class_then_begin},
      {"size class then first use, tightest hole", true, by_size_class_then_begin},
      {"first use then size, lowest hole", false, by_first_use_then_size},
      {"first use then size, tightest hole", true, by_first_use_then_size},
      {"lifetime class then size, lowest hole", false, by_lifetime_class_then_size},
      {"lifetime class then size, tightest hole", true, by_lifetime_class_then_size},
  };
  return orders;
}

}  // namespace thimble
