#include <algorithm>
#include <unordered_set>

#include "remat_expand.h"
#include "remat_search.h"

namespace thimble::remat {
namespace {

constexpr std::int64_t kMostEvictions = 24;  // ways to make room for one op

template <int W>
struct Hash {
  std::size_t operator()(const TensorSet<W>& set) const { return set.hash(); }
};

template <int W>
class Beam {
 public:
  Beam(const Graph& graph, std::int64_t budget) : expander_(graph, budget), most_levels_(6 * graph.order.size() + 16) {}

  std::optional<Sequence> run(Cost cap, std::size_t width, std::int64_t node_limit) {
    expander_.limit(node_limit);
    expander_.limit_evictions(kMostEvictions);
    std::optional<Sequence> best;
    std::vector<Node> level{{expander_.settle(TensorSet<W>{}, -1, 0, cap), -1}};
    if (level.front().state.bound() > cap) return best;
    for (std::size_t depth = 0; depth < most_levels_ && !level.empty() && !expander_.is_spent(); ++depth) {
      std::vector<Node> next;
      for (const Node& node : level) {
        const auto parent = static_cast<std::int32_t>(trail_.size());
        trail_.push_back({node.parent, node.state.op});
        if (expander_.reaches_goal(node.state.resident)) {
          if (node.state.spent > cap) continue;
          best = path_to(parent);
          cap = node.state.spent - 1;
          continue;
        }
        expander_.expand(node.state.resident, node.state.spent, cap, [&](const Successor<W>& s) {
          next.push_back({s, parent});
        });
      }
      level = most_promising(std::move(next), width);
    }
    return best;
  }

 private:
  struct Node {
    Successor<W> state;
    std::int32_t parent;
  };
  struct Step {
    std::int32_t parent, op;
  };

  std::vector<Node> most_promising(std::vector<Node> nodes, std::size_t width) {
    std::stable_sort(nodes.begin(), nodes.end(), [](const Node& a, const Node& b) {
      return a.state.bound() != b.state.bound() ? a.state.bound() < b.state.bound() : a.state.to_come < b.state.to_come;
    });
    std::vector<Node> kept;
    std::unordered_set<TensorSet<W>, Hash<W>> seen;  // asked only whether it holds a set: its order decides nothing
    for (Node& node : nodes) {
      if (kept.size() >= width) break;
      if (seen.insert(node.state.resident).second) kept.push_back(std::move(node));
    }
    return kept;
  }

  Sequence path_to(std::int32_t index) const {
    Sequence ops;
    for (; trail_[static_cast<std::size_t>(index)].parent >= 0; index = trail_[static_cast<std::size_t>(index)].parent)
      ops.push_back(trail_[static_cast<std::size_t>(index)].op);
    std::reverse(ops.begin(), ops.end());
    return ops;
  }

  Expander<W> expander_;
  std::size_t most_levels_;
  std::vector<Step> trail_;
};

}  // namespace

std::optional<Sequence> search_beam(const Graph& graph, std::int64_t budget, Cost cap, std::int32_t width,
                                    std::int64_t node_limit) {
  const auto w = static_cast<std::size_t>(width);
  if (graph.tensors() <= 64) return Beam<1>(graph, budget).run(cap, w, node_limit);
  if (graph.tensors() <= 128) return Beam<2>(graph, budget).run(cap, w, node_limit);
  return Beam<4>(graph, budget).run(cap, w, node_limit);
}

}  // namespace thimble::remat
