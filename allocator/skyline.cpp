#include "skyline.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace thimble {
namespace {

/// A bijection that spreads every bit over all others (the finalizer of SplitMix64, Steele et al. 2014).
std::uint64_t spread(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

void add(Skyline::Key& key, std::uint64_t kind, std::int32_t index, std::int64_t value) {
  const std::uint64_t name = spread(kind << 32U | static_cast<std::uint32_t>(index));
  key.low += spread(name ^ static_cast<std::uint64_t>(value));
  key.high += spread(spread(name + 1) + static_cast<std::uint64_t>(value));
}

}  // namespace

Skyline::Skyline(std::vector<PlacementItem> items, std::vector<std::optional<std::int64_t>> fixed)
    : items_(std::move(items)),
      fixed_(std::move(fixed)),
      twin_(items_.size(), -1),
      offset_(items_.size()),
      placed_(items_.size()) {
  cut_sections();
  find_twins();
  for (std::size_t i = 0; i < items_.size(); ++i)
    if (fixed_[i]) fixed_ids_.push_back(static_cast<std::int32_t>(i));
  lowest_.resize(items_.size());
  for (std::size_t i = 0; i < items_.size(); ++i)
    lowest_[i] = fixed_[i] ? *fixed_[i] : above_fixed(static_cast<std::int32_t>(i), 0);
}

/// A new section only where something begins after something ended: sets that grow into a larger one add nothing.
void Skyline::cut_sections() {
  struct Event {
    std::int32_t time;
    bool begins;
    std::size_t item;
  };
  std::vector<Event> events;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    events.push_back({items_[i].begin, true, i});
    events.push_back({items_[i].end, false, i});
  }
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) {  // half-open: ends come first
    return std::tuple(a.time, a.begins, a.item) < std::tuple(b.time, b.begins, b.item);
  });
  std::int32_t section = -1;
  bool ended = true;
  for (const Event& event : events) {
    if (event.begins && ended) ++section;
    ended = !event.begins;
    (event.begins ? items_[event.item].begin : items_[event.item].end) = section + (event.begins ? 0 : 1);
  }
  height_.assign(at(section + 1), 0);
  top_ = height_;
}

void Skyline::find_twins() {
  Ids order;
  for (std::size_t i = 0; i < items_.size(); ++i)
    if (!fixed_[i]) order.push_back(static_cast<std::int32_t>(i));
  const auto shape = [&](std::int32_t i) { return std::tuple(item(i).begin, item(i).end, item(i).size); };
  std::sort(order.begin(), order.end(),
            [&](std::int32_t a, std::int32_t b) { return std::pair(shape(a), a) < std::pair(shape(b), b); });
  for (std::size_t i = 1; i < order.size(); ++i)
    if (shape(order[i - 1]) == shape(order[i])) twin_[at(order[i])] = order[i - 1];
}

Skyline::Part Skyline::everything() const {
  Part part{0, sections(), {}};
  for (std::size_t i = 0; i < items_.size(); ++i) part.items.push_back(static_cast<std::int32_t>(i));
  return part;
}

std::vector<Skyline::Part> Skyline::split(const Part& part) const {
  // Per boundary before a section: how many unplaced buffers reach over it; per section: how many are live there.
  std::vector<std::int32_t> crossing(at(part.end - part.begin + 2));
  std::vector<std::int32_t> live(crossing.size());
  for (const std::int32_t id : part.items) {
    if (placed_[at(id)]) continue;
    const std::int32_t first = item(id).begin - part.begin;
    const std::int32_t last = item(id).end - part.begin;
    ++live[at(first)], --live[at(last)];
    ++crossing[at(first + 1)], --crossing[at(last)];
  }
  std::vector<Part> parts;
  std::vector<std::int32_t> part_of(crossing.size());
  for (std::int32_t s = 0; s < part.end - part.begin; ++s) {
    if (s > 0) live[at(s)] += live[at(s - 1)], crossing[at(s)] += crossing[at(s - 1)];
    if (live[at(s)] == 0) continue;
    if (crossing[at(s)] == 0) parts.push_back({s + part.begin, s + part.begin, {}});
    parts.back().end = s + part.begin + 1;
    part_of[at(s)] = static_cast<std::int32_t>(parts.size()) - 1;
  }
  for (const std::int32_t id : part.items)
    if (!placed_[at(id)]) parts[at(part_of[at(item(id).begin - part.begin)])].items.push_back(id);
  return parts;
}

