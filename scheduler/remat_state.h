// Resident sets, and what can be said about one: what has to run at least once more, what cannot matter any more, and
// how much memory alone forces to run twice.
#pragma once

#include <array>
#include <bit>
#include <vector>

#include "remat_graph.h"

namespace thimble::remat {

/// A set of tensors of a graph with at most 64 * W of them.
template <int W>
struct TensorSet {
  std::array<std::uint64_t, W> words{};

  bool operator==(const TensorSet&) const = default;
  bool has(std::int32_t t) const { return words[static_cast<std::size_t>(t >> 6)] >> (t & 63) & 1U; }
  void add(std::int32_t t) { words[static_cast<std::size_t>(t >> 6)] |= std::uint64_t{1} << (t & 63); }
  void remove(std::int32_t t) { words[static_cast<std::size_t>(t >> 6)] &= ~(std::uint64_t{1} << (t & 63)); }
  bool empty() const {
    std::uint64_t any = 0;
    for (std::uint64_t w : words) any |= w;
    return any == 0;
  }
  bool contains(const TensorSet& other) const {
    std::uint64_t missing = 0;
    for (std::size_t i = 0; i < W; ++i) missing |= other.words[i] & ~words[i];
    return missing == 0;
  }
  bool intersects(const TensorSet& other) const {
    std::uint64_t any = 0;
    for (std::size_t i = 0; i < W; ++i) any |= words[i] & other.words[i];
    return any != 0;
  }
  TensorSet operator|(const TensorSet& o) const {
    return combine(o, [](std::uint64_t a, std::uint64_t b) { return a | b; });
  }
  TensorSet operator&(const TensorSet& o) const {
    return combine(o, [](std::uint64_t a, std::uint64_t b) { return a & b; });
  }
  TensorSet operator-(const TensorSet& o) const {
    return combine(o, [](std::uint64_t a, std::uint64_t b) { return a & ~b; });
  }
  std::size_t count() const {
    std::size_t n = 0;
    for (std::uint64_t w : words) n += static_cast<std::size_t>(std::popcount(w));
    return n;
  }
  /// The largest member; the set must not be empty.
  std::int32_t last() const { return last_up_to(64 * W - 1); }
  /// The largest member <= t; there must be one.
  std::int32_t last_up_to(std::int32_t t) const {
    auto i = static_cast<std::size_t>(t >> 6);
    std::uint64_t word = words[i] & (~std::uint64_t{0} >> (63 - (t & 63)));
    while (!word && i > 0) word = words[--i];
    return static_cast<std::int32_t>(i) * 64 + 63 - std::countl_zero(word);
  }
  template <class F>
  void for_each(F f) const {  // in increasing order
    for (int i = 0; i < W; ++i)
      for (std::uint64_t w = words[static_cast<std::size_t>(i)]; w; w &= w - 1) f(i * 64 + std::countr_zero(w));
  }
  template <class F>
  bool any_of(F f) const {  // in increasing order, to the first
    for (int i = 0; i < W; ++i)
      for (std::uint64_t w = words[static_cast<std::size_t>(i)]; w; w &= w - 1)
        if (f(i * 64 + std::countr_zero(w))) return true;
    return false;
  }
  std::size_t hash() const {
    std::uint64_t h = 0x9e3779b97f4a7c15U;
    for (std::uint64_t w : words) {
      h = (h ^ w) * 0xff51afd7ed558ccdU;
      h ^= h >> 32;
    }
    return static_cast<std::size_t>(h);
  }

 private:
  template <class F>
  TensorSet combine(const TensorSet& o, F f) const {
    TensorSet result;
    for (std::size_t i = 0; i < W; ++i) result.words[i] = f(words[i], o.words[i]);
    return result;
  }
};

/// What has to happen after a state whatever else does.
template <int W>
struct Needs {
  TensorSet<W> tensors;             // absent ones that have to be made at least once
  std::vector<char> ops;            // those that have to run at least once
  Cost cost = 0;                    // of that
  std::vector<TensorSet<W>> reads;  // by tensor of `tensors`: what whichever op makes it reads
  std::vector<Cost> counted;        // by tensor of `tensors`: what `cost` holds for making it where no op is sure to

  /// What running an op adds to `cost`.
  Cost added_by(std::int32_t op, Cost op_cost, const TensorSet<W>& out) const {
    if (ops[static_cast<std::size_t>(op)]) return 0;
    (out & tensors).for_each([&](std::int32_t t) { op_cost -= counted[static_cast<std::size_t>(t)]; });
    return op_cost;
  }
};

/// Looks at states of one problem under one budget. Holds scratch: one per thread.
template <int W>
class StateView {
 public:
  using Set = TensorSet<W>;
  StateView(const Graph& graph, std::int64_t budget);

  /// Fills needs(). A lower bound of the cost to come: its cost.
  void look_at(const Set& resident);
  const Needs<W>& needs() const { return needs_; }

  /// Cost beyond needs().cost that the budget forces: around the first run of some op that has to run, not all can be
  /// held that was made before it and is read after it; the rest runs once more. Call look_at first.
  Cost forced_recomputation(const Set& resident);

  /// Tensors of `resident` that no schedule can read any more whose cost to come is at most needs().cost + slack.
  Set useless(const Set& resident, Cost slack);

  std::int64_t bytes(const Set& set) const;
  const Set& in(std::int32_t op) const { return in_[static_cast<std::size_t>(op)]; }
  const Set& out(std::int32_t op) const { return out_[static_cast<std::size_t>(op)]; }
  const Set& goal() const { return goal_; }
  /// Asks from now on for the tensors of `goal` instead of the kept ones.
  void set_goal(const Set& goal) { goal_ = goal; }
  /// Ops that may be of use in a schedule whose cost to come is at most needs().cost + the slack given to useless().
  const std::vector<char>& possible() const { return possible_; }

 private:
  void need_with_alternatives(const Set& resident);
  void landmarks(const Set& resident);
  void collect(const Set& items, const Set& made_before);
  Cost knapsack(const Set& items, std::int64_t room, const Set& made_before);

  struct Choice {
    double cost, bytes;
  };

  const Graph& graph_;
  std::int64_t budget_;
  std::vector<Set> in_, out_;
  Set goal_;
  std::vector<std::int32_t> by_ratio_;  // tensors, cheapest to make again per byte first
  std::vector<Cost> again_;  // cheapest producer's cost, 0 where a producer makes several and there are several
  Needs<W> needs_;
  std::vector<Set> before_, after_;  // by needed tensor: made before it, read after it
  std::vector<Set> landmarks_;
  std::vector<Choice> choices_;
  bool has_wide_ops_ = false;  // some op has several outputs
  std::vector<char> possible_;
};

extern template class StateView<1>;
extern template class StateView<2>;
extern template class StateView<4>;
extern template class StateView<16>;
extern template class StateView<32>;

}  // namespace thimble::remat
