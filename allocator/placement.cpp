#include "thimble/placement.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "group_search.h"
#include "placement_groups.h"
#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::int64_t kLimit = std::int64_t{1} << 62;

std::string label(const Buffer& b) { return "placement: buffer '" + b.name + "' "; }

void validate_fixed(const PlacementProblem& problem) {
  for (const Buffer& b : problem.buffers) {
    if (!b.fixed) continue;
    if (b.fixed->value < 0 || b.fixed->value % problem.alignment.value != 0)
      throw InvalidArgument(label(b) + "is fixed at offset " + std::to_string(b.fixed->value) +
                            ", which is not a multiple of the alignment " + std::to_string(problem.alignment.value));
    if (b.fixed->value > kLimit - b.size.value - problem.alignment.value)
      throw InvalidArgument(label(b) + "is fixed at offset " + std::to_string(b.fixed->value) +
                            ", beyond the limit of 2^62 bytes");
  }
}

/// Fixed buffers in order of time; the live ones in a map by offset, where an overlap shows beside the newcomer.
void validate_fixed_apart(const PlacementProblem& problem) {
  std::vector<const Buffer*> by_begin;
  for (const Buffer& b : problem.buffers)
    if (b.fixed && b.size.value > 0 && b.lifetime.begin < b.lifetime.end) by_begin.push_back(&b);
  std::stable_sort(by_begin.begin(), by_begin.end(),
                   [](const Buffer* a, const Buffer* b) { return a->lifetime.begin < b->lifetime.begin; });
  std::map<Offset, const Buffer*> live;
  std::multimap<Step, Offset> ends;
  for (const Buffer* b : by_begin) {
    while (!ends.empty() && ends.begin()->first <= b->lifetime.begin) {
      live.erase(ends.begin()->second);
      ends.erase(ends.begin());
    }
    const auto above = live.lower_bound(*b->fixed);
    const Buffer* other = nullptr;
    if (above != live.end() && above->first < *b->fixed + b->size) other = above->second;
    if (above != live.begin()) {
      const Buffer* below = std::prev(above)->second;
      if (*below->fixed + below->size > *b->fixed) other = below;
    }
    if (other)
      throw InvalidArgument(label(*b) + "is fixed at offset " + std::to_string(b->fixed->value) + ", where '" +
                            other->name + "' is fixed with " + std::to_string(other->size.value) + " bytes at offset " +
                            std::to_string(other->fixed->value) + "; both are live at step " +
                            std::to_string(index(b->lifetime.begin)));
    live.emplace(*b->fixed, b);
    ends.emplace(b->lifetime.end, *b->fixed);
  }
}

void validate(const PlacementProblem& problem) {
  const std::int64_t alignment = problem.alignment.value;
  if (alignment <= 0 || alignment > (std::int64_t{1} << 40))
    throw InvalidArgument("placement: alignment " + std::to_string(alignment) + " is outside 1..2^40 bytes");
  std::int64_t sum = 0;
  for (const Buffer& b : problem.buffers) {
    if (b.size.value < 0) throw InvalidArgument(label(b) + "has the negative size " + std::to_string(b.size.value));
    if (b.lifetime.end < b.lifetime.begin)
      throw InvalidArgument(label(b) + "ends at step " + std::to_string(index(b.lifetime.end)) +
                            " before it begins at step " + std::to_string(index(b.lifetime.begin)));
    const bool too_big = b.size.value > kLimit - alignment;
    if (too_big || (sum += align_up(b.size, problem.alignment).value) >= kLimit)
      throw InvalidArgument(label(b) + "with " + std::to_string(b.size.value) +
                            " bytes brings the sum of sizes to 2^62 or more");
  }
  validate_fixed(problem);
}

struct MaxLive {
  Bytes bytes;
  Step step{};
};

