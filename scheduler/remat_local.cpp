// Local search: from the orders and every schedule known, repair to the budget, then over and over let some repeated
// ops go, repair differently, and keep what is cheaper.
#include <algorithm>

#include "remat_repair.h"
#include "remat_solver.h"

namespace thimble::remat {
namespace {

constexpr std::int64_t kMostIdle = 6000;  // shakes in a row without anything better
constexpr std::size_t kRestarts = 32;
constexpr std::size_t kMostRuns = 100;    // per op of the graph: no move among more is found in time
constexpr std::size_t kLongGraph = 2000;  // ops: from here on many moves are made at a time

class LocalSearch {
 public:
  LocalSearch(const SolverInput& input, std::uint64_t seed, std::int64_t move_limit)
      : input_(input),
        mover_(input.graph, input.budget, seed, move_limit),
        most_steps_(static_cast<std::int32_t>(4 * input.graph.order.size() + 200)) {
    best_cost_ = input.known.best;
    if (!input.known.sequences.empty() && is_short(input.known.sequences.front()))
      best_ = input.known.sequences.front();
  }

  std::vector<Sequence> run() {
    start();
    if (!best_.empty()) iterate(best_, best_cost_);
    return found();
  }

  // From a start of its own, drawn by the seed, whatever is known already.
  std::vector<Sequence> run_anew(const Sequence& order, double noise) {
    const bool is_long = input_.graph.order.size() > kLongGraph;
    if (!is_short(order)) return {};
    mover_.timeline().set(order);
    const RepairStyle style{noise > 0 ? 0.6 + mover_.dice().real() : 1.0, noise, false, is_long};
    if (!mover_.repair(style, most_steps_, INT64_MAX)) return {};
    keep_if_better();
    const Sequence first = mover_.timeline().sequence();
    iterate(first, mover_.timeline().cost());
    return found();
  }

  std::int64_t effort() const { return mover_.effort(); }

 private:
  bool is_short(const Sequence& sequence) const { return sequence.size() <= kMostRuns * input_.graph.order.size(); }

  std::vector<Sequence> found() const {
    if (best_.empty()) return {};
    return {best_};
  }

  bool is_over() const { return mover_.is_spent() || best_cost_ <= input_.known.lower_bound; }

  void keep_if_better() {
    mover_.tidy();
    if (mover_.timeline().cost() >= best_cost_) return;
    best_cost_ = mover_.timeline().cost();
    best_ = mover_.timeline().sequence();
  }

  void start() {
    for (const Sequence& sequence : input_.known.sequences) {
      if (!is_short(sequence)) continue;
      mover_.timeline().set(sequence);
      keep_if_better();
    }
    const bool is_long = input_.graph.order.size() > kLongGraph;
    for (const Sequence& order : starting_orders(input_))
      for (double exponent : {1.0, 0.7, 1.5}) {
        if (is_over()) return;
        mover_.timeline().set(order);
        if (mover_.repair({exponent, 0, false, is_long}, most_steps_, INT64_MAX)) keep_if_better();
        if (is_long) break;
      }
  }

  // Ops that run again, in the current sequence.
  std::vector<std::int32_t> repeated() const {
    std::vector<std::int32_t> found;
    for (std::int32_t p = 0; p < mover_.timeline().length(); ++p)
      if (mover_.timeline().is_repeated(p)) found.push_back(p);
    return found;
  }

  // Lets a few neighbouring repeated ops go.
  void shake() {
    std::vector<std::int32_t> candidates = repeated();
    if (candidates.empty()) return;
    const std::size_t count = 1 + mover_.dice().below(4);
    std::size_t at = mover_.dice().below(candidates.size());
    std::vector<std::int32_t> chosen;
    for (std::size_t i = 0; i < count && i < candidates.size(); ++i) {
      chosen.push_back(candidates[at]);
      at = mover_.dice().below(3) == 0 ? mover_.dice().below(candidates.size()) : (at + 1) % candidates.size();
    }
    std::sort(chosen.begin(), chosen.end(), std::greater<>());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    for (std::int32_t p : chosen)  // from the end, so that the positions before stay what they are
      if (p < mover_.timeline().length() && mover_.timeline().is_repeated(p)) mover_.let_go(p);
  }

  void iterate(Sequence current, Cost current_cost) {
    const bool is_long = input_.graph.order.size() > kLongGraph;
    for (std::int64_t idle = 0; !is_over() && idle < kMostIdle; ++idle) {
      mover_.timeline().set(current);
      shake();
      const RepairStyle style{0.6 + mover_.dice().real(), mover_.dice().real() * 0.8, mover_.dice().below(4) == 0,
                              is_long};
      const Cost tolerated = current_cost + 1 + best_cost_ / 400;
      if (!mover_.repair(style, 200, tolerated)) continue;
      mover_.tidy();
      const Cost cost = mover_.timeline().cost();
      if (cost > current_cost && mover_.dice().below(8) != 0) continue;
      current = mover_.timeline().sequence();
      current_cost = cost;
      if (cost >= best_cost_) continue;
      best_ = current;
      best_cost_ = cost;
      idle = 0;
    }
  }

  const SolverInput& input_;
  mutable Mover mover_;
  std::int32_t most_steps_;
  Sequence best_;
  Cost best_cost_ = INT64_MAX;
};

}  // namespace

SolverOutput solve_by_moves(const SolverInput& input) {
  SolverOutput output;
  output.sequences = LocalSearch(input, 1, input.move_limit).run();
  return output;
}

// What the searches leave open. Local optima differ a lot by where one starts.
SolverOutput solve_by_restarts(const SolverInput& input) {
  SolverOutput output;
  std::vector<Sequence> starts = input.known.sequences;
  for (Sequence& order : starting_orders(input)) starts.push_back(std::move(order));
  std::int64_t left = input.move_limit / 3;
  for (std::size_t i = 0; i < kRestarts && left > 0; ++i) {
    LocalSearch search(input, i + 2, left);
    for (Sequence& sequence : search.run_anew(starts[i % starts.size()], i < starts.size() ? 0 : 0.6))
      output.sequences.push_back(std::move(sequence));
    left -= search.effort();
  }
  return output;
}

}  // namespace thimble::remat
