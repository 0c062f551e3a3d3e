#include "remat_state.h"

#include <algorithm>

namespace thimble::remat {

template <int W>
StateView<W>::StateView(const Graph& graph, std::int64_t budget) : graph_(graph), budget_(budget) {
  const auto n = static_cast<std::size_t>(graph.tensors());
  in_.resize(static_cast<std::size_t>(graph.ops()));
  out_.resize(static_cast<std::size_t>(graph.ops()));
  for (std::size_t o = 0; o < in_.size(); ++o) {
    for (std::int32_t t : graph.in[o]) in_[o].add(t);
    for (std::int32_t t : graph.out[o]) out_[o].add(t);
  }
  for (std::int32_t t = 0; t < graph.tensors(); ++t)
    if (graph.keep[static_cast<std::size_t>(t)]) goal_.add(t);
  for (std::size_t t = 0; t < n; ++t) {
    Cost least = graph.producers[t].empty() ? 0 : INT64_MAX;
    bool shared = false;
    for (std::int32_t p : graph.producers[t]) {
      least = std::min(least, graph.cost[static_cast<std::size_t>(p)]);
      shared |= graph.out[static_cast<std::size_t>(p)].size() > 1;
    }
    again_.push_back(graph.producers[t].size() > 1 && shared ? 0 : least);
    has_wide_ops_ |= shared;
    if (graph.bytes[t] > 0) by_ratio_.push_back(static_cast<std::int32_t>(t));
  }
  const auto ratio = [&](std::int32_t t) {
    return static_cast<double>(again_[static_cast<std::size_t>(t)]) /
           static_cast<double>(graph.bytes[static_cast<std::size_t>(t)]);
  };
  std::stable_sort(by_ratio_.begin(), by_ratio_.end(),
                   [&](std::int32_t a, std::int32_t b) { return ratio(a) < ratio(b); });
  needs_.ops.assign(static_cast<std::size_t>(graph.ops()), 0);
  needs_.reads.resize(n);
  before_.resize(n);
  after_.resize(n);
  landmarks_.resize(n);
  needs_.counted.assign(n, 0);
}

template <int W>
std::int64_t StateView<W>::bytes(const Set& set) const {
  std::int64_t sum = 0;
  set.for_each([&](std::int32_t t) { sum += graph_.bytes[static_cast<std::size_t>(t)]; });
  return sum;
}

template <int W>
void StateView<W>::look_at(const Set& resident) {
  std::fill(needs_.ops.begin(), needs_.ops.end(), char{0});
  needs_.cost = 0;
  needs_.tensors = Set{};
  if (graph_.has_alternatives) return need_with_alternatives(resident);
  Set pending = goal_ - resident;
  while (!pending.empty()) {
    const std::int32_t t = pending.last();
    pending.remove(t);
    needs_.tensors.add(t);
    const auto op = static_cast<std::size_t>(graph_.producers[static_cast<std::size_t>(t)][0]);
    needs_.reads[static_cast<std::size_t>(t)] = in_[op];
    if (needs_.ops[op]) continue;
    needs_.ops[op] = 1;
    needs_.cost += graph_.cost[op];
    pending = pending | (in_[op] - resident - needs_.tensors);
  }
}

// What every way to make a tensor goes through, itself included: the greatest solution of "itself and what all its
// producers have in common".
template <int W>
void StateView<W>::landmarks(const Set& resident) {
  Set all;
  for (std::int32_t t = 0; t < graph_.tensors(); ++t) all.add(t);
  for (std::int32_t t = 0; t < graph_.tensors(); ++t)
    landmarks_[static_cast<std::size_t>(t)] = resident.has(t) ? Set{} : all;
  for (bool changed = true; changed;) {
    changed = false;
    for (std::int32_t t = 0; t < graph_.tensors(); ++t) {
      if (resident.has(t)) continue;
      const auto i = static_cast<std::size_t>(t);
      Set common = all;
      for (std::int32_t p : graph_.producers[i]) {
        Set through;
        for (std::int32_t x : graph_.in[static_cast<std::size_t>(p)])
          through = through | landmarks_[static_cast<std::size_t>(x)];
        common = common & through;
      }
      common.add(t);
      common = common & landmarks_[i];
      if (common != landmarks_[i]) {
        landmarks_[i] = common;
        changed = true;
      }
    }
  }
}

template <int W>
void StateView<W>::need_with_alternatives(const Set& resident) {
  landmarks(resident);
  Set pending = goal_ - resident;
  while (!pending.empty()) {
    const std::int32_t t = pending.last();
    const auto i = static_cast<std::size_t>(t);
    pending.remove(t);
    needs_.tensors.add(t);
    pending = pending | (landmarks_[i] - needs_.tensors);
    // Its first producer to run is one that does not itself go through it.
    Cost least = INT64_MAX;
    std::int32_t usable = 0, only = -1;
    bool shared = false, first = true;
    Set common;
    for (std::int32_t p : graph_.producers[i]) {
      const auto o = static_cast<std::size_t>(p);
      Set through;
      for (std::int32_t x : graph_.in[o]) through = through | landmarks_[static_cast<std::size_t>(x)];
      shared |= graph_.out[o].size() > 1;
      if (through.has(t)) continue;
      ++usable;
      only = p;
      least = std::min(least, graph_.cost[o]);
      common = first ? in_[o] : common & in_[o];
      first = false;
    }
    needs_.counted[i] = 0;
    if (usable == 0) continue;  // nothing reaches it: not asked in a graph whose goal can be made
    needs_.reads[i] = common;
    needs_.counted[i] = usable == 1 || shared ? 0 : least;
    pending = pending | (common - resident - needs_.tensors);
    if (usable == 1) {
      if (!needs_.ops[static_cast<std::size_t>(only)]) needs_.cost += least;
      needs_.ops[static_cast<std::size_t>(only)] = 1;
    } else if (!shared) {
      needs_.cost += least;
    }
  }
}

// Items of the knapsack: a tensor, or what one op makes of `items`.
template <int W>
void StateView<W>::collect(const Set& items, const Set& made_before) {
  choices_.clear();
  Set left = items;
  for (std::int32_t t : by_ratio_) {
    if (!left.has(t)) continue;
    const auto i = static_cast<std::size_t>(t);
    Choice choice{static_cast<double>(again_[i]), static_cast<double>(graph_.bytes[i])};
    const auto op = static_cast<std::size_t>(graph_.producers[i][0]);
    if (graph_.producers[i].size() == 1 && graph_.out[op].size() > 1) {
      choice.bytes = static_cast<double>(bytes(out_[op] & left));
      // What is there now, made by an op that has to run anyway for another output: perhaps that run serves both.
      if (needs_.ops[op] && !made_before.intersects(out_[op])) choice.cost = 0;
      left = left - out_[op];
    }
    choices_.push_back(choice);
  }
  if (has_wide_ops_)
    std::stable_sort(choices_.begin(), choices_.end(),
                     [](const Choice& a, const Choice& b) { return a.cost * b.bytes < b.cost * a.bytes; });
}

template <int W>
Cost StateView<W>::knapsack(const Set& items, std::int64_t room, const Set& made_before) {
  double excess = static_cast<double>(bytes(items) - room);
  if (excess <= 0) return 0;
  collect(items, made_before);
  double cost = 0;
  for (const Choice& choice : choices_) {
    cost += choice.cost * std::min(1.0, excess / choice.bytes);
    excess -= choice.bytes;
    if (excess <= 0) break;
  }
  if (excess > 0) return 0;  // does not fit at all: not this bound's business
  // Costs are whole numbers, so what is beyond one is the next.
  return cost <= 1e-6 ? 0 : static_cast<Cost>(cost * (1 - 1e-12) - 1e-9) + 1;
}

template <int W>
Cost StateView<W>::forced_recomputation(const Set& resident) {
  // In order of numbers a needed tensor's needed inputs come first, except between alternatives, where a set may
  // stay smaller than it could be: a weaker bound, not a wrong one.
  needs_.tensors.for_each([&](std::int32_t t) {
    const auto i = static_cast<std::size_t>(t);
    before_[i] = Set{};
    after_[i] = Set{};
    (needs_.reads[i] & needs_.tensors).for_each([&](std::int32_t x) {
      if (x >= t) return;
      before_[i] = before_[i] | before_[static_cast<std::size_t>(x)];
      before_[i].add(x);
    });
  });
  Cost most = 0;
  Set pending = needs_.tensors;
  while (!pending.empty()) {
    const std::int32_t t = pending.last();
    pending.remove(t);
    const auto i = static_cast<std::size_t>(t);
    // Whatever reads t has pushed its own reads into after_[t] by now.
    const Set reads = needs_.reads[i];
    (reads & needs_.tensors).for_each([&](std::int32_t x) {
      if (x < t) after_[static_cast<std::size_t>(x)] = after_[static_cast<std::size_t>(x)] | after_[i] | reads;
    });
    std::int64_t need = INT64_MAX;
    Set made;
    for (std::int32_t p : graph_.producers[i]) {
      const auto o = static_cast<std::size_t>(p);
      need = std::min(need, graph_.producers[i].size() == 1 ? graph_.need[o]
                                                            : bytes(reads) + graph_.bytes[i] + graph_.workspace[o]);
      made = made | out_[o];
    }
    const Set items = (after_[i] & (resident | before_[i])) - reads - made;
    if (!items.empty()) most = std::max(most, knapsack(items, budget_ - need, before_[i]));
  }
  return most;
}

template <int W>
typename StateView<W>::Set StateView<W>::useless(const Set& resident, Cost slack) {
  possible_.assign(static_cast<std::size_t>(graph_.ops()), 0);
  Set wanted, pending = goal_;
  while (!pending.empty()) {
    const std::int32_t t = pending.last();
    pending.remove(t);
    wanted.add(t);
    for (std::int32_t p : graph_.producers[static_cast<std::size_t>(t)]) {
      const auto o = static_cast<std::size_t>(p);
      if (possible_[o]) continue;
      if (needs_.added_by(p, graph_.cost[o], out_[o]) > slack) continue;
      possible_[o] = 1;
      pending = pending | (in_[o] - wanted);
    }
  }
  return resident - wanted - goal_;
}

template class StateView<1>;
template class StateView<2>;
template class StateView<4>;
template class StateView<16>;
template class StateView<32>;

}  // namespace thimble::remat
