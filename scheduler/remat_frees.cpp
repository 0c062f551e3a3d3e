// From the ops that run to what is held when.
#include <algorithm>

#include "remat_graph.h"

namespace thimble::remat {
namespace {

constexpr std::int32_t kUnused = -1;

// For each position and output of its op, the last position that reads it before it is made again; kUnused where none
// does, the sequence's length where it is kept to the end.
std::vector<std::vector<std::int32_t>> last_reads(const Graph& graph, const Sequence& sequence) {
  const auto length = static_cast<std::int32_t>(sequence.size());
  std::vector<std::vector<std::int32_t>> last(sequence.size());
  std::vector<std::int32_t> next(graph.bytes.size(), kUnused);
  for (std::size_t t = 0; t < next.size(); ++t)
    if (graph.keep[t]) next[t] = length;
  for (std::int32_t p = length - 1; p >= 0; --p) {
    const auto op = static_cast<std::size_t>(sequence[static_cast<std::size_t>(p)]);
    for (std::int32_t t : graph.out[op]) {
      last[static_cast<std::size_t>(p)].push_back(next[static_cast<std::size_t>(t)]);
      next[static_cast<std::size_t>(t)] = kUnused;
    }
    for (std::int32_t t : graph.in[op])
      if (next[static_cast<std::size_t>(t)] == kUnused) next[static_cast<std::size_t>(t)] = p;
  }
  return last;
}

}  // namespace

std::vector<RematStep> with_frees(const Graph& graph, const Sequence& sequence) {
  const auto last = last_reads(graph, sequence);
  std::vector<std::vector<std::int32_t>> freed(sequence.size());
  for (std::size_t p = 0; p < sequence.size(); ++p) {
    const auto& out = graph.out[static_cast<std::size_t>(sequence[p])];
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t when = last[p][i] == kUnused ? p : static_cast<std::size_t>(last[p][i]);
      if (when < sequence.size()) freed[when].push_back(graph.tensor_id[static_cast<std::size_t>(out[i])]);
    }
  }
  std::vector<RematStep> steps;
  for (std::size_t p = 0; p < sequence.size(); ++p) {
    steps.push_back({RematStep::Kind::compute, graph.op_id[static_cast<std::size_t>(sequence[p])]});
    std::sort(freed[p].begin(), freed[p].end());
    for (std::int32_t t : freed[p]) steps.push_back({RematStep::Kind::free, t});
  }
  return steps;
}

std::int64_t sequence_peak(const Graph& graph, const Sequence& sequence) {
  const auto last = last_reads(graph, sequence);
  std::vector<char> made(graph.bytes.size(), 0);
  std::vector<std::int64_t> released(sequence.size() + 1, 0);
  std::int64_t live = 0, peak = 0;
  for (std::size_t p = 0; p < sequence.size(); ++p) {
    const auto op = static_cast<std::size_t>(sequence[p]);
    for (std::int32_t t : graph.in[op])
      if (!made[static_cast<std::size_t>(t)]) return -1;
    const auto& out = graph.out[op];
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::int64_t bytes = graph.bytes[static_cast<std::size_t>(out[i])];
      made[static_cast<std::size_t>(out[i])] = 1;
      live += bytes;
      released[last[p][i] == kUnused ? p : static_cast<std::size_t>(last[p][i])] += bytes;
    }
    peak = std::max(peak, live + graph.workspace[op]);
    live -= released[p];
  }
  for (std::size_t t = 0; t < made.size(); ++t)
    if (graph.keep[t] && !made[t]) return -1;
  return peak;
}

Cost sequence_cost(const Graph& graph, const Sequence& sequence) {
  Cost cost = 0;
  for (std::int32_t op : sequence) cost += graph.cost[static_cast<std::size_t>(op)];
  return cost;
}

}  // namespace thimble::remat
