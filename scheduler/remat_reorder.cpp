// Orders that run nothing twice and hold as little as possible above a budget: threshold accepting (Dueck and Scheuer
// 1990) over moves of one op between its last producer and its first reader.
#include <algorithm>

#include "remat_order.h"
#include "remat_repair.h"

namespace thimble::remat {
namespace {

class Reorder {
 public:
  Reorder(const Graph& graph, std::int64_t budget, Sequence order)
      : graph_(graph), budget_(budget), order_(std::move(order)), best_(order_) {
    position_.assign(graph.cost.size(), -1);
    for (std::size_t p = 0; p < order_.size(); ++p)
      position_[static_cast<std::size_t>(order_[p])] = static_cast<std::int32_t>(p);
    held_before_.assign(order_.size() + 1, 0);
    above_ = sweep(0, length() - 1);
    best_above_ = above_;
  }

  Sequence run(std::int64_t effort_limit) {
    double threshold = static_cast<double>(above_) / static_cast<double>(order_.size() + 1);
    const double start = threshold;
    while (effort_ < effort_limit && best_above_ > 0) {
      threshold = start * (1 - static_cast<double>(effort_) / static_cast<double>(effort_limit));
      try_move(threshold);
    }
    return best_;
  }

 private:
  std::int32_t length() const { return static_cast<std::int32_t>(order_.size()); }
  std::int32_t position_of(std::int32_t op) const { return position_[static_cast<std::size_t>(op)]; }
  std::int32_t maker_of(std::int32_t tensor) const { return graph_.chosen[static_cast<std::size_t>(tensor)]; }

  // Where the op at `p` may go: after all it reads, before all who read it.
  std::pair<std::int32_t, std::int32_t> window(std::int32_t p) const {
    std::int32_t first = 0, last = length() - 1;
    const auto op = static_cast<std::size_t>(order_[static_cast<std::size_t>(p)]);
    for (std::int32_t t : graph_.in[op]) first = std::max(first, position_of(maker_of(t)) + 1);
    for (std::int32_t t : graph_.out[op])
      for (std::int32_t reader : graph_.consumers[static_cast<std::size_t>(t)])
        if (const std::int32_t r = position_of(reader); r > p) last = std::min(last, r - 1);
    return {first, last};
  }

  std::int32_t last_read(std::int32_t tensor) const {
    if (graph_.keep[static_cast<std::size_t>(tensor)]) return length();
    std::int32_t last = -1;
    for (std::int32_t reader : graph_.consumers[static_cast<std::size_t>(tensor)])
      last = std::max(last, position_of(reader));
    return last;
  }

  // Bytes above the budget over the steps [from, to]; brings held_before_ up to date behind `from`.
  std::int64_t sweep(std::int32_t from, std::int32_t to) {
    std::int64_t held = held_before_[static_cast<std::size_t>(from)], above = 0;
    for (std::int32_t p = from; p <= to; ++p) {
      held_before_[static_cast<std::size_t>(p)] = held;
      const auto op = static_cast<std::size_t>(order_[static_cast<std::size_t>(p)]);
      std::int64_t freed = 0;
      for (std::int32_t t : graph_.out[op]) {
        const auto i = static_cast<std::size_t>(t);
        if (maker_of(t) != static_cast<std::int32_t>(op)) continue;  // with alternatives somebody else made it
        held += graph_.bytes[i];
        if (last_read(t) < p) freed += graph_.bytes[i];
      }
      for (std::int32_t t : graph_.in[op])
        if (last_read(t) == p) freed += graph_.bytes[static_cast<std::size_t>(t)];
      above += std::max<std::int64_t>(0, held + graph_.workspace[op] - budget_);
      held -= freed;
    }
    effort_ += to - from + 4;
    return above;
  }

  void shift(std::int32_t from, std::int32_t to) {
    const auto begin = order_.begin();
    if (from < to)
      std::rotate(begin + from, begin + from + 1, begin + to + 1);
    else
      std::rotate(begin + to, begin + from, begin + from + 1);
    for (std::int32_t p = std::min(from, to); p <= std::max(from, to); ++p)
      position_[static_cast<std::size_t>(order_[static_cast<std::size_t>(p)])] = p;
  }

  void try_move(double threshold) {
    const auto from = static_cast<std::int32_t>(dice_.below(order_.size()));
    const auto [first, last] = window(from);
    ++effort_;
    if (first >= last) return;
    const auto to = first + static_cast<std::int32_t>(dice_.below(static_cast<std::size_t>(last - first) + 1));
    if (to == from) return;
    const std::int32_t begin = std::min(from, to), end = std::max(from, to);
    const std::int64_t before = sweep(begin, end);
    shift(from, to);
    const std::int64_t after = sweep(begin, end);
    if (static_cast<double>(after - before) > threshold) {
      shift(to, from);
      sweep(begin, end);
      return;
    }
    above_ += after - before;
    if (above_ >= best_above_) return;
    best_above_ = above_;
    best_ = order_;
  }

  const Graph& graph_;
  std::int64_t budget_;
  Sequence order_, best_;
  std::vector<std::int32_t> position_;     // by op, -1: not in the order
  std::vector<std::int64_t> held_before_;  // by position
  std::int64_t above_ = 0, best_above_ = 0, effort_ = 0;
  Dice dice_{1};
};

}  // namespace

Sequence packed_order(const Graph& graph, std::int64_t budget, Sequence start, std::int64_t effort_limit) {
  if (start.size() < 2) return start;
  return Reorder(graph, budget, std::move(start)).run(effort_limit);
}

}  // namespace thimble::remat
