#include "thimble/planner.h"

#include <algorithm>
#include <future>

#include "loop_search.h"
#include "paces.h"
#include "recompute_search.h"
#include "thimble/error.h"
#include "thimble/live_counter.h"

namespace thimble {
namespace {

// Two cuts of one batch have the same ops and values; what is summed over microbatches is added behind them.
bool is_same_but_for_the_cut(const Graph& a, const Graph& b) {
  return a.ops.size() == b.ops.size() && a.tensors.size() == b.tensors.size() &&
         std::equal(a.ops.begin(), a.ops.end(), b.ops.begin(),
                    [](const Op& x, const Op& y) { return x.kind == y.kind && x.inputs == y.inputs; });
}

Bytes padded(const TensorType& type) { return align_up(bytes_of(type), kAlignment); }

Bytes persistent_bytes(const Graph& graph) {
  Bytes bytes;
  for (const Tensor& tensor : graph.tensors)
    if (tensor.producer == kNoOp && is_persistent(tensor)) bytes += padded(tensor.type);
  return bytes;
}

// What one op needs beside what persists, whoever shares whose bytes: its inputs, or its outputs, and its workspace.
Bytes least_bytes(const Graph& graph, const Op& op, const OpPrice& price, std::int64_t samples) {
  const auto sum = [&](const std::vector<TensorId>& tensors) {
    std::vector<TensorId> distinct = tensors;
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    Bytes bytes;
    for (TensorId t : distinct)
      if (!is_persistent(graph.tensors[t])) bytes += padded(with_samples(graph.tensors[t].type, samples));
    return bytes;
  };
  return std::max(sum(op.inputs), sum(op.outputs)) + price.workspace;
}

Graph cut_graph(const ProgramRequest& program, const OpRegistry& registry) {
  return program.microbatches.size() > 1 ? accumulate_over_microbatches(program.graph, registry) : program.graph;
}

double seconds_saved(const IdVector<OpId, const OpPace*>& chosen, const IdVector<OpId, OpPrice>& prices) {
  double seconds = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i)
    if (const auto id = static_cast<OpId>(i); chosen[id] != nullptr)
      seconds += prices[id].seconds - chosen[id]->price.seconds;
  return seconds;
}

bool is_fuller(const Candidate& a, const Candidate& b) {
  if (a.milliseconds != b.milliseconds) return a.milliseconds < b.milliseconds;
  if (a.live != b.live) return a.live < b.live;
  return a.variant < b.variant;
}

}  // namespace

struct Frontier::Search {
  std::size_t tensors;  // of the uncut graph
  std::future<std::vector<RecomputeOption>> found;
};

Frontier::Frontier(std::vector<PlanRequest> variants, const OpRegistry& registry, PlannerOptions options)
    : variants_(std::move(variants)), registry_(registry) {
  if (variants_.empty()) throw InvalidArgument("planner: there is nothing to choose from");
  std::vector<std::vector<std::size_t>> groups;  // variants that differ in their cut alone
  for (std::size_t v = 0; v < variants_.size(); ++v) {
    const auto group = std::find_if(groups.begin(), groups.end(), [&](const std::vector<std::size_t>& known) {
      return is_same_but_for_the_cut(variants_[known.front()].programs.at(0).graph, variants_[v].programs.at(0).graph);
    });
    if (group == groups.end())
      groups.push_back({v});
    else
      group->push_back(v);
  }
  std::vector<std::vector<Search>> searches;
  searches.reserve(groups.size());
  for (const std::vector<std::size_t>& group : groups)
    searches.push_back(options.recompute ? start_searches(group, options.most_evaluations) : std::vector<Search>{});
  for (std::size_t g = 0; g < groups.size(); ++g) {
    std::vector<RecomputeRanks> ranks = found_by(searches[g]);
    if (!options.recompute) ranks.push_back(keep_everything(variants_[groups[g].front()].programs[0].graph));
    // Splits are searched for where the parts are smallest, and tried on the other cuts.
    std::stable_sort(groups[g].begin(), groups[g].end(),
                     [&](std::size_t a, std::size_t b) { return largest_part(a) < largest_part(b); });
    std::vector<std::vector<LoopSplit>> splits;
    for (std::size_t variant : groups[g]) add_variant(variant, ranks, options.loops, splits);
  }
  std::stable_sort(candidates_.begin(), candidates_.end(), is_fuller);
}

