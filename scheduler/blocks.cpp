// Where the forward graph comes apart: Boost's articulation points, and its dominators where a value is read all along.
#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/biconnected_components.hpp>
#include <boost/graph/dominator_tree.hpp>

#include "thimble/recompute.h"

namespace thimble {
namespace {

using Undirected = boost::adjacency_list<boost::vecS, boost::vecS, boost::undirectedS, boost::no_property,
                                         boost::property<boost::edge_index_t, std::size_t>>;
using Directed = boost::adjacency_list<boost::vecS, boost::vecS, boost::bidirectionalS>;

// Forward ops, then the values they make. Weights and other values that are the same for every sample join nothing,
// else a weight read twice would tie blocks together; but statistics of a batch do pass from op to op.
class ForwardGraph {
 public:
  explicit ForwardGraph(const Graph& graph) : graph_(graph), ops_(graph.ops.size()) {}

  /// Batched values without which the rest is two or more parts, in order of id.
  std::vector<TensorId> articulation_values() const {
    Undirected joined(ops_ + graph_.tensors.size());
    std::size_t edges = 0;
    const auto join = [&](OpId op, TensorId value) { boost::add_edge(vertex(op), vertex(value), edges++, joined); };
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      if (!joins(id)) continue;
      join(graph_.tensors[id].producer, id);
      for (OpId reader : graph_.tensors[id].consumers)
        if (is_forward(reader)) join(reader, id);
    }
    std::vector<std::size_t> points;
    boost::articulation_points(joined, std::back_inserter(points));
    return batched_values(points);
  }

  /// Batched values that every path to the outputs passes which leads around the values `side`, in order of id; none
  /// where there is no such path.
  std::vector<TensorId> separators(const std::vector<TensorId>& side) const {
    if (!walk(side, [](std::size_t, std::size_t) {})) return {};  // the rule, and cheap to see
    Directed paths(sink() + 1);
    walk(side, [&](std::size_t from, std::size_t to) { boost::add_edge(from, to, paths); });
    std::vector<std::size_t> parent(sink() + 1, Directed::null_vertex()), points;
    boost::lengauer_tarjan_dominator_tree(
        paths, root(), boost::make_iterator_property_map(parent.begin(), boost::get(boost::vertex_index, paths)));
    for (std::size_t at = parent[sink()]; at != root(); at = parent[at]) points.push_back(at);
    return batched_values(points);
  }

 private:
  static std::size_t vertex(OpId op) { return static_cast<std::size_t>(op); }
  std::size_t vertex(TensorId value) const { return ops_ + static_cast<std::size_t>(value); }
  std::size_t root() const { return ops_ + graph_.tensors.size(); }
  std::size_t sink() const { return root() + 1; }
  bool is_forward(OpId op) const { return graph_.ops[op].phase == Phase::forward; }
  bool joins(TensorId t) const {
    const Tensor& tensor = graph_.tensors[t];
    return tensor.producer != kNoOp && is_forward(tensor.producer) && !is_persistent(tensor);
  }
  // From what the caller gives.
  bool begins(OpId op) const {
    const std::vector<TensorId>& inputs = graph_.ops[op].inputs;
    return is_forward(op) && std::none_of(inputs.begin(), inputs.end(), [&](TensorId t) { return joins(t); });
  }

  // Along every edge from what the caller gives that leads around `side`; whether one reaches an output.
  template <class Edge>
  bool walk(const std::vector<TensorId>& side, Edge edge) const {
    std::vector<std::size_t> open;
    std::vector<char> seen(sink() + 1, 0);
    const auto step = [&](std::size_t from, std::size_t to) {
      edge(from, to);
      if (seen[to] == 0) open.push_back(to);
      seen[to] = 1;
    };
    for (std::size_t i = 0; i < ops_; ++i)
      if (begins(static_cast<OpId>(i))) step(root(), i);
    while (!open.empty()) {
      const std::size_t at = open.back();
      open.pop_back();
      if (at == sink()) continue;
      if (at < ops_) {
        for (TensorId t : graph_.ops[static_cast<OpId>(at)].outputs)
          if (joins(t) && std::find(side.begin(), side.end(), t) == side.end()) step(at, vertex(t));
        continue;
      }
      const Tensor& tensor = graph_.tensors[static_cast<TensorId>(at - ops_)];
      if (tensor.is_output) step(at, sink());
      for (OpId reader : tensor.consumers)
        if (is_forward(reader)) step(at, vertex(reader));
    }
    return seen[sink()] != 0;
  }

  std::vector<TensorId> batched_values(const std::vector<std::size_t>& points) const {
    std::vector<TensorId> values;
    for (std::size_t point : points)
      if (point >= ops_ && graph_.tensors[static_cast<TensorId>(point - ops_)].type.batched)
        values.push_back(static_cast<TensorId>(point - ops_));
    std::sort(values.begin(), values.end());
    return values;
  }

  const Graph& graph_;
  std::size_t ops_;
};

// Whether the value is made before, and read on both sides of, one of the others.
bool passes_by(const Graph& graph, TensorId side, const std::vector<TensorId>& others) {
  const std::vector<OpId>& readers = graph.tensors[side].consumers;
  std::vector<OpId> forward;
  for (OpId reader : readers)
    if (graph.ops[reader].phase == Phase::forward) forward.push_back(reader);
  if (forward.empty()) return false;
  const OpId first = *std::min_element(forward.begin(), forward.end());
  const OpId last = *std::max_element(forward.begin(), forward.end());
  return std::any_of(others.begin(), others.end(), [&](TensorId other) {
    return graph.tensors[other].producer > first && graph.tensors[other].producer < last;
  });
}

}  // namespace

BlockBorders borders_of_blocks(const Graph& graph) {
  const ForwardGraph forward(graph);
  BlockBorders borders{forward.articulation_values(), {}};
  for (TensorId value : borders.between)
    if (passes_by(graph, value, forward.separators({value}))) borders.side.push_back(value);
  if (borders.side.empty()) return borders;
  std::vector<TensorId> all;
  const std::vector<TensorId> around = forward.separators(borders.side);
  std::set_union(borders.between.begin(), borders.between.end(), around.begin(), around.end(), std::back_inserter(all));
  borders.between = std::move(all);
  return borders;
}

}  // namespace thimble
