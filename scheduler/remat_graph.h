// The problem as the solvers see it: constants gone, tensors numbered in an order in which they can be made, ops that
// can never run gone.
#pragma once

#include <cstdint>
#include <vector>

#include "thimble/remat.h"

namespace thimble::remat {

using Cost = std::int64_t;
/// The compute steps of a schedule by op of the Graph. What is freed when follows from it: every tensor is held from an
/// op that makes it to its last reader before it is made again.
using Sequence = std::vector<std::int32_t>;

struct Graph {
  // By tensor. Producers are ops that can run; consumers likewise.
  std::vector<std::int64_t> bytes;
  std::vector<char> keep;
  std::vector<std::vector<std::int32_t>> producers, consumers;
  std::vector<std::int32_t> tensor_id;  // of the problem
  // By op.
  std::vector<Cost> cost;
  std::vector<std::int64_t> workspace;
  std::vector<std::int64_t> need;  // bytes of inputs, outputs and workspace: what must fit for it to run
  std::vector<std::vector<std::int32_t>> in, out;
  std::vector<std::int32_t> op_id;  // of the problem
  Sequence order;                   // every op needed for the goal once, cheapest producers, as early as in the problem
  std::vector<std::int32_t> chosen;  // by tensor: the cheapest producer
  bool can_make_goal = true;         // with unlimited memory
  bool has_alternatives = false;     // some tensor has several producers

  std::int32_t tensors() const { return static_cast<std::int32_t>(bytes.size()); }
  std::int32_t ops() const { return static_cast<std::int32_t>(cost.size()); }
};

/// The problem has to be free of findings.
Graph make_graph(const RematProblem& problem);

/// Compute steps with the frees they imply, each as early as possible.
std::vector<RematStep> with_frees(const Graph& graph, const Sequence& sequence);

/// Bytes at the worst moment of a sequence; -1 where an input is not there when it is read or a kept tensor is missing.
std::int64_t sequence_peak(const Graph& graph, const Sequence& sequence);
Cost sequence_cost(const Graph& graph, const Sequence& sequence);

}  // namespace thimble::remat
