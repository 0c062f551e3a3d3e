#include "remat_unwind.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_set>

namespace thimble::remat {
namespace {

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

}  // namespace

Unwinder::Unwinder(const Graph& graph, std::int64_t budget, std::int64_t effort_limit)
    : graph_(graph),
      budget_(budget),
      effort_(0),
      effort_limit_(effort_limit),
      level_(graph.cost.size(), 0),
      readers_(graph.bytes.size()),
      alone_(graph.bytes.size()) {
  double cost = 0, bytes = 1;
  for (const std::int32_t op : graph.order) {
    for (const std::int32_t t : graph.in[index(op)]) {
      readers_[index(t)].push_back(op);
      level_[index(op)] = std::max(level_[index(op)], level_[index(maker(t))] + 1);
    }
    cost += cost_of(op);
    for (const std::int32_t t : graph.out[index(op)]) bytes += static_cast<double>(size(t));
  }
  mean_price_ = cost / bytes;
  for (auto& ops : readers_)
    std::stable_sort(ops.begin(), ops.end(),
                     [&](std::int32_t a, std::int32_t b) { return level_[index(a)] > level_[index(b)]; });
  for (const std::int32_t op : graph.order)
    for (const std::int32_t t : graph.out[index(op)]) make_alone(t);
}

std::int64_t Unwinder::bytes(const Set& set) const {
  std::int64_t sum = 0;
  set.for_each([&](std::int32_t t) { sum += size(t); });
  return sum;
}

// The level of the highest pending op that reads a tensor; -1 where none does.
std::int32_t Unwinder::highest_reader(std::int32_t tensor, const Set& pending) const {
  for (const std::int32_t op : readers_[index(tensor)])
    if (pending.has(op)) return level_[index(op)];
  return -1;
}

bool Unwinder::is_awaited(std::int32_t op, const Set& pending) const {
  for (const std::int32_t t : graph_.out[index(op)])
    if (highest_reader(t, pending) >= 0) return true;
  return false;
}

// Bytes that undoing an op takes away.
std::int64_t Unwinder::gain(std::int32_t op, const Set& required) const {
  std::int64_t sum = 0;
  for (const std::int32_t t : graph_.out[index(op)]) sum += required.has(t) ? size(t) : 0;
  for (const std::int32_t t : graph_.in[index(op)]) sum -= required.has(t) || task_.rest.has(t) ? 0 : size(t);
  return sum;
}

// Bytes besides the rest while an op runs after which `s` is required.
std::int64_t Unwinder::held_while(std::int32_t op, const State& s) const {
  std::int64_t sum = s.held + graph_.workspace[index(op)];
  for (const auto* list : {&graph_.in[index(op)], &graph_.out[index(op)]})
    for (const std::int32_t t : *list) sum += s.required.has(t) || task_.rest.has(t) ? 0 : size(t);
  return sum;
}

// What is required before a step. False where the op does not fit.
bool Unwinder::apply(const Step& step, State& s) const {
  if (step.kind == Step::shed) {
    s.required.remove(step.id);
    s.held -= size(step.id);
    return true;
  }
  if (held_while(step.id, s) > task_.room) return false;
  s.held -= gain(step.id, s.required);
  for (const std::int32_t t : graph_.out[index(step.id)]) s.required.remove(t);
  for (const std::int32_t t : graph_.in[index(step.id)])
    if (!task_.rest.has(t)) s.required.add(t);
  if (step.kind == Step::undo) s.pending.remove(step.id);
  return true;
}

Unwinder::State Unwinder::start() const {
  State s;
  s.required = task_.goal;
  s.held = bytes(s.required);
  for (Set open = task_.goal; !open.empty();) {  // the highest first: what it reads is lower
    const std::int32_t op = maker(open.last());
    s.pending.add(op);
    for (const std::int32_t t : graph_.out[index(op)]) open.remove(t);
    for (const std::int32_t t : graph_.in[index(op)])
      if (!task_.rest.has(t)) open.add(t);
  }
  return s;
}

std::optional<Unwinder::Path> Unwinder::search(const Task& task, const Style& style) {
  task_ = task;
  style_ = style;
  steps_.clear();
  states_.assign(1, start());
  if (states_[0].held > task.room) return std::nullopt;
  while (!states_.empty() && !states_.front().pending.empty()) {
    if (effort_ > effort_limit_) return std::nullopt;
    advance();
  }
  if (states_.empty()) return std::nullopt;
  Path path;
  for (std::int32_t i = states_.front().last; i >= 0; i = steps_[index(i)].before)
    path.push_back(steps_[index(i)].step);
  std::reverse(path.begin(), path.end());
  return path;
}

double Unwinder::key_of(double cost, std::int64_t held) const {
  return cost + style_.byte_price * mean_price_ * static_cast<double>(held);
}

std::vector<Unwinder::Candidate> Unwinder::candidates() const {
  std::vector<Candidate> found;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const State& s = states_[i];
    Set ops;
    s.required.for_each([&](std::int32_t t) { ops.add(maker(t)); });
    (ops & s.pending).for_each([&](std::int32_t op) {
      if (is_awaited(op, s.pending) || held_while(op, s) > task_.room) return;
      Set pending = s.pending;
      pending.remove(op);
      found.push_back({key_of(s.cost, s.held - gain(op, s.required)), pending.hash(), i, op});
    });
  }
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.key, a.hash, a.from, a.op) < std::tie(b.key, b.hash, b.from, b.op);
  });
  return found;
}

