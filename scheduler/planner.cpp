#include "thimble/planner.h"

#include <algorithm>
#include <array>
#include <future>
#include <map>

#include "loop_search.h"
#include "paces.h"
#include "recompute_search.h"
#include "recompute_sequence.h"
#include "thimble/error.h"
#include "thimble/live_counter.h"

namespace thimble {
namespace {

// Times the bytes of a schedule that its ops' workspaces may fill, and the part of a step that more bytes have to save.
constexpr std::array kRooms{1.0, 1.03, 1.1, 1.25, 1.6, 2.5, 1000.0};
constexpr double kLeastSaved = 1e-3;

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

bool is_fuller(const Candidate& a, const Candidate& b) {
  if (a.milliseconds != b.milliseconds) return a.milliseconds < b.milliseconds;
  if (a.live != b.live) return a.live < b.live;
  return a.variant < b.variant;
}

}  // namespace

const Plan& plan_or_smallest(const PlanOrNo& answer) {
  const DoesNotFit* no = std::get_if<DoesNotFit>(&answer);
  return no != nullptr ? no->smallest : std::get<Plan>(answer);
}

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
    const Slack slack(steps, live, paces);
    const double unhurried = candidate.milliseconds;
    double least = 0;
    candidate.spend_slack = true;
    for (double factor : kRooms) {
      const auto room = static_cast<std::int64_t>(factor * static_cast<double>(slack.peak().value));
      const ChosenPaces chosen = slack.spend(Bytes{room});
      const double saved = 1e3 * slack.seconds_saved(chosen);
      if (saved <= least) continue;
      candidate.live = slack.peak(chosen);
      candidate.milliseconds = unhurried - saved;
      candidates_.push_back(candidate);
      least = saved + kLeastSaved * candidate.milliseconds;
    }
  };
  const std::size_t known = candidates_.size();
  if (loops != LoopOrder::microbatch && step.microbatches.size() > 1) {
    for (const LoopChoice& choice :
         search_loops(graph, registry_, request.device, basis, options, ranks, prices, splits))
      add({.ranks = ranks[choice.ranks], .splits = choice.splits}, choice.steps, choice.live);
    if (loops == LoopOrder::block && candidates_.size() > known) return;
  }
  LiveCounter counter(graph, registry_, options);
  SequenceBuilder sequences(graph, basis, nullptr);
  for (const RecomputeRanks& one : ranks) {
    RecomputeRanks all = one;
    while (all.size() < graph.tensors.size()) all.push_back(0);
    const std::vector<Bytes>& live = counter.count(sequences.build(all).ops);
    add({.ranks = one}, counter.steps(), live);
  }
}

std::vector<std::size_t> Frontier::other_steps(std::size_t variant) const {
  const std::vector<ProgramRequest>& programs = variants_[variant].programs;
  std::vector<std::size_t> others;
  for (std::size_t p = 1; p < programs.size(); ++p)
    if (is_same_but_for_the_cut(programs[p].graph, programs[0].graph)) others.push_back(p);
  return others;
}

// What another step of the variant needs with this candidate.
Bytes Frontier::live(std::size_t variant, std::size_t program, const Candidate& candidate) const {
  const PlanRequest& request = variants_[variant];
  ProgramRequest asked = request.programs[program];
  asked.ranks = candidate.ranks;
  asked.splits = candidate.splits;
  asked.spend_slack = false;
  const std::vector<Bytes> live = live_by_step(schedule_program(request, asked, registry_).schedule);
  return *std::max_element(live.begin(), live.end());
}

// For each other step the fastest that has as few bytes. Those of the training step's own frontier are ordered by
// bytes nearly always for the others, too, so bisection finds the place; where it does not, what is known to fit does.
std::optional<Frontier::Choices> Frontier::others_within(std::size_t variant, Bytes budget,
                                                         const Candidate* fitting) const {
  std::vector<const Candidate*> front;
  for (const Candidate& candidate : candidates_)
    if (candidate.variant == variant && (front.empty() || candidate.live < front.back()->live))
      front.push_back(&candidate);
  Choices choices(variants_[variant].programs.size());
  for (std::size_t program : other_steps(variant)) {
    const auto first = std::partition_point(front.begin(), front.end(), [&](const Candidate* candidate) {
      return live(variant, program, *candidate) > budget;
    });
    choices[program] = {first != front.end() ? *first : fitting, budget};
    if (choices[program].candidate == nullptr) return std::nullopt;
  }
  return choices;
}

