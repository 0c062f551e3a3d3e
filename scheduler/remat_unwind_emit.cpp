// From a path to a schedule: what was shed is made again as cheaply as the room beside all that is required then
// allows, planned at the spot.
#include <algorithm>
#include <cmath>

#include "remat_solver.h"
#include "remat_unwind.h"

namespace thimble::remat {
namespace {

using Style = Unwinder::Style;
constexpr std::size_t kMostRuns = 40;       // of a schedule, per op of the graph
constexpr std::int64_t kMovesPerStep = 15;  // a step of this search takes as long as so many of the local search
constexpr std::size_t kWidth = 60;          // at half the peak of layered random graphs, 45 rarely gets to the end
// In order: a higher threshold or a lower price makes less again, if the beam gets to the end.
constexpr double kThresholds[] = {0.9, 0.8, 0.65, 0.5, 0.35};
constexpr double kBytePrices[] = {50, 400};
// For one tensor, where most of the budget is taken by others.
constexpr Style kStylesAtTheSpot[] = {{false, 0.9, 10, 1}, {false, 0.6, 10, 1}, {false, 0.35, 10, 1}};

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

}  // namespace

std::optional<Unwinder::Path> Unwinder::plan(const Task& task) {
  std::optional<Path> best;
  double least = HUGE_VAL;
  for (const Style& style : kStylesAtTheSpot) {
    std::optional<Path> path = search(task, style);
    if (!path) continue;
    const double cost = hold(task, *path);
    if (cost >= least) continue;
    least = cost;
    best = std::move(path);
  }
  if (best) return best;
  best = search(task, {.is_eager = true});
  if (best) hold(task, *best);
  return best;
}

// What a path says of tensors that are not required here, or are held for others, is passed over.
void Unwinder::emit(const Path& path, const Set& rest) {
  for (const Step& step : path) {
    if (ops_.size() > kMostRuns * graph_.order.size() || effort_ > effort_limit_) return;
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
  Task task;
  task.goal.add(tensor);
  task.rest = required_;
  task.rest.remove(tensor);
  task.room = budget_ - bytes(task.rest);
  const std::size_t before = ops_.size();
  if (remake(tensor, task.rest, task.room, HUGE_VAL, &ops_) < HUGE_VAL) {
    required_ = task.rest;
    return;
  }
  ops_.resize(before);
  const std::optional<Path> path = plan(task);
  emit(path ? *path : alone_[index(tensor)].path, task.rest);
}

std::optional<Sequence> Unwinder::run(const Style& style) {
  Task task;
  for (std::int32_t t = 0; t < graph_.tensors(); ++t)
    if (graph_.keep[index(t)]) task.goal.add(t);
  task.room = budget_;
  std::optional<Path> path = search(task, style);
  if (!path) return std::nullopt;
  hold(task, *path);
  required_ = task.goal;
  ops_.clear();
  emit(*path, {});
  if (!required_.empty()) return std::nullopt;
  return Sequence(ops_.rbegin(), ops_.rend());
}

// Where nothing else has found a schedule: the first will do, the local search shortens it.
SolverOutput solve_by_unwinding(const SolverInput& input) {
  SolverOutput output;
  const Graph& graph = input.graph;
  if (!input.known.sequences.empty() || graph.tensors() > kLargestUnwinding || graph.has_alternatives) return output;
  Unwinder unwinder(graph, input.budget, input.move_limit / kMovesPerStep);
  for (const double threshold : kThresholds)
    for (const double byte_price : kBytePrices) {
      std::optional<Sequence> sequence = unwinder.run({false, threshold, byte_price, kWidth});
      if (!sequence) continue;
      const std::int64_t peak = sequence_peak(graph, *sequence);
      if (peak < 0 || peak > input.budget) continue;
      output.sequences.push_back(std::move(*sequence));
      return output;
    }
  return output;
}

}  // namespace thimble::remat
