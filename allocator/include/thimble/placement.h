// Placement: which offset of one arena every buffer gets, given when each is live.
//
//   PlacementProblem problem;
//   problem.buffers = {{"a", {Step{0}, Step{2}}, 4_KiB}, {"b", {Step{1}, Step{3}}, 8_KiB}};
//   Placement p = place_buffers(problem);
//   assert(p.peak >= p.lower_bound && check_placement(problem, p.offsets).empty());
//
// The planner settles what nests, tries a fixed portfolio of greedy orders on the rest, keeps the smallest peak (ties:
// the first of the portfolio) and repairs it for a counted number of steps. It stops as soon as the peak equals
// the lower bound. Same problem, same bytes out.
#pragma once

#include <compare>
#include <optional>
#include <string>
#include <vector>

#include "thimble/units.h"

namespace thimble {

/// Half-open: live at steps begin <= t < end. Two buffers conflict when their lifetimes intersect.
struct Lifetime {
  Step begin{};
  Step end{};
  constexpr bool operator==(const Lifetime&) const = default;
};
/// An empty lifetime overlaps nothing.
constexpr bool overlaps(Lifetime a, Lifetime b) {
  return (a.begin < b.begin ? b.begin : a.begin) < (a.end < b.end ? a.end : b.end);
}

struct Buffer {
  std::string name;
  Lifetime lifetime;
  Bytes size;                        ///< >= 0
  std::optional<Offset> fixed = {};  ///< already placed; the planner leaves it there
};

struct PlacementProblem {
  std::vector<Buffer> buffers;
  Bytes alignment{1};  ///< every offset is a multiple of this
};

struct Placement {
  std::vector<Offset> offsets;  ///< one per buffer, in the problem's order
  Bytes peak;                   ///< largest offset + size, each size rounded up to the alignment
  Bytes lower_bound;            ///< max live: no placement of these lifetimes goes below
  std::string made_by;          ///< name of the order that won
};

/// Largest sum, over all steps, of the sizes (each rounded up to the alignment) live at that step.
/// O(n log n). Fixed buffers count like others.
Bytes max_live(const PlacementProblem& problem);

/// Step at which max_live is reached first; Step{0} for an empty problem.
Step max_live_step(const PlacementProblem& problem);

/// Throws InvalidArgument where a size is negative, a lifetime ends before it begins, the sum of sizes
/// overflows, a fixed offset is negative or misaligned, or fixed buffers overlap.
Placement place_buffers(const PlacementProblem& problem);

/// The independent check: shares no code with place_buffers. Returns one message per violation (two live
/// buffers share a byte, misaligned, negative, moved from its fixed offset), at most 20; empty is good.
/// `capacity`, where given, is the last byte's limit.
std::vector<std::string> check_placement(const PlacementProblem& problem, const std::vector<Offset>& offsets,
                                         std::optional<Bytes> capacity = std::nullopt);

}  // namespace thimble
