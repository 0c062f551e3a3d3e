#include "thimble/exact_placement.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "exact_search.h"
#include "group_search.h"
#include "placement_groups.h"

namespace thimble {
namespace {

using Answer = ExactSearch::Answer;
using Verdict = CapacityAnswer::Verdict;

// Nodes for one capacity in the first round, doubled from round to round: what easy problems need, most of them.
constexpr std::int64_t kFirstBudgetPerBuffer = 20;

ExactSearch exact_search(const GroupedProblem& grouped, const PlacementGroup& group) {
  std::vector<std::optional<std::int64_t>> fixed;
  for (const PlacementItem& b : group.items) {
    const std::optional<Offset>& offset = grouped.fixed[b.index];
    fixed.push_back(offset ? std::optional(offset->value) : std::nullopt);
  }
  return {group.items, fixed};
}

bool is_searched(const PlacementGroup& group) { return group.items.size() <= kMostExactBuffers; }

/// The least bytes that one group needs, step by step. Every step looks for a smaller peak than the best at one
/// capacity: first at the bound, then half way between what could not be reached and the best.
class GroupMinimizer {
 public:
  GroupMinimizer(const GroupedProblem& grouped, const PlacementGroup& group, std::int64_t target)
      : group_(group),
        greedy_(group, grouped.fixed),
        budget_(kFirstBudgetPerBuffer * static_cast<std::int64_t>(group.items.size())) {
    greedy_.run(target - group.base);
    peak_ = greedy_.peak();
    offsets_ = greedy_.offsets();
    made_by_ = greedy_.made_by();
    if (is_searched(group)) search_.emplace(exact_search(grouped, group));
  }

  std::int64_t peak() const { return peak_ + group_.base; }
  std::int64_t lower_bound() const { return lower_bound_ + group_.base; }
  bool can_improve() const { return search_ && lower_bound_ < peak_; }
  const PlacementGroup& group() const { return group_; }
  const std::vector<std::int64_t>& offsets() const { return offsets_; }
  const std::string& made_by() const { return made_by_; }

  /// `bound`: known for the whole problem; below it nothing is gained. Returns the nodes spent, at most `node_limit`.
  std::int64_t step(std::int64_t bound, std::int64_t node_limit) {
    lower_bound_ = std::max(lower_bound_, std::min(bound - group_.base, peak_));
    if (!can_improve()) return 0;
    unreached_ = std::max(unreached_, lower_bound_);
    const std::int64_t capacity = at_bound_ ? lower_bound_ : unreached_ + (peak_ - unreached_) / 2;
    const std::int64_t before = search_->nodes();
    const Answer found = search_->place(capacity, std::min(budget_, node_limit));
    if (found == Answer::kPlaced) {
      take(search_->offsets());
    } else if (found == Answer::kInfeasible) {
      lower_bound_ = std::min(search_->lower_bound(), peak_);
    } else {
      unreached_ = std::max(unreached_, capacity);
      at_bound_ = false;
    }
    if (peak_ - unreached_ <= std::max<std::int64_t>(1, peak_ / kFinest)) {  // a round is over
      budget_ *= 2;
      at_bound_ = true;
      unreached_ = 0;
    }
    return search_->nodes() - before;
  }

 private:
  static constexpr std::int64_t kFinest = 4'096;

  void take(std::vector<std::int64_t> offsets) {
    offsets_ = std::move(offsets);
    peak_ = 0;
    for (std::size_t i = 0; i < offsets_.size(); ++i) peak_ = std::max(peak_, offsets_[i] + group_.items[i].size);
    made_by_ = "exact search";
  }