MaxLive sweep_live(const PlacementProblem& problem) {
  std::vector<std::pair<std::int32_t, std::int64_t>> events;
  events.reserve(2 * problem.buffers.size());
  for (const Buffer& b : problem.buffers) {
    if (b.lifetime.begin == b.lifetime.end) continue;
    const std::int64_t size = align_up(b.size, problem.alignment).value;
    events.emplace_back(index(b.lifetime.begin), size);
    events.emplace_back(index(b.lifetime.end), -size);
  }
  std::sort(events.begin(), events.end());  // half-open: at one step the negative sizes, the frees, come first
  MaxLive best;
  std::int64_t live = 0;
  for (const auto& [step, change] : events) {
    live += change;
    if (live > best.bytes.value) best = {Bytes{live}, Step{step}};
  }
  return best;
}

std::vector<PlacementItem> items_of(const PlacementProblem& problem) {
  std::vector<PlacementItem> items;
  items.reserve(problem.buffers.size());
  for (std::size_t i = 0; i < problem.buffers.size(); ++i) {
    const Buffer& b = problem.buffers[i];
    if (b.size.value == 0 || b.lifetime.begin == b.lifetime.end) continue;  // shares no byte with anybody
    items.push_back({index(b.lifetime.begin), index(b.lifetime.end), align_up(b.size, problem.alignment).value, i});
  }
  return items;
}

}  // namespace

Bytes max_live(const PlacementProblem& problem) {
  validate(problem);
  return sweep_live(problem).bytes;
}

Step max_live_step(const PlacementProblem& problem) {
  validate(problem);
  return sweep_live(problem).step;
}

GroupedProblem group_problem(const PlacementProblem& problem) {
  validate(problem);
  validate_fixed_apart(problem);
  const std::size_t count = problem.buffers.size();
  GroupedProblem result;
  result.max_live = result.least_peak = sweep_live(problem).bytes;
  result.offsets.resize(count);
  result.fixed.resize(count);
  bool any_fixed = false;
  for (std::size_t i = 0; i < count; ++i) {
    result.fixed[i] = problem.buffers[i].fixed;
    any_fixed |= result.fixed[i].has_value();
    if (result.fixed[i]) result.offsets[i] = result.fixed[i]->value;
    const Buffer& b = problem.buffers[i];
    if (b.fixed || b.lifetime.begin == b.lifetime.end)
      result.least_peak = std::max(result.least_peak, Bytes{result.offsets[i]} + align_up(b.size, problem.alignment));
  }
  if (any_fixed) {  // the rules of nesting choose offsets freely
    result.groups.push_back({items_of(problem), 0});
    renumber_slots(result.groups.back().items);
  } else {
    result.groups = split_nested(items_of(problem), result.offsets);
  }
  return result;
}

void settle_group(GroupedProblem& grouped, const PlacementGroup& group, const std::vector<std::int64_t>& offsets) {
  for (std::size_t i = 0; i < group.items.size(); ++i) grouped.offsets[group.items[i].index] = group.base + offsets[i];
}

Placement finish_placement(const PlacementProblem& problem, const GroupedProblem& grouped, std::string made_by) {
  Placement result;
  result.lower_bound = grouped.max_live;
  result.made_by = std::move(made_by);
  result.offsets.reserve(grouped.offsets.size());
  for (std::size_t i = 0; i < grouped.offsets.size(); ++i) {
    result.offsets.push_back(Offset{grouped.offsets[i]});
    const Offset end = result.offsets.back() + align_up(problem.buffers[i].size, problem.alignment);
    result.peak = std::max(result.peak, end - Offset{});
  }
  return result;
}

Placement place_buffers(const PlacementProblem& problem) {
  GroupedProblem grouped = group_problem(problem);
  std::string made_by = "nesting";
  std::int64_t target = grouped.max_live.value;  // no group needs to go below what another already needs
  for (const PlacementGroup& group : grouped.groups) {
    GroupSearch search(group, grouped.fixed);
    search.run(target - group.base);
    settle_group(grouped, group, search.offsets());
    if (search.peak() + group.base > target || made_by == "nesting") made_by = search.made_by();
    target = std::max(target, search.peak() + group.base);
  }
  return finish_placement(problem, grouped, std::move(made_by));
}

}  // namespace thimble