// For the cut with the largest part, where activations are what counts, and for that with the smallest, where gradients
// and workspaces are; what is found is tried on all of them. Each search runs in a thread of its own.
std::vector<Frontier::Search> Frontier::start_searches(const std::vector<std::size_t>& group,
                                                       int most_evaluations) const {
  const auto by_part = [&](std::size_t a, std::size_t b) { return largest_part(a) < largest_part(b); };
  const std::size_t smallest = *std::min_element(group.begin(), group.end(), by_part);
  const std::size_t largest = *std::max_element(group.begin(), group.end(), by_part);
  std::vector<Search> searches;
  for (std::size_t v : smallest == largest ? std::vector{largest} : std::vector{largest, smallest}) {
    const PlanRequest& request = variants_[v];
    const ProgramRequest& step = request.programs[0];
    Graph graph = cut_graph(step, registry_);
    auto prices = price_ops(graph, registry_, request.device, step.microbatches, request.calibration.get());
    ScheduleOptions options{.microbatches = step.microbatches, .barrier_before_update = step.barrier_before_update};
    const auto search = [this, graph = std::move(graph), prices = std::move(prices), options = std::move(options),
                         most_evaluations] {
      return search_recompute(graph, registry_, options, prices, most_evaluations);
    };
    searches.push_back({step.graph.tensors.size(), std::async(std::launch::async, search)});
  }
  return searches;
}

std::int64_t Frontier::largest_part(std::size_t variant) const {
  const std::vector<std::int64_t>& parts = variants_[variant].programs[0].microbatches;
  return *std::max_element(parts.begin(), parts.end());
}

std::vector<RecomputeRanks> Frontier::found_by(std::vector<Search>& searches) {
  std::vector<RecomputeRanks> all;
  for (Search& search : searches)
    for (const RecomputeOption& option : search.found.get()) {
      RecomputeRanks ranks;  // sums over microbatches are behind the values of the step
      for (std::size_t t = 0; t < search.tensors; ++t) ranks.push_back(option.ranks[static_cast<TensorId>(t)]);
      if (std::find(all.begin(), all.end(), ranks) == all.end()) all.push_back(std::move(ranks));
    }
  return all;
}

void Frontier::add_variant(std::size_t variant, const std::vector<RecomputeRanks>& ranks, LoopOrder loops,
                           std::vector<std::vector<LoopSplit>>& splits) {
  const PlanRequest& request = variants_[variant];
  const ProgramRequest& step = request.programs[0];
  const Graph graph = cut_graph(step, registry_);
  const auto prices = price_ops(graph, registry_, request.device, step.microbatches, request.calibration.get());
  const RecomputeBasis basis = recompute_basis(graph, registry_);
  ScheduleOptions options{.microbatches = step.microbatches, .barrier_before_update = step.barrier_before_update};
  double milliseconds = 0;
  for (const OpPrice& price : prices) {
    options.workspaces.push_back(price.workspace);
    milliseconds += 1e3 * price.seconds;
  }
  const Paces paces = paces_of(graph, registry_, request.device, step.microbatches, request.calibration.get());
  const auto add = [&](Candidate candidate, const std::vector<OpId>& steps, const std::vector<Bytes>& live) {
    candidate.variant = variant;
    candidate.spend_slack = false;
    candidate.live = *std::max_element(live.begin(), live.end());
    candidate.recompute_milliseconds = 1e3 * seconds_of_repeats(steps, prices);
    candidate.milliseconds = milliseconds + candidate.recompute_milliseconds;
    candidates_.push_back(candidate);
    const double saved = 1e3 * seconds_saved(spend_slack(steps, live, paces), prices);
    if (saved <= 0) return;
    candidate.spend_slack = true;
    candidate.milliseconds -= saved;
    candidates_.push_back(std::move(candidate));
  };
  const std::size_t known = candidates_.size();
  if (loops != LoopOrder::microbatch && step.microbatches.size() > 1) {
    for (const LoopChoice& choice :
         search_loops(graph, registry_, request.device, basis, options, ranks, prices, splits))
      add({.ranks = ranks[choice.ranks], .splits = choice.splits}, choice.steps, choice.live);
    if (loops == LoopOrder::block && candidates_.size() > known) return;
  }
  LiveCounter counter(graph, registry_, options);
  for (const RecomputeRanks& one : ranks) {
    RecomputeRanks all = one;
    while (all.size() < graph.tensors.size()) all.push_back(0);
    const std::vector<Bytes>& live = counter.count(recompute_sequence(graph, basis, all));
    add({.ranks = one}, counter.steps(), live);
  }
}

