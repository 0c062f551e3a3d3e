#include "remat_search.h"

#include <algorithm>
#include <queue>
#include <tuple>

#include "remat_expand.h"

namespace thimble::remat {
namespace {

template <int W>
class Search {
 public:
  using Set = TensorSet<W>;
  Search(const Graph& graph, std::int64_t budget) : graph_(graph), expander_(graph, budget), table_(1 << 12, -1) {}

  SearchOutcome run(Cost cap, std::int64_t node_limit) {
    SearchOutcome outcome;
    expander_.limit(node_limit);
    reach(expander_.settle(Set{}, -1, 0, cap), -1, cap);
    while (!open_.empty()) {
      const auto [bound, left, negated, at] = open_.top();
      const std::int32_t index = at;  // clang 14 captures no bindings
      outcome.lower_bound = std::max(outcome.lower_bound, bound);
      const Node node = nodes_[static_cast<std::size_t>(index)];
      if (expander_.reaches_goal(node.resident)) {
        outcome.found = true;
        outcome.lower_bound = node.spent;
        outcome.sequence = path_to(index);
        return outcome;
      }
      open_.pop();
      if (find(node.resident) != index || is_closed_[static_cast<std::size_t>(index)])
        continue;  // reached cheaper meanwhile
      is_closed_[static_cast<std::size_t>(index)] = 1;
      expander_.expand(node.resident, node.spent, cap, [&](const Successor<W>& s) { reach(s, index, cap); });
      outcome.nodes = expander_.looked_at();
      if (expander_.is_spent()) return outcome;
    }
    outcome.exhausted = true;
    outcome.lower_bound = cap + 1;
    return outcome;
  }

 private:
  struct Node {
    Set resident;
    Cost spent;
    std::int32_t parent, op;
  };

  void reach(const Successor<W>& s, std::int32_t parent, Cost cap) {
    if (s.bound() > cap) return;
    const std::size_t slot = slot_of(s.resident);
    const std::int32_t known = table_[slot];
    if (known >= 0 && nodes_[static_cast<std::size_t>(known)].spent <= s.spent) return;
    const auto index = static_cast<std::int32_t>(nodes_.size());
    nodes_.push_back({s.resident, s.spent, parent, s.op});
    is_closed_.push_back(0);
    table_[slot] = index;
    // Of equal bounds first what has least to do, then what was found last.
    open_.emplace(s.bound(), s.to_come, -index, index);
    if (known < 0 && ++used_ * 2 > table_.size()) grow();
  }

  std::size_t slot_of(const Set& set) const {
    std::size_t slot = set.hash() & (table_.size() - 1);
    while (table_[slot] >= 0 && !(nodes_[static_cast<std::size_t>(table_[slot])].resident == set))
      slot = (slot + 1) & (table_.size() - 1);
    return slot;
  }
  std::int32_t find(const Set& set) const { return table_[slot_of(set)]; }
  void grow() {
    std::vector<std::int32_t> old(table_.size() * 2, -1);
    old.swap(table_);
    for (std::int32_t index : old)
      if (index >= 0) table_[slot_of(nodes_[static_cast<std::size_t>(index)].resident)] = index;
  }

  Sequence path_to(std::int32_t index) const {
    Sequence ops;
    for (; nodes_[static_cast<std::size_t>(index)].parent >= 0; index = nodes_[static_cast<std::size_t>(index)].parent)
      ops.push_back(nodes_[static_cast<std::size_t>(index)].op);
    std::reverse(ops.begin(), ops.end());
    return ops;
  }

  using Entry = std::tuple<Cost, Cost, std::int32_t, std::int32_t>;
  const Graph& graph_;
  Expander<W> expander_;
  std::vector<Node> nodes_;
  std::vector<char> is_closed_;
  std::vector<std::int32_t> table_;  // open addressing: the node of a set, -1
  std::size_t used_ = 0;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open_;
};

}  // namespace

SearchOutcome search_exact(const Graph& graph, std::int64_t budget, Cost cap, std::int64_t node_limit) {
  if (graph.tensors() <= 64) return Search<1>(graph, budget).run(cap, node_limit);
  if (graph.tensors() <= 128) return Search<2>(graph, budget).run(cap, node_limit);
  return Search<4>(graph, budget).run(cap, node_limit);
}

}  // namespace thimble::remat
