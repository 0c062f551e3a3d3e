// The successors of a resident set: run one op, freeing first just enough of what it does not read.
#pragma once

#include <algorithm>

#include "remat_state.h"

namespace thimble::remat {

template <int W>
struct Successor {
  TensorSet<W> resident;
  std::int32_t op = 0;
  Cost spent = 0;
  Cost to_come = 0;  ///< lower bound: what has to run at least once
  Cost forced = 0;   ///< and what the budget forces on top
  Cost bound() const { return spent + to_come + forced; }
};

template <int W>
class Expander {
 public:
  using Set = TensorSet<W>;
  Expander(const Graph& graph, std::int64_t budget) : graph_(graph), budget_(budget), view_(graph, budget) {}

  /// A state as the search keeps it: without what is useless to schedules that cost at most `cap` in all. Its bound may
  /// exceed the cap.
  Successor<W> settle(Set resident, std::int32_t op, Cost spent, Cost cap);

  /// Calls f(Successor) for every successor whose bound is within the cap; where one of them is as good as any, only
  /// for that one.
  template <class F>
  void expand(const Set& resident, Cost spent, Cost cap, F f);

  /// States looked at. Past the limit expand() stops half way and is_spent() says so.
  std::int64_t looked_at() const { return looked_at_ + choices_ / kChoicesPerState; }
  void limit(std::int64_t states) { limit_ = states; }
  bool is_spent() const { return looked_at() > limit_; }
  /// At most so many ways to make room for an op: for searches that prove nothing.
  void limit_evictions(std::int64_t sets) { most_sets_ = sets; }

  bool reaches_goal(const Set& resident) const { return resident.contains(view_.goal()); }

 private:
  template <class F>
  void evict(const Set& resident, std::int32_t op, std::int64_t excess, Cost slack, F f);
  template <class F>
  void choose(std::size_t index, std::int64_t excess, Cost slack, const Set& resident, F& f);
  bool is_free_step(std::int32_t op, const Set& before, const Set& after, Cost slack) const;

  struct Candidate {
    std::int32_t tensor;
    std::int64_t bytes, rest;  // of it and those after it
    Cost cost;                 // that freeing it adds for sure
  };
  static constexpr std::int64_t kChoicesPerState = 32;  // what they cost beside each other

