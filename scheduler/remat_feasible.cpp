// Is there any schedule at all? Searched from the end: from what has to be resident, undo the op that made some of it
// last; then its inputs have to be resident before. Nothing is ever evicted in this direction, and a set is settled as
// soon as a subset of it is. Few tensors fit a tight budget, so there are few such sets just where the question is
// hard.
#include <algorithm>
#include <queue>
#include <tuple>

#include "remat_search.h"
#include "remat_state.h"

namespace thimble::remat {
namespace {

template <int W>
class Feasibility {
 public:
  using Set = TensorSet<W>;
  Feasibility(const Graph& graph, std::int64_t budget) : graph_(graph), budget_(budget) {
    for (std::size_t o = 0; o < graph.in.size(); ++o) {
      in_.emplace_back();
      out_.emplace_back();
      for (std::int32_t t : graph.in[o]) in_.back().add(t);
      for (std::int32_t t : graph.out[o]) out_.back().add(t);
    }
    ancestors_.resize(graph.bytes.size());
    for (std::int32_t t = 0; t < graph.tensors(); ++t) {
      const auto i = static_cast<std::size_t>(t);
      ancestors_[i].add(t);
      for (std::int32_t x : graph.in[static_cast<std::size_t>(graph.chosen[i])])
        ancestors_[i] = ancestors_[i] | ancestors_[static_cast<std::size_t>(x)];
    }
  }

  SearchOutcome run(std::int64_t node_limit) {
    SearchOutcome outcome;
    Set goal;
    for (std::int32_t t = 0; t < graph_.tensors(); ++t)
      if (graph_.keep[static_cast<std::size_t>(t)]) goal.add(t);
    if (bytes(goal) <= budget_) reach(goal, -1, -1);
    while (!open_.empty()) {
      const std::int32_t index = std::get<2>(open_.top());
      open_.pop();
      const Set required = nodes_[static_cast<std::size_t>(index)].required;
      if (required.empty()) {
        outcome.found = true;
        for (std::int32_t i = index; nodes_[static_cast<std::size_t>(i)].parent >= 0;
             i = nodes_[static_cast<std::size_t>(i)].parent)
          outcome.sequence.push_back(nodes_[static_cast<std::size_t>(i)].op);
        return outcome;
      }
      if (outcome.nodes++ >= node_limit) return outcome;
      expand(required, index);
    }
    outcome.exhausted = true;
    return outcome;
  }

 private:
  struct Node {
    Set required;
    std::int32_t parent, op;
  };

  std::int64_t bytes(const Set& set) const {
    std::int64_t sum = 0;
    set.for_each([&](std::int32_t t) { sum += graph_.bytes[static_cast<std::size_t>(t)]; });
    return sum;
  }

  void expand(const Set& required, std::int32_t index) {
    std::vector<std::pair<Set, std::int32_t>> before;
    for (std::int32_t op = 0; op < graph_.ops(); ++op) {
      const auto o = static_cast<std::size_t>(op);
      if (!required.intersects(out_[o]) || bytes(required | in_[o] | out_[o]) + graph_.workspace[o] > budget_) continue;
      const Set set = (required - out_[o]) | in_[o];
      before.emplace_back(set, op);
      if (!required.contains(set)) continue;
      before = {{set, op}};  // asks for less than before: nothing else can be better
      break;
    }
    for (const auto& [set, op] : before) reach(set, op, index);
  }

  void reach(const Set& required, std::int32_t op, std::int32_t parent) {
    for (const Node& node : nodes_)
      if (required.contains(node.required)) return;
    const auto index = static_cast<std::int32_t>(nodes_.size());
    nodes_.push_back({required, parent, op});
    Set all;
    std::int64_t count = 0;
    required.for_each([&](std::int32_t t) { all = all | ancestors_[static_cast<std::size_t>(t)]; });
    all.for_each([&](std::int32_t) { ++count; });
    open_.emplace(count, bytes(required), index);
  }

  using Entry = std::tuple<std::int64_t, std::int64_t, std::int32_t>;
  const Graph& graph_;
  std::int64_t budget_;
  std::vector<Set> in_, out_, ancestors_;
  std::vector<Node> nodes_;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open_;
};

}  // namespace

SearchOutcome search_feasible(const Graph& graph, std::int64_t budget, std::int64_t node_limit) {
  if (graph.tensors() <= 64) return Feasibility<1>(graph, budget).run(node_limit);
  if (graph.tensors() <= 128) return Feasibility<2>(graph, budget).run(node_limit);
  if (graph.tensors() <= 256) return Feasibility<4>(graph, budget).run(node_limit);
  return Feasibility<16>(graph, budget).run(node_limit);
}

}  // namespace thimble::remat
