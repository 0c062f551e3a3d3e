// From the end: from what has to be resident, undo the op that made some of it last; then its inputs have to be
// resident before. Nothing is ever evicted in this direction, and a set is settled as soon as a subset of it is. Few
// tensors fit a tight budget, so there are few such sets just where searching forwards is hard.
#include <algorithm>
#include <queue>
#include <tuple>

#include "remat_search.h"
#include "remat_state.h"

namespace thimble::remat {
namespace {

constexpr std::int64_t kMostComparisons = 300'000'000;  // of a set found with those before it

template <int W>
class BackwardSearch {
 public:
  using Set = TensorSet<W>;
  // Every cost up to `cap`, the cheapest first; without a cap anything, the nearest first.
  BackwardSearch(const Graph& graph, std::int64_t budget, std::optional<Cost> cap)
      : graph_(graph), budget_(budget), cap_(cap), view_(graph, budget) {
    ancestors_.resize(graph.bytes.size());
    for (std::int32_t t = 0; t < graph.tensors(); ++t) {
      const auto i = static_cast<std::size_t>(t);
      ancestors_[i].add(t);
      for (std::int32_t x : graph.in[static_cast<std::size_t>(graph.chosen[i])])
        ancestors_[i] = ancestors_[i] | ancestors_[static_cast<std::size_t>(x)];
    }
  }

  // While an op runs, all it reads and makes is resident.
  Set run_of(std::int32_t op) const { return view_.in(op) | view_.out(op); }
  Set kept() const { return view_.goal(); }

  SearchOutcome run(const Set& goal, std::int64_t node_limit) {
    SearchOutcome outcome;
    if (view_.bytes(goal) <= budget_) reach({goal, 0, -1, -1});
    while (!open_.empty()) {
      const auto [bound, count, bytes, index] = open_.top();
      if (cap_) outcome.lower_bound = std::max(outcome.lower_bound, bound);
      const Node node = nodes_[static_cast<std::size_t>(index)];
      if (node.required.empty()) {
        outcome.found = true;
        outcome.sequence = path_from(index);
        return outcome;
      }
      if (outcome.nodes++ >= node_limit || comparisons_ > kMostComparisons) return outcome;
      open_.pop();
      expand(node, index);
    }
    outcome.exhausted = true;
    if (cap_) outcome.lower_bound = *cap_ + 1;
    return outcome;
  }

 private:
  struct Node {
    Set required;
    Cost spent;
    std::int32_t parent, op;
  };

  Sequence path_from(std::int32_t index) const {
    Sequence ops;
    for (; nodes_[static_cast<std::size_t>(index)].parent >= 0; index = nodes_[static_cast<std::size_t>(index)].parent)
      ops.push_back(nodes_[static_cast<std::size_t>(index)].op);
    return ops;
  }

  void expand(const Node& node, std::int32_t index) {
    std::vector<Node> before;
    for (std::int32_t op = 0; op < graph_.ops(); ++op) {
      const auto o = static_cast<std::size_t>(op);
      const Set &in = view_.in(op), &out = view_.out(op);
      if (!node.required.intersects(out) || view_.bytes(node.required | in | out) + graph_.workspace[o] > budget_)
        continue;
      const Set set = (node.required - out) | in;
      before.push_back({set, node.spent + graph_.cost[o], index, op});
      if (cap_ || !node.required.contains(set)) continue;
      before = {before.back()};  // asks for less than before: nothing else can be better
      break;
    }
    for (const Node& next : before) reach(next);
  }

  void reach(const Node& next) {
    Cost bound = 0;
    if (cap_) {
      view_.set_goal(next.required);
      view_.look_at(Set{});
      bound = next.spent + view_.needs().cost;
      if (bound > *cap_) return;
      bound += view_.forced_recomputation(Set{});
      if (bound > *cap_) return;
    }
    comparisons_ += static_cast<std::int64_t>(nodes_.size());
    const std::uint64_t folded = fold(next.required);
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      if (!(folded_[i] & ~folded) && next.required.contains(nodes_[i].required) &&
          (!cap_ || nodes_[i].spent <= next.spent))
        return;
    const auto index = static_cast<std::int32_t>(nodes_.size());
    nodes_.push_back(next);
    folded_.push_back(folded);
    Set all;
    std::int64_t count = 0;
    next.required.for_each([&](std::int32_t t) { all = all | ancestors_[static_cast<std::size_t>(t)]; });
    all.for_each([&](std::int32_t) { ++count; });
    open_.emplace(bound, count, view_.bytes(next.required), index);
  }

  // A word per set: where one set contains another, so do their words. Rules most comparisons out.
  static std::uint64_t fold(const Set& set) {
    std::uint64_t word = 0;
    for (const std::uint64_t w : set.words) word |= w;
    return word;
  }

  using Entry = std::tuple<Cost, std::int64_t, std::int64_t, std::int32_t>;
  const Graph& graph_;
  std::int64_t budget_;
  std::optional<Cost> cap_;
  StateView<W> view_;
  std::vector<Set> ancestors_;
  std::vector<Node> nodes_;
  std::vector<std::uint64_t> folded_;  // by node: its set
  std::int64_t comparisons_ = 0;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open_;
};

constexpr std::int32_t kWholeGoal = -1;

template <int W>
SearchOutcome run(const Graph& graph, std::int64_t budget, std::optional<Cost> cap, std::int32_t op,
                  std::int64_t node_limit) {
  BackwardSearch<W> search(graph, budget, cap);
  return search.run(op == kWholeGoal ? search.kept() : search.run_of(op), node_limit);
}

SearchOutcome search(const Graph& graph, std::int64_t budget, std::optional<Cost> cap, std::int32_t op,
                     std::int64_t node_limit) {
  if (graph.tensors() <= 64) return run<1>(graph, budget, cap, op, node_limit);
  if (graph.tensors() <= 128) return run<2>(graph, budget, cap, op, node_limit);
  if (graph.tensors() <= 256) return run<4>(graph, budget, cap, op, node_limit);
  return run<16>(graph, budget, cap, op, node_limit);
}

}  // namespace

SearchOutcome search_feasible(const Graph& graph, std::int64_t budget, std::int64_t node_limit) {
  return search(graph, budget, std::nullopt, kWholeGoal, node_limit);
}

SearchOutcome search_one_run(const Graph& graph, std::int64_t budget, std::int32_t op, std::int64_t node_limit) {
  return search(graph, budget, std::nullopt, op, node_limit);
}

SearchOutcome search_backwards(const Graph& graph, std::int64_t budget, Cost cap, std::int64_t node_limit) {
  return search(graph, budget, cap, kWholeGoal, node_limit);
}

}  // namespace thimble::remat