  const Graph& graph_;
  std::int64_t budget_;
  StateView<W> view_;
  std::int64_t looked_at_ = 0, choices_ = 0, limit_ = INT64_MAX, sets_ = 0, most_sets_ = INT64_MAX;
  std::vector<char> possible_;
  Needs<W> needs_;
  std::vector<Candidate> candidates_;
};

template <int W>
Successor<W> Expander<W>::settle(Set resident, std::int32_t op, Cost spent, Cost cap) {
  ++looked_at_;
  view_.look_at(resident);
  Successor<W> s{resident, op, spent, view_.needs().cost, 0};
  if (s.bound() > cap) return s;
  s.resident = resident - view_.useless(resident, cap - s.bound());
  s.forced = view_.forced_recomputation(s.resident);
  return s;
}

// Running `op` now is as good as running it later: it has to run, it fits, and what it makes takes no more room than
// those of its inputs that every schedule within the cap holds until it runs and nobody reads afterwards.
template <int W>
bool Expander<W>::is_free_step(std::int32_t op, const Set& before, const Set& after, Cost slack) const {
  if (!needs_.ops[static_cast<std::size_t>(op)]) return false;
  std::int64_t grows = view_.bytes(view_.out(op) - before);
  ((view_.in(op)&before) - after).for_each([&](std::int32_t t) {
    bool is_held = true;
    for (std::int32_t p : graph_.producers[static_cast<std::size_t>(t)])
      is_held &= !needs_.ops[static_cast<std::size_t>(p)] && graph_.cost[static_cast<std::size_t>(p)] > slack;
    if (is_held) grows -= graph_.bytes[static_cast<std::size_t>(t)];
  });
  return grows <= 0;
}

template <int W>
template <class F>
void Expander<W>::expand(const Set& resident, Cost spent, Cost cap, F f) {
  view_.look_at(resident);
  needs_ = view_.needs();
  const Cost slack = cap - spent - needs_.cost;
  view_.useless(resident, slack);
  possible_ = view_.possible();
  const std::int64_t room = budget_ - view_.bytes(resident);
  std::vector<Successor<W>> found;
  for (std::int32_t op = 0; op < graph_.ops(); ++op) {
    const auto o = static_cast<std::size_t>(op);
    if (is_spent()) return;
    if (!possible_[o] || graph_.need[o] > budget_ || !resident.contains(view_.in(op)) ||
        resident.contains(view_.out(op)))
      continue;
    const auto arrive = [&](const Set& left) {
      Successor<W> s = settle(left | view_.out(op), op, spent + graph_.cost[o], cap);
      if (s.bound() <= cap) found.push_back(s);
    };
    const std::int64_t excess = view_.bytes(view_.out(op) - resident) + graph_.workspace[o] - room;
    if (excess > 0) {
      evict(resident, op, excess, slack, arrive);
      continue;
    }
    const std::size_t before = found.size();
    arrive(resident);
    if (found.size() > before && is_free_step(op, resident, found.back().resident, slack)) return f(found.back());
  }
  for (const Successor<W>& s : found) f(s);
}

// Every inclusion-minimal set that makes room, by decreasing size: the last one taken is the one that suffices.
template <int W>
template <class F>
void Expander<W>::evict(const Set& resident, std::int32_t op, std::int64_t excess, Cost slack, F f) {
  Set read;  // by what has to run besides `op`
  needs_.tensors.for_each([&](std::int32_t t) {
    if (!view_.out(op).has(t)) read = read | needs_.reads[static_cast<std::size_t>(t)];
  });
  candidates_.clear();
  sets_ = 0;
  (resident - view_.in(op)-view_.out(op)).for_each([&](std::int32_t t) {
    const auto i = static_cast<std::size_t>(t);
    if (graph_.bytes[i] == 0) return;
    const auto p = static_cast<std::size_t>(graph_.producers[i][0]);
    const bool pays = (read.has(t) || graph_.keep[i]) && graph_.producers[i].size() == 1 && graph_.out[p].size() == 1;
    candidates_.push_back({t, graph_.bytes[i], 0, pays ? graph_.cost[p] : 0});
  });
  const bool all = most_sets_ == INT64_MAX;  // otherwise those that are likely to be cheap come first
  std::stable_sort(candidates_.begin(), candidates_.end(), [&](const Candidate& a, const Candidate& b) {
    const double price_a = static_cast<double>(a.cost) * static_cast<double>(b.bytes);
    const double price_b = static_cast<double>(b.cost) * static_cast<double>(a.bytes);
    return all || price_a == price_b ? a.bytes > b.bytes : price_a < price_b;
  });
  std::int64_t rest = 0;
  for (std::size_t i = candidates_.size(); i-- > 0;) candidates_[i].rest = rest += candidates_[i].bytes;
  choose(0, excess, slack - needs_.added_by(op, graph_.cost[static_cast<std::size_t>(op)], view_.out(op)), resident, f);
}

template <int W>
template <class F>
void Expander<W>::choose(std::size_t index, std::int64_t excess, Cost slack, const Set& resident, F& f) {
  for (std::size_t i = index; i < candidates_.size() && candidates_[i].rest >= excess; ++i) {
    if (++choices_, is_spent() || sets_ >= most_sets_) return;
    const Candidate candidate = candidates_[i];
    Set left = resident;
    left.remove(candidate.tensor);
    if (candidate.cost > slack) continue;
    if (candidate.bytes >= excess) {
      ++sets_;
      f(left);
    } else
      choose(i + 1, excess - candidate.bytes, slack - candidate.cost, left, f);
  }
}

}  // namespace thimble::remat