Plan Frontier::plan(const Candidate& candidate, std::optional<Bytes> budget) const {
  PlanRequest request = variants_[candidate.variant];
  request.budget = budget;
  const Graph step = request.programs.at(0).graph;
  for (ProgramRequest& program : request.programs)
    if (is_same_but_for_the_cut(program.graph, step)) {
      program.ranks = candidate.ranks;
      program.spend_slack = candidate.spend_slack;
      program.splits = candidate.splits;
    }
  return make_plan(request, registry_);
}

PlanOrNo Frontier::within(Bytes budget) const {
  for (const Candidate& candidate : candidates_) {
    if (candidate.live > budget) continue;
    Plan made = plan(candidate, budget);
    if (made.arena <= budget) return made;
  }
  // Placed from the fewest live bytes on, until no other can become smaller than what is there.
  std::vector<const Candidate*> by_bytes;
  for (const Candidate& candidate : candidates_) by_bytes.push_back(&candidate);
  std::stable_sort(by_bytes.begin(), by_bytes.end(),
                   [](const Candidate* a, const Candidate* b) { return a->live < b->live; });
  std::optional<Plan> smallest;
  for (const Candidate* candidate : by_bytes) {
    if (smallest && candidate->live >= smallest->arena) break;
    Plan made = plan(*candidate, budget);
    if (!smallest || made.arena < smallest->arena) smallest = std::move(made);
  }
  return DoesNotFit{std::move(*smallest), lower_bound()};
}

std::vector<Plan> Frontier::curve(std::size_t most) const {
  std::vector<const Candidate*> front;
  for (const Candidate& candidate : candidates_)
    if (front.empty() || candidate.live < front.back()->live) front.push_back(&candidate);
  std::vector<Plan> plans;
  const std::size_t count = std::min(most, front.size());
  for (std::size_t i = 0; i < count; ++i) {
    Plan made = plan(*front[count == 1 ? 0 : i * (front.size() - 1) / (count - 1)]);
    if (plans.empty() || made.arena < plans.back().arena) plans.push_back(std::move(made));
  }
  return plans;
}

Bytes Frontier::lower_bound() const {
  std::optional<Bytes> least;
  for (const PlanRequest& request : variants_) {
    const ProgramRequest& step = request.programs[0];
    const std::int64_t part = *std::max_element(step.microbatches.begin(), step.microbatches.end());
    const Graph graph = cut_graph(step, registry_);  // where a gradient may be added to what persists
    const auto prices = price_ops(graph, registry_, request.device, {part});
    Bytes most;
    for (std::size_t i = 0; i < graph.ops.size(); ++i)
      most = std::max(most, least_bytes(graph, graph.ops[static_cast<OpId>(i)], prices[static_cast<OpId>(i)], part));
    const Bytes bound = persistent_bytes(graph) + most;
    if (!least || bound < *least) least = bound;
  }
  return *least;
}

}  // namespace thimble
