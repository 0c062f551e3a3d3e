// From the end along a given order (regression, as planners call it): what has to be resident, and the op that made the
// latest of it, which goes. Where its inputs do not fit beside the rest, something of the rest is made right here
// instead, with all that takes: in this direction that is what an eviction looks like. Every op undone puts earlier
// tensors in the place of later ones, so it ends; it may end stuck.
#include <algorithm>
#include <queue>

#include "remat_solver.h"

namespace thimble::remat {
namespace {

constexpr std::int64_t kMostEffort = 2'000'000;        // tensors and ops looked at, per order and reserve
constexpr std::int64_t kReserves[] = {0, 10, 20, 30};  // percent of the budget

class Regression {
 public:
  Regression(const Graph& graph, std::int64_t budget, const Sequence& order, std::int64_t reserve)
      : graph_(graph),
        budget_(budget),
        reserve_(reserve),
        position_(graph.cost.size(), 0),
        level_(graph.bytes.size(), kAbsent),
        seen_(graph.bytes.size(), 0) {
    for (std::size_t p = 0; p < order.size(); ++p)
      position_[static_cast<std::size_t>(order[p])] = static_cast<std::int32_t>(p);
    most_ops_ = order.size() * 20 + 100;
  }

  std::optional<Sequence> run() {
    for (std::int32_t t = 0; t < graph_.tensors(); ++t)
      if (graph_.keep[static_cast<std::size_t>(t)]) want(t, 0);
    std::int32_t top = 0;
    while (true) {
      const std::int32_t tensor = latest(top);
      if (tensor < 0) {
        if (top-- == 0) break;
        continue;
      }
      if (undone_.size() > most_ops_ || effort_ > kMostEffort) return std::nullopt;
      const std::int32_t op = graph_.chosen[static_cast<std::size_t>(tensor)];
      const std::int64_t bytes = held_ + missing(op);
      if (bytes > budget_ - (reserve_ >> std::min(top, 40))) {
        const std::int32_t shed = choose(bytes > budget_);
        if (shed < 0 && bytes > budget_) return std::nullopt;
        if (shed >= 0) {
          level_[static_cast<std::size_t>(shed)] = ++top;
          continue;
        }
      }
      undo(op, top);
    }
    std::reverse(undone_.begin(), undone_.end());
    return undone_;
  }

 private:
  static constexpr std::int32_t kAbsent = -1;

  std::int32_t position_of(std::int32_t tensor) const {
    return position_[static_cast<std::size_t>(graph_.chosen[static_cast<std::size_t>(tensor)])];
  }
  bool is_held(std::int32_t tensor) const { return level_[static_cast<std::size_t>(tensor)] != kAbsent; }

  void want(std::int32_t tensor, std::int32_t level) {
    if (is_held(tensor)) return;
    level_[static_cast<std::size_t>(tensor)] = level;
    held_ += graph_.bytes[static_cast<std::size_t>(tensor)];
    list_.push_back(tensor);
  }

  std::int32_t latest(std::int32_t level) {
    std::int32_t found = -1;
    for (std::int32_t t : list_)
      if (level_[static_cast<std::size_t>(t)] == level && (found < 0 || position_of(t) > position_of(found))) found = t;
    effort_ += static_cast<std::int64_t>(list_.size());
    return found;
  }

  // Bytes that have to be there for an op to run, besides what is held.
  std::int64_t missing(std::int32_t op) const {
    const auto o = static_cast<std::size_t>(op);
    std::int64_t bytes = graph_.workspace[o];
    for (const auto* list : {&graph_.in[o], &graph_.out[o]})
      for (std::int32_t t : *list) bytes += is_held(t) ? 0 : graph_.bytes[static_cast<std::size_t>(t)];
    return bytes;
  }

  void undo(std::int32_t op, std::int32_t level) {
    const auto o = static_cast<std::size_t>(op);
    for (std::int32_t t : graph_.out[o]) {
      if (!is_held(t)) continue;
      level_[static_cast<std::size_t>(t)] = kAbsent;
      held_ -= graph_.bytes[static_cast<std::size_t>(t)];
    }
    list_.erase(std::remove_if(list_.begin(), list_.end(), [&](std::int32_t t) { return !is_held(t); }), list_.end());
    for (std::int32_t t : graph_.in[o]) want(t, level);
    undone_.push_back(op);
    at_ = position_[o];
  }

  struct Cone {
    double cost = 0;
    std::int64_t peak = 0;
  };

