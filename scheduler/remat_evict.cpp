// Step by step along the problem's order, as an online evictor would (Dynamic Tensor Rematerialization, Kirisame et al.
// 2021), except that the future is known: what is read in the most distant future per cost and byte is given up first,
// and made again, with whatever that needs, when it is asked for.
#include <algorithm>
#include <cmath>

#include "remat_solver.h"

namespace thimble::remat {
namespace {

class Evictor {
 public:
  Evictor(const Graph& graph, std::int64_t budget, double distance_exponent)
      : graph_(graph),
        budget_(budget),
        exponent_(distance_exponent),
        resident_(graph.bytes.size(), 0),
        locked_(graph.bytes.size(), 0),
        next_(graph.bytes.size(), 0) {
    reads_.resize(graph.bytes.size());
    for (std::size_t p = 0; p < graph.order.size(); ++p)
      for (std::int32_t t : graph.in[static_cast<std::size_t>(graph.order[p])])
        reads_[static_cast<std::size_t>(t)].push_back(static_cast<std::int32_t>(p));
    most_ops_ = graph.order.size() * 6 + 100;
  }

  std::optional<Sequence> run() {
    for (now_ = 0; now_ < static_cast<std::int32_t>(graph_.order.size()); ++now_) {
      const std::int32_t op = graph_.order[static_cast<std::size_t>(now_)];
      if (is_done(op)) continue;
      if (!compute(op, 0)) return std::nullopt;
      forget_the_dead();
    }
    now_ = static_cast<std::int32_t>(graph_.order.size());
    for (std::size_t t = 0; t < graph_.bytes.size(); ++t) {
      if (!graph_.keep[t] || resident_[t]) continue;
      if (!compute(graph_.chosen[t], 0)) return std::nullopt;
    }
    for (std::size_t t = 0; t < graph_.bytes.size(); ++t)
      if (graph_.keep[t] && !resident_[t]) return std::nullopt;
    return sequence_;
  }

 private:
  bool is_done(std::int32_t op) const {
    for (std::int32_t t : graph_.out[static_cast<std::size_t>(op)])
      if (!resident_[static_cast<std::size_t>(t)]) return false;
    return true;
  }

  std::int32_t next_read(std::int32_t t) {
    const auto& reads = reads_[static_cast<std::size_t>(t)];
    std::size_t& next = next_[static_cast<std::size_t>(t)];
    while (next < reads.size() && reads[next] < now_) ++next;
    if (next < reads.size()) return reads[next];
    return graph_.keep[static_cast<std::size_t>(t)] ? static_cast<std::int32_t>(graph_.order.size()) : -1;
  }

  void forget_the_dead() {
    std::vector<std::int32_t> left;
    for (std::int32_t t : list_) {
      if (!resident_[static_cast<std::size_t>(t)]) continue;
      const auto& reads = reads_[static_cast<std::size_t>(t)];
      const bool is_read = graph_.keep[static_cast<std::size_t>(t)] || (!reads.empty() && reads.back() > now_);
      if (is_read || locked_[static_cast<std::size_t>(t)])
        left.push_back(t);
      else
        release(t);
    }
    list_ = std::move(left);
  }

  void release(std::int32_t t) {
    resident_[static_cast<std::size_t>(t)] = 0;
    held_ -= graph_.bytes[static_cast<std::size_t>(t)];
  }

  double remake_cost(std::int32_t t) const {
    const auto op = static_cast<std::size_t>(graph_.chosen[static_cast<std::size_t>(t)]);
    auto cost = static_cast<double>(graph_.cost[op]) + 1e-3;
    for (std::int32_t x : graph_.in[op])
      if (!resident_[static_cast<std::size_t>(x)])
        cost += static_cast<double>(graph_.cost[static_cast<std::size_t>(graph_.chosen[static_cast<std::size_t>(x)])]);
    return cost;
  }

  bool make_room(std::int64_t bytes) {
    while (held_ + bytes > budget_) {
      std::int32_t victim = -1;
      double least = 0;
      for (std::int32_t t : list_) {
        const auto i = static_cast<std::size_t>(t);
        if (!resident_[i] || locked_[i] || graph_.bytes[i] == 0) continue;
        const std::int32_t next = next_read(t);
        const double distance = next < 0 ? 1e18 : static_cast<double>(next - now_ + 1);
        const double score = remake_cost(t) / (static_cast<double>(graph_.bytes[i]) * std::pow(distance, exponent_));
        if (victim >= 0 && score >= least) continue;
        victim = t;
        least = score;
      }
      if (victim < 0) return false;
      release(victim);
    }
    return true;
  }

  bool compute(std::int32_t op, int depth) {
    const auto o = static_cast<std::size_t>(op);
    if (depth > 400 || sequence_.size() > most_ops_) return false;
    bool ok = true;
    for (std::int32_t t : graph_.in[o]) {
      ++locked_[static_cast<std::size_t>(t)];
      if (ok && !resident_[static_cast<std::size_t>(t)])
        ok = compute(graph_.chosen[static_cast<std::size_t>(t)], depth + 1);
    }
    std::int64_t bytes = graph_.workspace[o];
    for (std::int32_t t : graph_.out[o])
      bytes += resident_[static_cast<std::size_t>(t)] ? 0 : graph_.bytes[static_cast<std::size_t>(t)];
    for (std::int32_t t : graph_.in[o]) ok = ok && resident_[static_cast<std::size_t>(t)];
    ok = ok && make_room(bytes);
    for (std::int32_t t : graph_.in[o]) --locked_[static_cast<std::size_t>(t)];
    if (!ok) return false;
    for (std::int32_t t : graph_.out[o]) {
      if (resident_[static_cast<std::size_t>(t)]) continue;
      resident_[static_cast<std::size_t>(t)] = 1;
      held_ += graph_.bytes[static_cast<std::size_t>(t)];
      if (std::find(list_.begin(), list_.end(), t) == list_.end()) list_.push_back(t);
    }
    sequence_.push_back(op);
    return true;
  }

  const Graph& graph_;
  std::int64_t budget_;
  double exponent_;
  std::vector<char> resident_;
  std::vector<std::int32_t> locked_;
  std::vector<std::size_t> next_;
  std::vector<std::vector<std::int32_t>> reads_;  // by tensor: positions of the order
  std::vector<std::int32_t> list_;                // residents, and some that were
  std::int64_t held_ = 0;
  std::int32_t now_ = 0;
  Sequence sequence_;
  std::size_t most_ops_ = 0;
};

}  // namespace

SolverOutput solve_by_eviction(const SolverInput& input) {
  SolverOutput output;
  for (double exponent : {1.0, 0.5, 2.0}) {
    std::optional<Sequence> sequence = Evictor(input.graph, input.budget, exponent).run();
    if (!sequence) continue;
    const std::int64_t peak = sequence_peak(input.graph, *sequence);
    if (peak >= 0 && peak <= input.budget) output.sequences.push_back(std::move(*sequence));
  }
  return output;
}

}  // namespace thimble::remat
