#include "exact_search.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <tuple>

namespace thimble {
namespace {

constexpr std::size_t kOrders = 4;
constexpr std::int32_t kMostDepth = 10'000;  // of recursion; real problems stay below twice their buffers

std::int64_t unit_of(const std::vector<PlacementItem>& items, const std::vector<std::optional<std::int64_t>>& fixed) {
  std::int64_t unit = 0;
  for (const PlacementItem& b : items) unit = std::gcd(unit, b.size);
  for (const auto& offset : fixed) unit = std::gcd(unit, offset.value_or(0));
  return std::max<std::int64_t>(unit, 1);
}

std::vector<PlacementItem> in_units(std::vector<PlacementItem> items, std::int64_t unit) {
  for (PlacementItem& b : items) b.size /= unit;
  return items;
}

std::vector<std::optional<std::int64_t>> in_units(std::vector<std::optional<std::int64_t>> fixed, std::int64_t unit) {
  for (auto& offset : fixed)
    if (offset) *offset /= unit;
  return fixed;
}

}  // namespace

ExactSearch::ExactSearch(const std::vector<PlacementItem>& items, const std::vector<std::optional<std::int64_t>>& fixed)
    : unit_(unit_of(items, fixed)),
      skyline_(in_units(items, unit_), in_units(fixed, unit_)),
      rank_(items.size()),
      weight_(at(skyline_.sections()), 1) {
  failures_.resize(std::bit_ceil(std::clamp<std::size_t>(64 * items.size(), 256, 1U << 18U)));
  const std::size_t count = at(skyline_.sections()) + 1;
  for (auto* row : {&needed_, &rest_, &next_above_, &ends_before_, &ends_after_}) row->resize(count);
  for (auto* row : {&valley_end_, &answers_}) row->resize(count);
  floor_wanted_.resize(count);
}

/// The order in which answers are tried; no single one suits every problem, so restarts take turns.
void ExactSearch::use_order(std::size_t order) {
  std::vector<std::int64_t> total(at(skyline_.sections()));
  for (const PlacementItem& b : skyline_.items())
    for (std::int32_t s = b.begin; s < b.end; ++s) total[at(s)] += b.size;
  const auto key = [&](std::int32_t id) -> std::array<double, 3> {
    const PlacementItem& b = skyline_.item(id);
    const double length = b.end - b.begin;
    const auto size = static_cast<double>(b.size);
    switch (order) {
      case 0:
        return {-size * length, -length, 0};
      case 1:
        return {-length, -size, 0};
      case 2:
        return {-size, -length, 0};
      default:
        return {-static_cast<double>(*std::max_element(total.begin() + b.begin, total.begin() + b.end)), -length,
                -size};
    }
  };
  std::vector<std::pair<std::array<double, 3>, std::int32_t>> keyed;
  for (std::size_t i = 0; i < rank_.size(); ++i)
    keyed.emplace_back(key(static_cast<std::int32_t>(i)), static_cast<std::int32_t>(i));
  std::sort(keyed.begin(), keyed.end());
  for (std::size_t i = 0; i < keyed.size(); ++i) rank_[at(keyed[i].second)] = static_cast<std::int32_t>(i);
}

ExactSearch::Answer ExactSearch::place(std::int64_t capacity, std::int64_t node_limit) {
  if (capacity / unit_ != capacity_) {  // what failed below another capacity proves nothing here
    std::fill(failures_.begin(), failures_.end(), Skyline::Key{});
    capacity_ = capacity / unit_;
    next_capacity_ = kNever;
  }
  const std::int64_t last_node = nodes_ + node_limit;
  std::int64_t round_limit = std::max<std::int64_t>(1'000, 4 * static_cast<std::int64_t>(rank_.size()));
  for (std::size_t round = 0;; ++round) {
    if (round > 0 && round % kOrders == 0) round_limit *= 2;
    use_order(round % kOrders);
    skyline_.undo(0);
    stop_at_ = std::min(last_node, nodes_ + round_limit);
    const Answer found = place_parts(skyline_.everything());
    if (found != Answer::kNotFound || nodes_ >= last_node) return found;
  }
}

std::vector<std::int64_t> ExactSearch::offsets() const {
  std::vector<std::int64_t> result = skyline_.offsets();
  for (std::int64_t& offset : result) offset *= unit_;
  return result;
}

std::int64_t ExactSearch::lower_bound() const { return std::max(next_capacity_, capacity_ + 1) * unit_; }

ExactSearch::Answer ExactSearch::place_parts(const Skyline::Part& part) {
  std::vector<Skyline::Part> parts = skyline_.split(part);
  if (parts.size() > 1)  // small parts fail sooner
    std::stable_sort(parts.begin(), parts.end(),
                     [](const Skyline::Part& a, const Skyline::Part& b) { return a.items.size() < b.items.size(); });
  for (const Skyline::Part& p : parts)
    if (const Answer found = solve(p); found != Answer::kPlaced) return found;
  return Answer::kPlaced;
}

ExactSearch::Answer ExactSearch::solve(const Skyline::Part& part) {
  if (nodes_ >= stop_at_ || depth_ >= kMostDepth) return Answer::kNotFound;
  ++nodes_;
  ++depth_;
  const Skyline::Key key = skyline_.key(part);
  Answer found = Answer::kInfeasible;
  if (!failed_before(key)) {
    Skyline::Ids by_lowest = part.items;
    std::sort(by_lowest.begin(), by_lowest.end(), [&](std::int32_t a, std::int32_t b) {
      return std::pair(skyline_.lowest(a), a) < std::pair(skyline_.lowest(b), b);
    });
    if (rest_fits(part, by_lowest)) {
      find_valleys(part);
      count_answers(part, by_lowest);
      found = answer(part, most_urgent(part));
    }
    if (found == Answer::kInfeasible) failures_[key.low % failures_.size()] = key;
  }
  --depth_;
  return found;
}

ExactSearch::Answer ExactSearch::answer(const Skyline::Part& part, const Question& question) {
  const std::int32_t section = question.section;
  const std::int64_t floor = skyline_.height(section);
  Skyline::Ids tried;
  for (const std::int32_t id : part.items) {
    const PlacementItem& b = skyline_.item(id);
    if (b.begin <= section && section < b.end && skyline_.lowest(id) == floor && lies_in_valley(id))
      tried.push_back(id);
  }
  std::sort(tried.begin(), tried.end(), [&](std::int32_t a, std::int32_t b) { return rank_[at(a)] < rank_[at(b)]; });
  const std::size_t mark = skyline_.mark();
  for (const std::int32_t id : tried) {
    skyline_.put(id, floor, part);
    if (const Answer found = place_parts(part); found != Answer::kInfeasible) return found;
    skyline_.undo(mark);
  }
  if (question.may_stay_empty) {
    skyline_.raise(section, question.next_height, part);
    if (const Answer found = solve(part); found != Answer::kInfeasible) return found;
    skyline_.undo(mark);
    fail_at(section, kNever);
  } else {
    fail_at(section, question.next_height + question.rest);
  }
  return Answer::kInfeasible;
}

/// Fills needed_ and rest_; false where some section ends above the capacity. What is still to be put into a section
/// ends no lower than if each buffer lay at its lowest offset or on the one before, in the order of these offsets (a
/// single machine with release dates).
bool ExactSearch::rest_fits(const Skyline::Part& part, const Skyline::Ids& by_lowest) {
  if (!skyline_.fixed_are_free(part)) return false;
  std::fill(needed_.begin() + part.begin, needed_.begin() + part.end, 0);
  std::fill(rest_.begin() + part.begin, rest_.begin() + part.end, 0);
  for (const std::int32_t id : by_lowest) {
    const PlacementItem& b = skyline_.item(id);
    const std::int64_t lowest = skyline_.lowest(id);
    for (std::int32_t s = b.begin; s < b.end; ++s) {
      needed_[at(s)] = std::max(needed_[at(s)], lowest) + b.size;
      rest_[at(s)] += b.size;
    }
  }
  for (std::int32_t s = part.begin; s < part.end; ++s) {
    if (needed_[at(s)] <= capacity_) continue;
    fail_at(s, needed_[at(s)]);
    return false;
  }
  return true;
}

/// A valley: neighbours of one height between higher ones. The ends of a part are walls.
void ExactSearch::find_valleys(const Skyline::Part& part) {
  for (std::int32_t begin = part.begin; begin < part.end;) {
    std::int32_t end = begin + 1;
    const std::int64_t height = skyline_.height(begin);
    while (end < part.end && skyline_.height(end) == height) ++end;
    const bool is_valley = (begin == part.begin || skyline_.height(begin - 1) > height) &&
                           (end == part.end || skyline_.height(end) > height);
    std::fill(valley_end_.begin() + begin, valley_end_.begin() + end, is_valley ? end : 0);
    begin = end;
  }
}

/// True where the buffer may lie on the floor of the valley it is in.
bool ExactSearch::lies_in_valley(std::int32_t id) const {
  const PlacementItem& b = skyline_.item(id);
  const std::int64_t lowest = skyline_.lowest(id);
  return b.end <= valley_end_[at(b.begin)] && lowest == skyline_.height(b.begin) && !skyline_.waits_for_twin(id) &&
         skyline_.rests(id, lowest);
}

void ExactSearch::count_answers(const Skyline::Part& part, const Skyline::Ids& by_lowest) {
  const auto from = [&](auto& row) { return row.begin() + part.begin; };
  const auto to = [&](auto& row) { return row.begin() + part.end; };
  std::fill(from(answers_), to(answers_) + 1, 0);
  std::fill(from(floor_wanted_), to(floor_wanted_), 0);
  for (auto* row : {&next_above_, &ends_before_, &ends_after_}) std::fill(from(*row), to(*row) + 1, kNever);
  for (const std::int32_t id : by_lowest) {
    const PlacementItem& b = skyline_.item(id);
    const std::int64_t lowest = skyline_.lowest(id);
    const bool counts = lies_in_valley(id);
    for (std::int32_t s = b.begin; s < b.end; ++s) {
      if (lowest > skyline_.height(s)) {
        next_above_[at(s)] = std::min(next_above_[at(s)], lowest);
      } else {
        floor_wanted_[at(s)] = 1;
        answers_[at(s)] += counts ? 1 : 0;
      }
    }
    const std::int64_t end = lowest + b.size;
    ends_before_[at(b.end)] = std::min(ends_before_[at(b.end)], end);
    ends_after_[at(b.begin)] = std::min(ends_after_[at(b.begin)], end);
  }
}

/// Every section of a valley is a question; the most urgent one is asked.
ExactSearch::Question ExactSearch::most_urgent(const Skyline::Part& part) {
  Question best;
  for (std::int32_t begin = part.begin; begin < part.end; ++begin) {
    const std::int32_t end = valley_end_[at(begin)];
    if (end == 0) continue;
    // What lies above an empty floor rests on the end of a buffer that does not reach the section. Those that end
    // before the valley begins or begin after its end meet nothing in it.
    for (std::int32_t s = begin + 2; s <= end; ++s)
      ends_before_[at(s)] = std::min(ends_before_[at(s)], ends_before_[at(s - 1)]);
    for (std::int32_t s = end - 2; s > begin; --s)
      ends_after_[at(s)] = std::min(ends_after_[at(s)], ends_after_[at(s + 1)]);
    for (std::int32_t s = begin; s < end; ++s) {
      Question q{s, answers_[at(s)], capacity_ - needed_[at(s)], rest_[at(s)], next_above_[at(s)], false};
      if (floor_wanted_[at(s)]) {
        const std::int64_t left = s > begin ? ends_before_[at(s)] : kNever;
        const std::int64_t right = s + 1 < end ? ends_after_[at(s + 1)] : kNever;
        q.next_height = std::min({q.next_height, left, right});
      }
      q.may_stay_empty = q.next_height < kNever && q.next_height + q.rest <= capacity_;
      q.answers += q.may_stay_empty ? 1 : 0;
      if (best.section < 0 || is_more_urgent(q, best)) best = q;
    }
    begin = end - 1;
  }
  return best;
}

/// No or one answer first; then few answers where the search often failed, then little slack, then the earlier.
/// Failures count by their cube root: taken in full they drown the answers (measured, DECISIONS.md).
bool ExactSearch::is_more_urgent(const Question& a, const Question& b) const {
  if (a.answers <= 1 || b.answers <= 1) return a.answers < b.answers;
  const auto cube = [](std::int32_t n) { return static_cast<double>(n) * n * n; };
  const double left = cube(a.answers) * static_cast<double>(weight_[at(b.section)]);
  const double right = cube(b.answers) * static_cast<double>(weight_[at(a.section)]);
  return std::pair(left, a.slack) < std::pair(right, b.slack);
}

bool ExactSearch::failed_before(const Skyline::Key& key) const { return failures_[key.low % failures_.size()] == key; }

/// `needed`: a capacity below which this failure stands.
void ExactSearch::fail_at(std::int32_t section, std::int64_t needed) {
  ++weight_[at(section)];
  next_capacity_ = std::min(next_capacity_, needed);
}

}  // namespace thimble
