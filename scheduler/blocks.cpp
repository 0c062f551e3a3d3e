// Where the forward graph comes apart: Boost's articulation points.
#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/biconnected_components.hpp>

#include "thimble/recompute.h"

namespace thimble {
namespace {

using Undirected = boost::adjacency_list<boost::vecS, boost::vecS, boost::undirectedS, boost::no_property,
                                         boost::property<boost::edge_index_t, std::size_t>>;

}  // namespace

std::vector<TensorId> values_between_blocks(const Graph& graph) {
  // Vertices: ops, then values. Weights and other values that are the same for every sample join nothing, else a weight
  // read twice would tie blocks together; but statistics of a batch do pass from op to op.
  const std::size_t ops = graph.ops.size();
  Undirected joined(ops + graph.tensors.size());
  std::size_t edges = 0;
  const auto join = [&](OpId op, TensorId value) {
    boost::add_edge(static_cast<std::size_t>(op), ops + static_cast<std::size_t>(value), edges++, joined);
  };
  for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
    const auto id = static_cast<TensorId>(i);
    const Tensor& tensor = graph.tensors[id];
    if (tensor.producer == kNoOp || graph.ops[tensor.producer].phase != Phase::forward || is_persistent(tensor))
      continue;
    join(tensor.producer, id);
    for (OpId reader : tensor.consumers)
      if (graph.ops[reader].phase == Phase::forward) join(reader, id);
  }
  std::vector<std::size_t> points;
  boost::articulation_points(joined, std::back_inserter(points));
  std::vector<TensorId> values;
  for (std::size_t point : points)
    if (point >= ops && graph.tensors[static_cast<TensorId>(point - ops)].type.batched)
      values.push_back(static_cast<TensorId>(point - ops));
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace thimble