bool Skyline::rests(std::int32_t id, std::int64_t offset) const {
  if (offset == 0 || is_fixed(id)) return true;
  const auto first = top_.begin() + item(id).begin;
  const auto last = top_.begin() + item(id).end;
  return std::find(first, last, offset) != last;
}

bool Skyline::fixed_are_free(const Part& part) const {
  if (fixed_ids_.empty()) return true;
  return std::all_of(part.items.begin(), part.items.end(),
                     [&](std::int32_t id) { return !is_fixed(id) || lowest(id) == *fixed_[at(id)]; });
}

Skyline::Key Skyline::key(const Part& part) const {
  Key key;
  for (const std::int32_t id : part.items) add(key, 1, id, 0);
  for (std::int32_t s = part.begin; s < part.end; ++s) {
    add(key, 2, s, height_[at(s)]);
    if (top_[at(s)] != height_[at(s)]) add(key, 3, s, top_[at(s)]);
  }
  return key;
}

/// The lowest offset from `offset` on at which the buffer meets no fixed one.
std::int64_t Skyline::above_fixed(std::int32_t id, std::int64_t offset) const {
  const PlacementItem& b = item(id);
  for (bool moved = true; moved;) {
    moved = false;
    for (const std::int32_t other : fixed_ids_) {
      const PlacementItem& f = item(other);
      const std::int64_t begin = *fixed_[at(other)];
      if (f.begin >= b.end || b.begin >= f.end || begin + f.size <= offset || offset + b.size <= begin) continue;
      offset = begin + f.size;
      moved = true;
    }
  }
  return offset;
}

void Skyline::lift(std::int32_t id, std::int64_t height) {
  if (lowest_[at(id)] >= height) return;
  trail_.push_back({Change::kLowest, id, lowest_[at(id)]});
  lowest_[at(id)] = is_fixed(id) ? height : above_fixed(id, height);
}

void Skyline::put(std::int32_t id, std::int64_t offset, const Part& part) {
  const PlacementItem& b = item(id);
  const std::int64_t end = offset + b.size;
  offset_[at(id)] = offset;
  placed_[at(id)] = 1;
  trail_.push_back({Change::kPlaced, id, 0});
  for (std::int32_t s = b.begin; s < b.end; ++s) {
    trail_.push_back({Change::kHeight, s, height_[at(s)]});
    trail_.push_back({Change::kTop, s, top_[at(s)]});
    height_[at(s)] = top_[at(s)] = end;
  }
  for (const std::int32_t other : part.items)
    if (!placed_[at(other)] && item(other).begin < b.end && b.begin < item(other).end) lift(other, end);
}

void Skyline::raise(std::int32_t section, std::int64_t height, const Part& part) {
  trail_.push_back({Change::kHeight, section, height_[at(section)]});
  height_[at(section)] = height;
  for (const std::int32_t other : part.items)
    if (item(other).begin <= section && section < item(other).end) lift(other, height);
}

void Skyline::undo(std::size_t mark) {
  for (; trail_.size() > mark; trail_.pop_back()) {
    const Entry& entry = trail_.back();
    switch (entry.change) {
      case Change::kHeight:
        height_[at(entry.index)] = entry.before;
        break;
      case Change::kTop:
        top_[at(entry.index)] = entry.before;
        break;
      case Change::kLowest:
        lowest_[at(entry.index)] = entry.before;
        break;
      case Change::kPlaced:
        placed_[at(entry.index)] = 0;
        break;
    }
  }
}

}  // namespace thimble