  // What making `tensor` takes while all else is held.
  Cone cone_of(std::int32_t tensor) {
    Cone cone;
    ++stamp_;
    std::priority_queue<std::pair<std::int32_t, std::int32_t>> open;  // position, tensor
    std::int64_t held = held_;
    seen_[static_cast<std::size_t>(tensor)] = stamp_;
    open.emplace(position_of(tensor), tensor);
    while (!open.empty()) {
      const std::int32_t t = open.top().second;
      open.pop();
      const auto o = static_cast<std::size_t>(graph_.chosen[static_cast<std::size_t>(t)]);
      if (seen_[static_cast<std::size_t>(t)] != stamp_) continue;  // went with another output of its op
      std::int64_t beside = graph_.workspace[o];
      for (std::int32_t x : graph_.out[o])
        if (!is_held(x) && seen_[static_cast<std::size_t>(x)] != stamp_)
          beside += graph_.bytes[static_cast<std::size_t>(x)];
      std::int64_t outputs = 0;
      for (std::int32_t x : graph_.out[o])
        if (seen_[static_cast<std::size_t>(x)] == stamp_) {
          outputs += graph_.bytes[static_cast<std::size_t>(x)];
          seen_[static_cast<std::size_t>(x)] = 0;
        }
      for (std::int32_t x : graph_.in[o])
        if (!is_held(x) && seen_[static_cast<std::size_t>(x)] != stamp_) {
          seen_[static_cast<std::size_t>(x)] = stamp_;
          held += graph_.bytes[static_cast<std::size_t>(x)];
          open.emplace(position_of(x), x);
        }
      cone.peak = std::max(cone.peak, held + beside);
      held -= outputs;
      cone.cost += static_cast<double>(graph_.cost[o]) + 1e-3;
      ++effort_;
    }
    return cone;
  }

  // Ops back from here to the one that wants the tensor next.
  double distance(std::int32_t tensor) const {
    std::int32_t next = position_of(tensor);
    for (std::int32_t reader : graph_.consumers[static_cast<std::size_t>(tensor)])
      if (position_[static_cast<std::size_t>(reader)] < at_)
        next = std::max(next, position_[static_cast<std::size_t>(reader)]);
    return std::max(1.0, static_cast<double>(at_ - next));
  }

  // What to make here: cheap for its bytes and not wanted again soon. Where none fits whole, the one that needs least.
  std::int32_t choose(bool has_to) {
    std::int32_t best = -1;
    bool fits = false;
    double least = 0;
    for (std::int32_t t : list_) {
      const auto i = static_cast<std::size_t>(t);
      if (graph_.bytes[i] == 0 || held_ + missing(graph_.chosen[i]) > budget_) continue;
      const Cone cone = cone_of(t);
      const bool cone_fits = cone.peak <= budget_;
      if (!cone_fits && !has_to) continue;
      const double score =
          cone_fits ? cone.cost / (static_cast<double>(graph_.bytes[i]) * distance(t)) : static_cast<double>(cone.peak);
      if (best >= 0 && (fits > cone_fits || (fits == cone_fits && score >= least))) continue;
      best = t;
      least = score;
      fits = cone_fits;
    }
    return best;
  }

  const Graph& graph_;
  std::int64_t budget_;
  std::int64_t reserve_;
  std::int64_t effort_ = 0;
  std::vector<std::int32_t> position_;  // by op
  std::vector<std::int32_t> level_;     // by tensor: of what is held, the higher goes first
  std::vector<std::int64_t> seen_;      // by tensor
  std::int64_t stamp_ = 0;
  std::vector<std::int32_t> list_;  // what is held
  std::int64_t held_ = 0;
  std::int32_t at_ = 0;
  Sequence undone_;
  std::size_t most_ops_ = 0;
};

}  // namespace

SolverOutput solve_by_regression(const SolverInput& input) {
  SolverOutput output;
  for (const Sequence& order : starting_orders(input))
    for (const std::int64_t share : kReserves) {
      const std::int64_t reserve = input.budget / 100 * share;
      std::optional<Sequence> sequence = Regression(input.graph, input.budget, order, reserve).run();
      if (!sequence) continue;
      const std::int64_t peak = sequence_peak(input.graph, *sequence);
      if (peak >= 0 && peak <= input.budget) output.sequences.push_back(std::move(*sequence));
      break;  // a larger reserve costs more
    }
  return output;
}

}  // namespace thimble::remat
