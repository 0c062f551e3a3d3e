// What it costs to make a tensor again while others are held: each op once where that fits, otherwise as it is made
// from nothing. And paths made cheaper by holding instead.
#include <algorithm>
#include <cmath>

#include "remat_unwind.h"

namespace thimble::remat {
namespace {

constexpr std::int64_t kFinerRooms = 50;  // the room to make a tensor from nothing is found up to this part of it
constexpr double kWorthHolding = 0.3;     // of the mean price in a path: cheaper sheds stay, to save time

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

}  // namespace

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

// The same for a required tensor; from nothing where only that fits. Below `cap`, or infinite.
double Unwinder::price(std::int32_t tensor, const Set& required, std::int64_t held, double cap) {
  Set rest = required | task_.rest;
  rest.remove(tensor);
  const std::int64_t room = task_.room - held + size(tensor);
  const Alone& alone = alone_[index(tensor)];
  const bool is_possible = alone.room <= room && alone.cost < cap;
  const double cost = remake(tensor, rest, room, is_possible ? alone.cost : cap, nullptr);
  return is_possible ? std::min(cost, alone.cost) : cost;
}

// The least room that the eager search does with, from the room of the inputs upwards.
void Unwinder::make_alone(std::int32_t tensor) {
  Task task;
  task.goal.add(tensor);
  task.room = graph_.need[index(maker(tensor))];
  for (const std::int32_t t : graph_.in[index(maker(tensor))]) task.room = std::max(task.room, alone_[index(t)].room);
  for (; task.room <= budget_ && effort_ <= effort_limit_; task.room += task.room / kFinerRooms + 1) {
    std::optional<Path> path = search(task, {.is_eager = true});
    if (!path) continue;
    Alone& alone = alone_[index(tensor)];
    alone.cost = hold(task, *path);
    alone.room = task.room;
    alone.path = std::move(*path);
    const auto extra = [&](std::int32_t t) { return alone_[index(t)].room - size(t); };
    const auto after = [&](std::int32_t a, std::int32_t b) { return extra(a) < extra(b); };
    if (size(tensor) > 0) by_room_.insert(std::upper_bound(by_room_.begin(), by_room_.end(), tensor, after), tensor);
    return;
  }
}

// A path step by step. `held` is while an op runs, or before a shed.
struct Unwinder::Trace {
  std::vector<std::int64_t> held;
  std::vector<Set> required;       // before a shed
  std::vector<double> price;       // infinite where it no longer fits
  std::vector<std::size_t> until;  // by shed: the op that reads the tensor next
  std::vector<std::size_t> sheds;
  std::vector<char> is_gone;
  double sum = 0;  // of prices
};

Unwinder::Trace Unwinder::trace(const Path& path) {
  const std::size_t n = path.size();
  Trace trace{
      std::vector<std::int64_t>(n), std::vector<Set>(n), std::vector<double>(n), std::vector<std::size_t>(n, 0), {},
      std::vector<char>(n, 0)};
  std::vector<std::size_t> shed_at(graph_.bytes.size(), n);
  State s = start();
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t id = path[i].id;
    if (path[i].kind == Step::shed) {
      trace.held[i] = s.held;
      trace.required[i] = s.required;
      trace.price[i] = price(id, s.required, s.held, HUGE_VAL);
      trace.sheds.push_back(i);
      shed_at[index(id)] = i;
    } else {
      trace.held[i] = held_while(id, s);
      trace.price[i] = cost_of(id);
      for (const std::int32_t t : graph_.in[index(id)]) {
        if (shed_at[index(t)] < n) trace.until[shed_at[index(t)]] = i;
        shed_at[index(t)] = n;
      }
    }
    trace.sum += trace.price[i];
    apply(path[i], s);
  }
  return trace;
}

// Holds a tensor instead of shedding it in step `i`, where that fits and is cheaper with all that is shed meanwhile.
bool Unwinder::try_to_hold(std::size_t i, const Path& path, Trace& trace) {
  const std::int32_t tensor = path[i].id;
  for (std::size_t j = i + 1; j < trace.until[i]; ++j)
    if (path[j].kind != Step::shed && trace.held[j] + size(tensor) > task_.room) return false;
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

// Takes sheds out of a path, those first that cost most per byte and step. Returns the price of the path.
double Unwinder::hold(const Task& task, Path& path) {
  task_ = task;
  Trace t = trace(path);
  const auto score = [&](std::size_t i) {
    const auto steps = static_cast<double>(std::max(t.until[i], i + 1) - i);
    return t.price[i] / (static_cast<double>(size(path[i].id)) * steps);
  };
  std::vector<std::pair<double, std::size_t>> order;
  for (const std::size_t i : t.sheds) order.emplace_back(-score(i), i);
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
