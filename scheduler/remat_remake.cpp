// What it costs to make a tensor again: the table of makings from nothing, each op once beside what is there, and paths
// made cheaper by holding instead.
#include <algorithm>
#include <cmath>
#include <utility>

#include "remat_unwind.h"

namespace thimble::remat {
namespace {

constexpr std::int64_t kFinerRooms = 50;    // the least room is looked for in steps of this part of it,
constexpr std::int64_t kFinestRooms = 500;  // then found up to this part
constexpr std::size_t kWidthOfRooms = 8;
constexpr double kFirstCap = 1.0 / 8;  // of all ancestors once: what one shed tensor may cost at least,
constexpr double kNextCap = 4;         // and so many times more
constexpr int kCaps = 40;
constexpr std::size_t kManyAncestors = 170;  // for more, paths are not searched for by cost: too long, little gained
constexpr double kThreshold = 0.8;
constexpr double kBytePrice = 10;  // of what a path costs that is known, for the whole room
constexpr std::size_t kWidthByCost = 4;
constexpr double kRounding = 1 + 1e-9;
constexpr double kWorthHolding = 1e-4;  // of the mean price in a path: cheaper sheds stay, to save time

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

}  // namespace

// The cost of making `tensor` from nothing.
double Unwinder::alone(std::int32_t tensor, std::int64_t room) const {
  double cost = HUGE_VAL;
  for (const Making& making : table_[index(tensor)]) {
    if (making.room > room) break;
    cost = making.cost;
  }
  return cost;
}

// The cost of making `tensor` beside `rest`, each op once; infinite where that does not fit or costs `cap`. Appends the
// ops from the end.
double Unwinder::remake(std::int32_t tensor, const Set& rest, std::int64_t room, double cap, Sequence* ops) {
  Set made;
  made.add(tensor);
  std::int64_t held = size(tensor);
  double cost = 0;
  for (std::int32_t open = 1, t = tensor; open > 0;) {
    t = made.last_up_to(t);  // what it reads is lower
    const std::int32_t op = maker(t);
    ++effort_;
    cost += cost_of(op);
    if (cost >= cap) return HUGE_VAL;
    std::int64_t beside = graph_.workspace[index(op)], gone = 0;
    for (const std::int32_t x : graph_.out[index(op)]) {
      if (made.has(x)) {
        gone += size(x);
        made.remove(x);
        --open;
      } else if (!rest.has(x)) {
        beside += size(x);
      }
    }
    for (const std::int32_t x : graph_.in[index(op)]) {
      if (made.has(x) || rest.has(x)) continue;
      made.add(x);
      held += size(x);
      ++open;
    }
    if (held + beside > room) return HUGE_VAL;
    held -= gone;
    if (ops) ops->push_back(op);
  }
  return cost;
}

// The cost of making a required tensor again beside the others. Below `cap`, or infinite.
double Unwinder::price(std::int32_t tensor, const Set& required, std::int64_t held, double cap) {
  const std::int64_t room = room_ - held + size(tensor);
  const double cost = alone(tensor, room);
  if (!style_.makes_beside) return cost < cap ? cost : HUGE_VAL;
  Set rest = required;
  rest.remove(tensor);
  const double beside = remake(tensor, rest, room, std::min(cost, cap), nullptr);
  return std::min(beside, cost < cap ? cost : HUGE_VAL);
}

// A second time it keeps the least rooms, which depend on each other only.
void Unwinder::fill_table(const Grid& grid) {
  for (const std::int32_t op : graph_.order)
    for (const std::int32_t t : graph_.out[index(op)]) {
      if (is_spent()) return;
      make_alone(t, grid);
    }
}

// The least room that shedding whatever may be shed does with, from the room of the inputs upwards.
std::optional<Unwinder::Path> Unwinder::least_room(std::int32_t tensor, std::int64_t& room) {
  Set goal;
  goal.add(tensor);
  const Style style{.width = kWidthOfRooms};
  std::int64_t low = graph_.need[index(maker(tensor))];
  for (const std::int32_t t : graph_.in[index(maker(tensor))]) {
    if (table_[index(t)].empty()) return std::nullopt;
    low = std::max(low, table_[index(t)].front().room);
  }
  if (low > budget_) return std::nullopt;
  room = low;
  std::optional<Path> path = search(goal, room, style);
  while (!path) {
    if (room == budget_ || is_spent()) return std::nullopt;
    low = room + 1;
    room = std::min(budget_, room + room / kFinerRooms + 1);
    path = search(goal, room, style);
  }
  while (room - low > room / kFinestRooms) {
    const std::int64_t middle = low + (room - low) / 2;
    std::optional<Path> found = search(goal, middle, style);
    found ? room = middle : low = middle + 1;
    if (found) path = std::move(found);
  }
  return path;
}

// For rooms from the least upwards: paths whose dearest shed tensor costs less and less, and for what has few ancestors
// one found by cost.
void Unwinder::make_alone(std::int32_t tensor, const Grid& grid) {
  auto& makings = table_[index(tensor)];
  std::int64_t room = makings.empty() ? 0 : makings.front().room;
  std::optional<Path> first = makings.empty() ? least_room(tensor, room) : std::move(makings.front().path);
  if (!first) return;
  makings.clear();
  Set goal;
  goal.add(tensor);
  const double once = once_[index(tensor)];
  const bool is_searched_by_cost = grid.searches_by_cost && ancestors_[index(tensor)].count() <= kManyAncestors;
  const auto cap = [&](int i) { return kFirstCap * once * std::pow(kNextCap, i); };
  double least = HUGE_VAL;
  for (int caps = kCaps;;
       room = std::min(budget_, static_cast<std::int64_t>(static_cast<double>(room) * grid.ratio) + 1)) {
    room_ = room;
    style_ = {};
    Path best;
    const auto offer = [&](std::optional<Path> path) {
      if (!path) return false;
      const double cost = hold(goal, *path);
      if (cost >= least) return true;
      least = cost;
      best = std::move(*path);
      return true;
    };
    if (first) offer(std::exchange(first, std::nullopt));
    Sequence ops;
    if (remake(tensor, {}, room, HUGE_VAL, &ops) < HUGE_VAL) {
      Path path;
      for (const std::int32_t op : ops) path.push_back({Step::undo, op});
      offer(std::move(path));
    } else {
      while (caps > 0 && cap(caps - 1) >= least) --caps;
      while (caps > 0 && offer(search(goal, room, {.most = cap(caps - 1)}))) --caps;
      ++caps;  // the last one failed here; with more room it may not
      if (is_searched_by_cost)
        offer(search(goal, room, {kThreshold, HUGE_VAL, kBytePrice * least / static_cast<double>(room), kWidthByCost},
                     least));
    }
    if (!best.empty()) makings.push_back({room, least, std::move(best)});
    if (least <= once * kRounding || room >= budget_ || is_spent()) return;
  }
}

Unwinder::Trace Unwinder::trace(const Set& goal, const Path& path) {
  const std::size_t n = path.size();
  Trace trace{
      std::vector<std::int64_t>(n), std::vector<Set>(n), std::vector<double>(n), std::vector<std::size_t>(n, 0), {},
      std::vector<char>(n, 0)};
  std::vector<std::size_t> shed_at(graph_.bytes.size(), n);
  State s = state_of(goal);
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t id = path[i].id;
    if (path[i].kind == Step::shed) {
      trace.held[i] = s.held;
      trace.required[i] = s.required;
      trace.price[i] = price(id, s.required, s.held, HUGE_VAL);
      trace.until[i] = i;
      trace.sheds.push_back(i);
      shed_at[index(id)] = i;
      flip(id, s);
    } else {
      trace.held[i] = held_while(id, s);
      trace.price[i] = cost_of(id);
      for (const std::int32_t t : graph_.out[index(id)])
        if (s.required.has(t)) flip(t, s);
      for (const std::int32_t t : graph_.in[index(id)]) {
        if (shed_at[index(t)] < n) trace.until[shed_at[index(t)]] = i;
        shed_at[index(t)] = n;
        if (!s.required.has(t)) flip(t, s);
      }
    }
    trace.sum += trace.price[i];
  }
  return trace;
}

