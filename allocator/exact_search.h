// Exact search for offsets below a capacity: branch and bound over the skyline of one group of buffers.
//
// A step looks at the valleys of the skyline and asks one section of one valley what lies on its floor: one of the
// buffers that fit between the walls, or nothing (the section is raised to the next height at which anything could
// begin). The answers exclude each other and leave out no layout whose buffers all rest on something, so the search is
// complete. It asks the section with the fewest answers, sections where it failed before first (the failures are
// weighed as in dom/wdeg: Boussemart et al., ECAI 2004); restarts under growing node limits keep these weights.
// Cut off is a step where the rest of some section does not fit below the capacity, or that failed before. Parts
// of time that no remaining buffer links are searched apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "skyline.h"

namespace thimble {

class ExactSearch {
 public:
  enum class Answer { kPlaced, kInfeasible, kNotFound };

  /// Slots of `items` may be any times; `fixed` holds offsets by position.
  ExactSearch(const std::vector<PlacementItem>& items, const std::vector<std::optional<std::int64_t>>& fixed);

  /// Looks at no more than `node_limit` nodes. More nodes go on where fewer end: what was found stays found.
  Answer place(std::int64_t capacity, std::int64_t node_limit);

  std::int64_t nodes() const { return nodes_; }  ///< looked at since construction
  /// After kPlaced, by position.
  std::vector<std::int64_t> offsets() const;
  /// After kInfeasible: no placement has a smaller peak.
  std::int64_t lower_bound() const;

 private:
  struct Question {
    std::int32_t section = -1;
    std::int32_t answers = 0;
    std::int64_t slack = 0;
    std::int64_t rest = 0;         // sum of what is still to be put into the section
    std::int64_t next_height = 0;  // the section's, where nothing lies on its floor
    bool may_stay_empty = false;
  };

  void use_order(std::size_t order);
  Answer place_parts(const Skyline::Part& part);
  Answer solve(const Skyline::Part& part);
  Answer answer(const Skyline::Part& part, const Question& question);
  bool rest_fits(const Skyline::Part& part, const Skyline::Ids& by_lowest);
  void find_valleys(const Skyline::Part& part);
  bool lies_in_valley(std::int32_t id) const;
  void count_answers(const Skyline::Part& part, const Skyline::Ids& by_lowest);
  Question most_urgent(const Skyline::Part& part);
  bool is_more_urgent(const Question& a, const Question& b) const;
  bool failed_before(const Skyline::Key& key) const;
  void fail_at(std::int32_t section, std::int64_t needed);
  static std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }

  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max() / 2;

  std::int64_t unit_ = 1;  // sizes and offsets are multiples of it; everything inside is counted in units
  Skyline skyline_;
  std::vector<std::int32_t> rank_;      // by id, in the order in which answers are tried
  std::vector<std::int64_t> weight_;    // by section: 1 + failures there
  std::vector<Skyline::Key> failures_;  // a cache: a new failure overwrites an old one with the same place
  std::int64_t capacity_ = -1;
  std::int64_t next_capacity_ = kNever;  // least capacity that some cut-off step would have needed
  std::int64_t nodes_ = 0;
  std::int64_t stop_at_ = 0;
  std::int32_t depth_ = 0;

  // Of the step under way, by section.
  std::vector<std::int64_t> needed_;      // lowest possible end of everything still to be put there
  std::vector<std::int64_t> rest_;        // sum of sizes still to be put there
  std::vector<std::int64_t> next_above_;  // lowest offset of those that cannot lie on the floor
  std::vector<std::int32_t> valley_end_;  // where the section is part of a valley, else 0
  std::vector<std::int32_t> answers_;
  std::vector<char> floor_wanted_;         // some buffer has the floor as its lowest offset, allowed or not
  std::vector<std::int64_t> ends_before_;  // least end of a buffer that ends before the section: it may carry others
  std::vector<std::int64_t> ends_after_;
};

}  // namespace thimble