// Every state by one op: the best for each set of pending ops. Twice the width before shedding, which reorders them.
void Unwinder::advance() {
  std::vector<State> next;
  std::unordered_set<std::size_t> seen;
  for (const Candidate& c : candidates()) {
    if (next.size() >= 2 * style_.width) break;
    if (!seen.insert(c.hash).second) continue;
    next.push_back(states_[c.from]);
    State& s = next.back();
    take(s, {Step::undo, c.op});
    style_.is_eager ? shed_eagerly(s) : shed_above_threshold(s);
    s.key = key_of(s.cost, s.held);
  }
  std::stable_sort(next.begin(), next.end(), [](const State& a, const State& b) { return a.key < b.key; });
  if (next.size() > style_.width) next.resize(style_.width);
  effort_ += static_cast<std::int64_t>(next.size());
  states_ = std::move(next);
}

void Unwinder::take(State& s, const Step& step) {
  apply(step, s);
  steps_.push_back({s.last, step});
  s.last = static_cast<std::int32_t>(steps_.size()) - 1;
}

void Unwinder::shed_eagerly(State& s) {
  for (bool again = true; again;) {
    again = false;
    for (const std::int32_t t : by_room_) {
      if (alone_[index(t)].room - size(t) > task_.room - s.held) break;
      if (s.required.has(t) && highest_reader(t, s.pending) >= 0) take(s, {Step::shed, t});
    }
    const Set required = s.required;
    required.for_each([&](std::int32_t t) {
      const std::int32_t op = maker(t);
      if (again || highest_reader(t, s.pending) < 0 || gain(op, s.required) <= 0) return;
      if (held_while(op, s) > task_.room) return;
      take(s, {Step::undo_extra, op});
      again = true;
    });
  }
}

void Unwinder::shed_above_threshold(State& s) {
  const auto limit = static_cast<std::int64_t>(style_.threshold * static_cast<double>(task_.room));
  while (s.held > limit) {
    const Shedding best = best_shedding(s);
    if (best.score <= 0) return;
    s.cost += best.cost;
    take(s, best.step);
  }
}

// Many bytes, for long, at little cost. How long: levels down to the next reader. Undoing one op is looked at first: it
// is often better than all that making the whole tensor takes, and then there is no need to know that.
Unwinder::Shedding Unwinder::best_shedding(const State& s) {
  struct Choice {
    std::int32_t tensor, reader;
  };
  std::vector<Choice> choices;
  std::int32_t top = 0;
  s.required.for_each([&](std::int32_t t) {
    const std::int32_t reader = highest_reader(t, s.pending);
    if (reader < 0) return;
    choices.push_back({t, reader});
    top = std::max(top, level_[index(maker(t))]);
  });
  const auto levels = [&](const Choice& c) { return static_cast<double>(std::max(1, top - c.reader + 1)); };
  Shedding best;
  for (const Choice& c : choices) {
    const std::int32_t op = maker(c.tensor);
    const double score = static_cast<double>(gain(op, s.required)) * levels(c) / cost_of(op);
    if (score <= best.score || held_while(op, s) > task_.room) continue;
    best = {score, cost_of(op), {Step::undo_extra, op}};
  }
  for (const Choice& c : choices) {
    const double worth = static_cast<double>(size(c.tensor)) * levels(c);
    const double cost = price(c.tensor, s.required, s.held, best.score > 0 ? worth / best.score : HUGE_VAL);
    if (worth / cost > best.score) best = {worth / cost, cost, {Step::shed, c.tensor}};
  }
  return best;
}

}  // namespace thimble::remat