// Holds a tensor instead of shedding it in step `i`, where that fits and is cheaper with all that is shed meanwhile.
bool Unwinder::try_to_hold(std::size_t i, const Path& path, Trace& trace) {
  const std::int32_t tensor = path[i].id;
  for (std::size_t j = i + 1; j < trace.until[i]; ++j)
    if (path[j].kind != Step::shed && trace.held[j] + size(tensor) > room_) return false;
  double change = -trace.price[i];
  std::vector<std::pair<std::size_t, double>> prices;
  for (std::size_t j = i + 1; j < trace.until[i]; ++j) {
    if (path[j].kind != Step::shed || trace.is_gone[j]) continue;
    Set required = trace.required[j];
    required.add(tensor);
    const double cap = trace.price[j] - change;
    prices.emplace_back(j, price(path[j].id, required, trace.held[j] + size(tensor), cap));
    change += prices.back().second - trace.price[j];
    if (!(change < 0)) return false;
  }
  trace.is_gone[i] = 1;
  trace.sum += change;
  for (std::size_t j = i + 1; j < trace.until[i]; ++j) {
    trace.held[j] += size(tensor);
    trace.required[j].add(tensor);
  }
  for (const auto& [j, cost] : prices) trace.price[j] = cost;
  return true;
}

// Takes sheds out of a path for `room_`, those first that cost most per byte and step. Returns the price of the path.
double Unwinder::hold(const Set& goal, Path& path) {
  Trace t = trace(goal, path);
  const auto score = [&](std::size_t i) {
    return t.price[i] / (static_cast<double>(size(path[i].id)) * static_cast<double>(t.until[i] - i));
  };
  std::vector<std::pair<double, std::size_t>> order;
  for (const std::size_t i : t.sheds)
    if (t.until[i] > i) order.emplace_back(-score(i), i);
  std::sort(order.begin(), order.end());
  for (const auto& [unused, i] : order)
    if (t.price[i] * static_cast<double>(t.sheds.size()) >= kWorthHolding * t.sum) try_to_hold(i, path, t);
  Path left;
  for (std::size_t i = 0; i < path.size(); ++i)
    if (!t.is_gone[i]) left.push_back(path[i]);
  path = std::move(left);
  return t.sum;
}

}  // namespace thimble::remat
