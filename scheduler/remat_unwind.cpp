#include "remat_unwind.h"

#include <algorithm>

namespace thimble::remat {
namespace {

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

}  // namespace

Unwinder::Unwinder(const Graph& graph, std::int64_t budget, std::int64_t effort_limit)
    : graph_(graph),
      budget_(budget),
      effort_limit_(effort_limit),
      ancestors_(graph.bytes.size()),
      reading_(graph.cost.size()),
      once_(graph.bytes.size(), 0),
      level_(graph.cost.size(), 0),
      readers_(graph.bytes.size()),
      hash_(graph.bytes.size()),
      table_(graph.bytes.size()),
      beside_(graph.bytes.size(), 0),
      buckets_(graph.cost.size() + 1) {
  for (const std::int32_t op : graph.order) {
    Set before;
    before.add(op);
    for (const std::int32_t t : graph.in[index(op)]) {
      readers_[index(t)].push_back(op);
      reading_[index(maker(t))].add(op);
      level_[index(op)] = std::max(level_[index(op)], level_[index(maker(t))] + 1);
      before = before | ancestors_[index(t)];
    }
    double cost = 0;
    before.for_each([&](std::int32_t o) { cost += cost_of(o); });
    for (const std::int32_t t : graph.out[index(op)]) {
      ancestors_[index(t)] = before;
      once_[index(t)] = cost;
    }
  }
  for (auto& ops : readers_)
    std::stable_sort(ops.begin(), ops.end(),
                     [&](std::int32_t a, std::int32_t b) { return level_[index(a)] > level_[index(b)]; });
  for (std::int32_t t = 0; t < graph.tensors(); ++t) {
    Set only;
    only.add(t);
    hash_[index(t)] = only.hash();
  }
}

std::int64_t Unwinder::bytes(const Set& set) const {
  std::int64_t sum = 0;
  set.for_each([&](std::int32_t t) { sum += size(t); });
  return sum;
}

// Everything that making what is required from nothing takes.
void Unwinder::set_pending(State& s) const {
  s.pending = {};
  s.required.for_each([&](std::int32_t t) { s.pending = s.pending | ancestors_[index(t)]; });
  s.left = s.pending.count();
}

Unwinder::State Unwinder::state_of(const Set& required) const {
  State s;
  required.for_each([&](std::int32_t t) { flip(t, s); });
  set_pending(s);
  return s;
}

void Unwinder::undo(std::int32_t op, State& s) {
  if (!is_awaited(op, s.pending)) {
    s.pending.remove(op);
    --s.left;
  }
  for (const std::int32_t t : graph_.out[index(op)])
    if (s.required.has(t)) flip(t, s);
  for (const std::int32_t t : graph_.in[index(op)])
    if (!s.required.has(t)) flip(t, s);
  s.cost += cost_of(op);
  steps_.push_back({s.last, {Step::undo, op}});
  s.last = static_cast<std::int32_t>(steps_.size()) - 1;
}

void Unwinder::shed(std::int32_t tensor, double cost, State& s) {
  flip(tensor, s);
  if (!is_awaited(maker(tensor), s.pending)) set_pending(s);
  s.cost += cost;
  steps_.push_back({s.last, {Step::shed, tensor}});
  s.last = static_cast<std::int32_t>(steps_.size()) - 1;
}

}  // namespace thimble::remat
