// Checkpoints: the ops before the fullest moment are cut into segments; what crosses a cut is held, what is inside one
// runs again, all at once, when the second half first asks for it. Segments of equal length (Chen et al. 2016, sqrt(n)
// among them) and of equal bytes (their greedy for many sizes).
#include <algorithm>
#include <cmath>

#include "remat_solver.h"

namespace thimble::remat {
namespace {

std::size_t fullest_moment(const Graph& graph) {
  std::vector<std::size_t> last(graph.bytes.size(), 0);
  for (std::size_t p = 0; p < graph.order.size(); ++p)
    for (std::int32_t t : graph.in[static_cast<std::size_t>(graph.order[p])]) last[static_cast<std::size_t>(t)] = p;
  std::vector<std::int64_t> freed(graph.order.size() + 1, 0);
  std::int64_t held = 0, most = -1;
  std::size_t at = 0;
  for (std::size_t p = 0; p < graph.order.size(); ++p) {
    for (std::int32_t t : graph.out[static_cast<std::size_t>(graph.order[p])]) {
      const auto i = static_cast<std::size_t>(t);
      held += graph.bytes[i];
      if (!graph.keep[i]) freed[std::max(p, last[i])] += graph.bytes[i];
    }
    if (held > most) {
      most = held;
      at = p;
    }
    held -= freed[p];
  }
  return at;
}

class Segments {
 public:
  // `cut` per op of the first half: the number of its segment, not decreasing. The last segment is held.
  Segments(const Graph& graph, std::size_t half, std::vector<std::int32_t> cut)
      : graph_(graph), half_(half), cut_(std::move(cut)) {}

  Sequence sequence() {
    find_dropped();
    Sequence result(graph_.order.begin(), graph_.order.begin() + static_cast<std::ptrdiff_t>(half_));
    std::vector<char> is_back(static_cast<std::size_t>(cut_.empty() ? 1 : cut_.back() + 1), 0);
    for (std::size_t p = half_; p < graph_.order.size(); ++p) {
      const std::int32_t op = graph_.order[p];
      std::vector<std::int32_t> asked;
      for (std::int32_t t : graph_.in[static_cast<std::size_t>(op)])
        if (const std::int32_t segment = segment_[static_cast<std::size_t>(t)];
            segment >= 0 && !is_back[static_cast<std::size_t>(segment)]) {
          is_back[static_cast<std::size_t>(segment)] = 1;
          asked.push_back(segment);
        }
      std::sort(asked.begin(), asked.end());
      for (std::int32_t segment : asked) run_again(segment, result);
      result.push_back(op);
    }
    return result;
  }

 private:
  // segment_[t]: the segment that makes t again, -1 where t is held or of the second half.
  void find_dropped() {
    segment_.assign(graph_.bytes.size(), -1);
    for (std::size_t p = 0; p < half_; ++p) {
      const std::int32_t own = cut_[p];
      for (std::int32_t t : graph_.out[static_cast<std::size_t>(graph_.order[p])])
        if (own != cut_.back() && !graph_.keep[static_cast<std::size_t>(t)])
          segment_[static_cast<std::size_t>(t)] = own;
    }
    for (std::size_t p = 0; p < half_; ++p)  // what crosses a cut is held
      for (std::int32_t t : graph_.in[static_cast<std::size_t>(graph_.order[p])])
        if (std::int32_t& segment = segment_[static_cast<std::size_t>(t)]; segment >= 0 && segment != cut_[p])
          segment = -1;
  }

  // The segment's ops that the second half needs, in their order.
  void run_again(std::int32_t segment, Sequence& result) const {
    std::vector<char> wanted(graph_.bytes.size(), 0);
    for (std::size_t p = half_; p < graph_.order.size(); ++p)
      for (std::int32_t t : graph_.in[static_cast<std::size_t>(graph_.order[p])])
        wanted[static_cast<std::size_t>(t)] = 1;
    Sequence again;
    for (std::size_t p = half_; p-- > 0;) {
      if (cut_[p] != segment) continue;
      const auto op = static_cast<std::size_t>(graph_.order[p]);
      bool runs = false;
      for (std::int32_t t : graph_.out[op])
        runs |= wanted[static_cast<std::size_t>(t)] && segment_[static_cast<std::size_t>(t)] == segment;
      if (!runs) continue;
      again.push_back(graph_.order[p]);
      for (std::int32_t t : graph_.in[op]) wanted[static_cast<std::size_t>(t)] = 1;
    }
    result.insert(result.end(), again.rbegin(), again.rend());
  }

  const Graph& graph_;
  std::size_t half_;
  std::vector<std::int32_t> cut_;      // by position in the first half
  std::vector<std::int32_t> segment_;  // by tensor
};

// Cuts after every `limit` bytes made.
std::vector<std::int32_t> cut_by_bytes(const Graph& graph, std::size_t half, double limit) {
  std::vector<std::int32_t> cut;
  double made = 0;
  std::int32_t segment = 0;
  for (std::size_t p = 0; p < half; ++p) {
    cut.push_back(segment);
    for (std::int32_t t : graph.out[static_cast<std::size_t>(graph.order[p])])
      made += static_cast<double>(graph.bytes[static_cast<std::size_t>(t)]);
    if (made < limit) continue;
    made = 0;
    ++segment;
  }
  return cut;
}

std::vector<std::int32_t> cut_by_count(std::size_t half, std::size_t segments) {
  std::vector<std::int32_t> cut;
  for (std::size_t p = 0; p < half; ++p) cut.push_back(static_cast<std::int32_t>(p * segments / half));
  return cut;
}

}  // namespace

SolverOutput solve_by_segments(const SolverInput& input) {
  const Graph& graph = input.graph;
  SolverOutput output;
  const std::size_t half = std::min(fullest_moment(graph) + 1, graph.order.size());
  if (half < 2) return output;
  double made = 0;
  for (std::size_t p = 0; p < half; ++p)
    for (std::int32_t t : graph.out[static_cast<std::size_t>(graph.order[p])])
      made += static_cast<double>(graph.bytes[static_cast<std::size_t>(t)]);
  Cost best = INT64_MAX;
  const auto try_cut = [&](std::vector<std::int32_t> cut) {
    Sequence sequence = Segments(graph, half, std::move(cut)).sequence();
    const std::int64_t peak = sequence_peak(graph, sequence);
    const Cost cost = sequence_cost(graph, sequence);
    if (peak < 0 || peak > input.budget || cost >= best) return;
    best = cost;
    output.sequences = {std::move(sequence)};
  };
  const auto root = static_cast<std::size_t>(std::sqrt(static_cast<double>(half)));
  try_cut(cut_by_count(half, std::max<std::size_t>(root, 2)));
  double count = 1;
  for (int i = 0; i < 27 && count <= static_cast<double>(half); ++i, count *= 1.25) {
    try_cut(cut_by_count(half, static_cast<std::size_t>(count)));
    try_cut(cut_by_bytes(graph, half, made / count));
  }
  return output;
}

}  // namespace thimble::remat