  const PlacementGroup& group_;
  GroupSearch greedy_;
  std::optional<ExactSearch> search_;
  std::vector<std::int64_t> offsets_;
  std::int64_t peak_ = 0;
  std::int64_t lower_bound_ = 0;
  std::int64_t unreached_ = 0;  // largest capacity that this round's budget did not reach
  std::int64_t budget_;
  bool at_bound_ = true;
  std::string made_by_;
};

/// One group into `capacity`; `node_limit` counts down nothing where a greedy order fits at once.
Verdict place_group(GroupedProblem& grouped, const PlacementGroup& group, std::int64_t capacity,
                    std::int64_t node_limit, CapacityAnswer& answer) {
  GroupSearch greedy(group, grouped.fixed);
  if (is_searched(group))
    greedy.run_orders(capacity - group.base);
  else
    greedy.run(capacity - group.base);
  if (greedy.peak() + group.base <= capacity) {
    settle_group(grouped, group, greedy.offsets());
    if (answer.nodes == 0) answer.placement.made_by = greedy.made_by();
    return Verdict::kPlaced;
  }
  if (!is_searched(group)) return Verdict::kNotFound;
  ExactSearch search = exact_search(grouped, group);
  const Answer found = search.place(capacity - group.base, node_limit);
  answer.nodes += search.nodes();
  if (found == Answer::kInfeasible) {
    answer.lower_bound = std::max(answer.lower_bound, Bytes{search.lower_bound() + group.base});
    return Verdict::kInfeasible;
  }
  if (found == Answer::kNotFound) return Verdict::kNotFound;
  settle_group(grouped, group, search.offsets());
  answer.placement.made_by = "exact search";
  return Verdict::kPlaced;
}

}  // namespace

CapacityAnswer place_into(const PlacementProblem& problem, Bytes capacity, std::int64_t node_limit) {
  GroupedProblem grouped = group_problem(problem);
  CapacityAnswer answer;
  answer.lower_bound = grouped.least_peak;
  answer.placement.made_by = "nesting";
  answer.verdict = Verdict::kInfeasible;
  if (grouped.least_peak > capacity) return answer;
  answer.verdict = Verdict::kPlaced;
  for (std::size_t i = 0; i < grouped.groups.size(); ++i) {  // a group that is not found may hide one that cannot be
    const std::int64_t share = (node_limit - answer.nodes) / static_cast<std::int64_t>(grouped.groups.size() - i);
    const Verdict verdict = place_group(grouped, grouped.groups[i], capacity.value, share, answer);
    if (verdict != Verdict::kPlaced) answer.verdict = verdict;
    if (verdict == Verdict::kInfeasible) return answer;
  }
  if (answer.verdict != Verdict::kPlaced) return answer;
  answer.placement = finish_placement(problem, grouped, std::move(answer.placement.made_by));
  return answer;
}

MinimizedPlacement minimize_peak(const PlacementProblem& problem, std::int64_t node_limit) {
  GroupedProblem grouped = group_problem(problem);
  MinimizedPlacement result;
  std::vector<std::unique_ptr<GroupMinimizer>> groups;
  std::int64_t target = grouped.least_peak.value;  // no group needs to go below what another needs
  for (const PlacementGroup& group : grouped.groups) {
    groups.push_back(std::make_unique<GroupMinimizer>(grouped, group, target));
    target = std::max(target, groups.back()->peak());
  }
  std::int64_t bound = grouped.least_peak.value;
  std::string made_by = "nesting";
  const auto less = [](const auto& a, const auto& b) { return a->peak() < b->peak(); };
  while (!groups.empty()) {  // only the group that makes the peak is worth work
    GroupMinimizer& worst = **std::max_element(groups.begin(), groups.end(), less);
    made_by = worst.made_by();
    if (worst.peak() <= bound || !worst.can_improve() || result.nodes >= node_limit) break;
    result.nodes += worst.step(bound, node_limit - result.nodes);
    bound = std::max(bound, worst.lower_bound());
  }
  for (const auto& group : groups) settle_group(grouped, group->group(), group->offsets());
  result.placement = finish_placement(problem, grouped, std::move(made_by));
  result.placement.lower_bound = Bytes{bound};
  result.proven_optimal = result.placement.peak <= result.placement.lower_bound;
  return result;
}

}  // namespace thimble
