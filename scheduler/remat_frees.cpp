// From the ops that run to what is held when.
#include <algorithm>
#include <numeric>
#include <utility>

#include "remat_graph.h"

namespace thimble::remat {
namespace {

constexpr std::int32_t kUnused = -1;

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

// For each position and output of its op, one after the other, the last position that reads it before it is made again;
// kUnused where none does, the sequence's length where it is kept to the end.
std::vector<std::int32_t> last_reads(const Graph& graph, const Sequence& sequence) {
  std::size_t outputs = 0;
  for (const std::int32_t op : sequence) outputs += graph.out[index(op)].size();
  std::vector<std::int32_t> last(outputs);
  const auto length = static_cast<std::int32_t>(sequence.size());
  std::vector<std::int32_t> next(graph.bytes.size(), kUnused);
  for (std::size_t t = 0; t < next.size(); ++t)
    if (graph.keep[t]) next[t] = length;
  for (std::int32_t p = length - 1; p >= 0; --p) {
    const std::int32_t op = sequence[index(p)];
    const auto& out = graph.out[index(op)];
    outputs -= out.size();
    for (std::size_t i = 0; i < out.size(); ++i) last[outputs + i] = std::exchange(next[index(out[i])], kUnused);
    for (const std::int32_t t : graph.in[index(op)])
      if (next[index(t)] == kUnused) next[index(t)] = p;
  }
  return last;
}

}  // namespace

std::vector<RematStep> with_frees(const Graph& graph, const Sequence& sequence) {
  const std::vector<std::int32_t> last = last_reads(graph, sequence);
  std::vector<std::size_t> first(sequence.size() + 1, 0);  // of the tensors freed behind each position
  std::size_t output = 0;
  const auto behind = [&](std::size_t p) { return last[output] == kUnused ? p : index(last[output]); };
  for (std::size_t p = 0; p < sequence.size(); ++p)
    for (std::size_t i = 0; i < graph.out[index(sequence[p])].size(); ++i, ++output) ++first[behind(p)];
  first.back() = 0;  // kept to the end
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<std::int32_t> freed(first.back());
  output = 0;
  for (std::size_t p = 0; p < sequence.size(); ++p)
    for (const std::int32_t t : graph.out[index(sequence[p])]) {
      const std::size_t when = behind(p);
      if (when < sequence.size()) freed[--first[when]] = graph.tensor_id[index(t)];
      ++output;
    }
  std::vector<RematStep> steps;
  steps.reserve(sequence.size() + freed.size());
  for (std::size_t p = 0; p < sequence.size(); ++p) {
    steps.push_back({RematStep::Kind::compute, graph.op_id[index(sequence[p])]});
    std::sort(freed.begin() + static_cast<std::ptrdiff_t>(first[p]),
              freed.begin() + static_cast<std::ptrdiff_t>(first[p + 1]));
    for (std::size_t i = first[p]; i < first[p + 1]; ++i) steps.push_back({RematStep::Kind::free, freed[i]});
  }
  return steps;
}

std::int64_t sequence_peak(const Graph& graph, const Sequence& sequence) {
  const std::vector<std::int32_t> last = last_reads(graph, sequence);
  std::vector<char> made(graph.bytes.size(), 0);
  std::vector<std::int64_t> released(sequence.size() + 1, 0);
  std::int64_t live = 0, peak = 0;
  std::size_t output = 0;
  for (std::size_t p = 0; p < sequence.size(); ++p) {
    const std::int32_t op = sequence[p];
    for (const std::int32_t t : graph.in[index(op)])
      if (!made[index(t)]) return -1;
    for (const std::int32_t t : graph.out[index(op)]) {
      const std::int32_t read = last[output++];
      made[index(t)] = 1;
      live += graph.bytes[index(t)];
      released[read == kUnused ? p : index(read)] += graph.bytes[index(t)];
    }
    peak = std::max(peak, live + graph.workspace[index(op)]);
    live -= released[p];
  }
  for (std::size_t t = 0; t < made.size(); ++t)
    if (graph.keep[t] && !made[t]) return -1;
  return peak;
}

Cost sequence_cost(const Graph& graph, const Sequence& sequence) {
  Cost cost = 0;
  for (std::int32_t op : sequence) cost += graph.cost[index(op)];
  return cost;
}

}  // namespace thimble::remat
