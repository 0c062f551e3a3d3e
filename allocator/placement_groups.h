// A problem checked and divided into the groups that are searched, and the way back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nesting.h"
#include "thimble/placement.h"

namespace thimble {

struct GroupedProblem {
  std::vector<PlacementGroup> groups;        ///< what nesting left to search
  std::vector<std::optional<Offset>> fixed;  ///< by buffer
  std::vector<std::int64_t> offsets;         ///< by buffer: what is settled already
  Bytes max_live;
  Bytes least_peak;  ///< max live, or more where a fixed buffer ends higher or one that is never live is larger
};

/// Throws as place_buffers does.
GroupedProblem group_problem(const PlacementProblem& problem);

/// `offsets` by position in the group, counted from its base.
void settle_group(GroupedProblem& grouped, const PlacementGroup& group, const std::vector<std::int64_t>& offsets);

Placement finish_placement(const PlacementProblem& problem, const GroupedProblem& grouped, std::string made_by);

}  // namespace thimble