PlanRequest Frontier::request_of(std::size_t variant, const Choices& choices) const {
  PlanRequest request = variants_[variant];
  for (std::size_t p = 0; p < request.programs.size(); ++p) {
    const auto& [candidate, room] = choices[p];
    if (candidate == nullptr) continue;
    request.programs[p].ranks = candidate->ranks;
    request.programs[p].splits = candidate->splits;
    request.programs[p].spend_slack = candidate->spend_slack;
    request.programs[p].room = room;
  }
  return request;
}

// The same for every step.
Plan Frontier::plan_alike(const Candidate& candidate) const {
  Choices choices(variants_[candidate.variant].programs.size());
  choices[0] = {&candidate, candidate.live};
  for (std::size_t program : other_steps(candidate.variant)) choices[program] = {&candidate, {}};
  return place_plan(request_of(candidate.variant, choices), registry_);
}

// Where a step cannot be placed in as few bytes as are live, it has what is next in bytes among the candidates.
std::optional<Plan> Frontier::plan_within(const Candidate& candidate, Choices& others, Bytes budget) const {
  others[0] = {&candidate, candidate.live};
  while (true) {
    Plan made = place_plan(request_of(candidate.variant, others), registry_);
    if (made.arena <= budget) return made;
    if (made.programs[0].planned > budget) return std::nullopt;
    for (std::size_t p = 1; p < others.size(); ++p) {
      if (made.programs[p].planned <= budget) continue;
      const Candidate* tried = others[p].candidate;
      if (tried == nullptr) return std::nullopt;
      if (others[p].room > Bytes{}) {
        others[p].room = {};
        continue;
      }
      const Candidate* next = tried + 1;
      while (next != candidates_.data() + candidates_.size() &&
             (next->variant != candidate.variant || next->live >= tried->live))
        ++next;
      if (next == candidates_.data() + candidates_.size()) return std::nullopt;
      others[p] = {next, {}};
    }
  }
}

Plan Frontier::plan(const Candidate& candidate) const {
  Bytes most = candidate.live;
  for (std::size_t program : other_steps(candidate.variant))
    most = std::max(most, live(candidate.variant, program, candidate));
  std::optional<Plan> made;
  if (std::optional<Choices> others = others_within(candidate.variant, most, &candidate))
    made = plan_within(candidate, *others, most);
  if (!made) made = plan_alike(candidate);
  made->arithmetic_hash = arithmetic_hash(*made);
  return std::move(*made);
}

// `fitting`, if any, fits all steps of its variant.
std::optional<Plan> Frontier::fastest_within(Bytes bytes, const Candidate* fitting) const {
  std::map<std::size_t, std::optional<Choices>> others;  // by variant
  for (const Candidate& candidate : candidates_) {
    if (candidate.live > bytes) continue;
    auto known = others.find(candidate.variant);
    if (known == others.end()) {
      const bool fits = fitting != nullptr && fitting->variant == candidate.variant;
      auto found = others_within(candidate.variant, bytes, fits ? fitting : nullptr);
      known = others.emplace(candidate.variant, std::move(found)).first;
    }
    if (!known->second) continue;
    if (auto made = plan_within(candidate, *known->second, bytes)) return made;
  }
  return std::nullopt;
}

// Placed from the fewest live bytes on, until no other can become smaller than what is there; then what is fastest in
// as many bytes.
Plan Frontier::smallest() const {
  std::vector<const Candidate*> by_bytes;
  for (const Candidate& candidate : candidates_) by_bytes.push_back(&candidate);
  std::stable_sort(by_bytes.begin(), by_bytes.end(),
                   [](const Candidate* a, const Candidate* b) { return a->live < b->live; });
  const Candidate* best = nullptr;
  Plan smallest;
  for (const Candidate* candidate : by_bytes) {
    if (best != nullptr && candidate->live >= smallest.arena) break;
    Plan made = plan_alike(*candidate);
    if (best != nullptr && made.arena >= smallest.arena) continue;
    best = candidate;
    smallest = std::move(made);
  }
  if (std::optional<Plan> made = fastest_within(smallest.arena, best)) return std::move(*made);
  return smallest;
}

PlanOrNo Frontier::within(Bytes budget) const {
  std::optional<Plan> made = fastest_within(budget);
  const bool is_found = made.has_value();
  if (!is_found) made = smallest();
  made->budget = budget;
  made->arithmetic_hash = arithmetic_hash(*made);
  if (is_found || made->arena <= budget) return std::move(*made);
  return DoesNotFit{std::move(*made), lower_bound()};
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
