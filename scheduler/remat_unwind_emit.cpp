// From a path to a schedule.
#include <algorithm>
#include <cmath>

#include "remat_solver.h"
#include "remat_unwind.h"

namespace thimble::remat {
namespace {

constexpr std::size_t kMostRuns = 40'000;   // of a schedule, per op of the graph
constexpr double kMostCost = 4e18;          // what an integer has room for
constexpr std::int64_t kMovesPerStep = 12;  // a step of this search takes as long as so many of the local search
constexpr std::size_t kWidth = 60;          // at half the peak of layered random graphs, 45 rarely gets to the end
constexpr std::size_t kWidthOfAllShed = 30;
constexpr double kShareOfCoarse = 0.4, kShareOfTables = 0.95;  // of the effort
// In order: a higher threshold or a lower price makes less again, if the beam gets to the end.
constexpr double kThresholds[] = {0.9, 0.8, 0.65, 0.5, 0.35};
constexpr double kBytePrices[] = {50, 400};  // in mean costs per byte of the graph

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

}  // namespace

// What a path says of tensors that are not required here, or are held for others, is passed over.
void Unwinder::emit(const Path& path, const Set& rest) {
  for (const Step& step : path) {
    if (ops_.size() > kMostRuns * graph_.order.size()) return;
    if (step.kind == Step::shed) {
      if (required_.has(step.id) && !rest.has(step.id)) emit_remake(step.id);
      continue;
    }
    bool is_required = false;
    for (const std::int32_t t : graph_.out[index(step.id)]) {
      if (!required_.has(t) || rest.has(t)) continue;
      is_required = true;
      required_.remove(t);
    }
    if (!is_required) continue;
    for (const std::int32_t t : graph_.in[index(step.id)]) required_.add(t);
    ops_.push_back(step.id);
  }
}

void Unwinder::emit_remake(std::int32_t tensor) {
  Set rest = required_;
  rest.remove(tensor);
  const std::int64_t room = budget_ - bytes(rest);
  const std::size_t before = ops_.size();
  if (remake(tensor, rest, room, HUGE_VAL, &ops_) < HUGE_VAL) {
    required_ = rest;
    return;
  }
  ops_.resize(before);
  const auto& makings = table_[index(tensor)];
  const auto after = std::find_if(makings.begin(), makings.end(), [&](const Making& m) { return m.room > room; });
  if (after != makings.begin()) emit(std::prev(after)->path, rest);
}

std::optional<Sequence> Unwinder::write(const Set& goal, const Path& path) {
  required_ = goal;
  ops_.clear();
  emit(path, {});
  double cost = 0;
  for (const std::int32_t op : ops_) cost += cost_of(op);
  if (!required_.empty() || cost > kMostCost) return std::nullopt;
  return Sequence(ops_.rbegin(), ops_.rend());
}

// As in the table: the dearest shed tensor costs less and less.
std::optional<Unwinder::Path> Unwinder::cheapest_of_all_shed(const Set& goal) {
  std::optional<Path> best;
  double least = HUGE_VAL;
  for (double most = HUGE_VAL; !is_spent();) {
    std::optional<Path> path = search(goal, budget_, {.most = most, .width = kWidthOfAllShed});
    if (!path) break;
    double dearest = 0;
    const Trace traced = trace(goal, *path);
    for (const std::size_t i : traced.sheds) dearest = std::max(dearest, traced.price[i]);
    if (dearest == 0) return path;
    most = dearest / 2;
    const double cost = hold(goal, *path);
    if (cost >= least) continue;
    least = cost;
    best = std::move(path);
  }
  return best;
}

// First a coarse table, and paths by cost; they get there while the budget is not very tight.
std::optional<Sequence> Unwinder::run() {
  constexpr Grid kCoarse{.ratio = 1.3, .searches_by_cost = false}, kFine{.ratio = 1.04, .searches_by_cost = true};
  Set goal;
  double cost = 0, bytes = 1;
  for (std::int32_t t = 0; t < graph_.tensors(); ++t)
    if (graph_.keep[index(t)]) goal.add(t);
  for (const std::int32_t op : graph_.order) {
    cost += cost_of(op);
    for (const std::int32_t t : graph_.out[index(op)]) bytes += static_cast<double>(size(t));
  }
  share_ = kShareOfCoarse;
  fill_table(kCoarse);
  for (const double threshold : kThresholds)
    for (const double price : kBytePrices) {
      std::optional<Path> path = search(goal, budget_, {threshold, HUGE_VAL, price * cost / bytes, kWidth, true});
      if (!path) continue;
      hold(goal, *path);
      if (std::optional<Sequence> found = write(goal, *path)) return found;
    }
  share_ = kShareOfTables;
  fill_table(kFine);
  share_ = 1;
  const std::optional<Path> path = cheapest_of_all_shed(goal);
  return path ? write(goal, *path) : std::nullopt;
}

// Where nothing else has found a schedule: the first will do, the local search shortens it.
SolverOutput solve_by_unwinding(const SolverInput& input) {
  SolverOutput output;
  const Graph& graph = input.graph;
  if (!input.known.sequences.empty() || std::max(graph.tensors(), graph.ops()) > kLargestUnwinding ||
      graph.has_alternatives)
    return output;
  Unwinder unwinder(graph, input.budget, input.move_limit / kMovesPerStep);
  std::optional<Sequence> sequence = unwinder.run();
  if (!sequence) return output;
  const std::int64_t peak = sequence_peak(graph, *sequence);
  if (peak >= 0 && peak <= input.budget) output.sequences.push_back(std::move(*sequence));
  return output;
}

}  // namespace thimble::remat
