#include "thimble/placement.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>

#include "problems.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using testing::buffer;
using testing::chain;
using testing::interlocked;

/// Judged pair by pair, unlike both the planner and the checker.
bool any_pair_shares_a_byte(const PlacementProblem& problem, const std::vector<Offset>& offsets) {
  for (std::size_t i = 0; i < offsets.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (overlaps(problem.buffers[i].lifetime, problem.buffers[j].lifetime) && problem.buffers[i].size.value > 0 &&
          problem.buffers[j].size.value > 0 && offsets[i] < offsets[j] + problem.buffers[j].size &&
          offsets[j] < offsets[i] + problem.buffers[i].size)
        return true;
  return false;
}

rc::Gen<PlacementProblem> any_problem() {
  return rc::gen::map(
      rc::gen::pair(rc::gen::container<std::vector<std::tuple<int, int, int>>>(
                        rc::gen::tuple(rc::gen::inRange(0, 30), rc::gen::inRange(0, 12), rc::gen::inRange(0, 300))),
                    rc::gen::element(1, 16, 64)),
      [](const auto& drawn) {
        PlacementProblem problem;
        problem.alignment = Bytes{drawn.second};
        for (const auto& [begin, length, size] : drawn.first)
          problem.buffers.push_back(buffer("b" + std::to_string(problem.buffers.size()), begin, begin + length, size));
        return problem;
      });
}

TEST(Placement, EmptyProblemNeedsNothing) {
  const Placement p = place_buffers({});
  EXPECT_EQ(p.peak, Bytes{0});
  EXPECT_EQ(p.lower_bound, Bytes{0});
  EXPECT_TRUE(p.offsets.empty());
}

TEST(Placement, BuffersThatOnlyTouchShareBytes) {
  const Placement p = place_buffers({{buffer("a", 0, 2, 100), buffer("b", 2, 4, 100)}, Bytes{1}});
  EXPECT_EQ(p.peak, Bytes{100});
}

TEST(Placement, BuffersLiveTogetherLieApart) {
  const Placement p = place_buffers({{buffer("a", 0, 3, 100), buffer("b", 2, 4, 50)}, Bytes{1}});
  EXPECT_EQ(p.peak, Bytes{150});
}

TEST(Placement, OffsetsAndPeakAreAligned) {
  const Placement p = place_buffers({{buffer("a", 0, 3, 1), buffer("b", 0, 3, 65), buffer("c", 1, 2, 1)}, Bytes{64}});
  for (const Offset offset : p.offsets) EXPECT_EQ(offset.value % 64, 0);
  EXPECT_EQ(p.peak, Bytes{256});
  EXPECT_EQ(p.lower_bound, Bytes{256});
}

TEST(Placement, ChainOfForwardAndBackwardReachesMaxLive) {
  for (const std::int32_t layers : {1, 2, 3, 10, 60}) {
    const PlacementProblem problem = chain(layers);
    const Placement p = place_buffers(problem);
    EXPECT_EQ(p.peak, p.lower_bound) << layers;
    EXPECT_TRUE(check_placement(problem, p.offsets).empty());
  }
}

TEST(Placement, InterlockedReachesMaxLive) {
  const Placement p = place_buffers(interlocked());
  EXPECT_EQ(p.peak, Bytes{12});
}

TEST(Placement, FindsTheOptimumWherePlainSizeOrderMisses) {
  // First fit by size puts the two large ones at 0 and strands 'c' above both 'a' and 'b'.
  const PlacementProblem problem{{buffer("a", 0, 2, 6), buffer("b", 1, 3, 4), buffer("c", 2, 5, 6),
                                  buffer("d", 4, 7, 4), buffer("e", 6, 9, 6), buffer("f", 3, 6, 2)},
                                 Bytes{1}};
  const Placement p = place_buffers(problem);
  EXPECT_TRUE(check_placement(problem, p.offsets).empty());
  EXPECT_EQ(p.lower_bound, Bytes{12});
  EXPECT_EQ(p.peak, Bytes{12});
}

TEST(Placement, LeavesFixedBuffersWhereTheyAre) {
  const PlacementProblem problem{{buffer("a", 0, 4, 100), buffer("w", 0, 9, 64, Offset{64}), buffer("b", 2, 5, 64)},
                                 Bytes{64}};
  const Placement p = place_buffers(problem);
  EXPECT_EQ(p.offsets[1], Offset{64});
  EXPECT_EQ(p.offsets[2], Offset{0});
  EXPECT_TRUE(check_placement(problem, p.offsets).empty());
  EXPECT_EQ(p.peak, Bytes{256});
}

TEST(Placement, RefusesFixedBuffersThatOverlap) {
  const PlacementProblem clash{{buffer("a", 0, 4, 100, Offset{0}), buffer("b", 3, 5, 10, Offset{50})}, Bytes{1}};
  EXPECT_THROW(place_buffers(clash), InvalidArgument);
  const PlacementProblem apart{{buffer("a", 0, 4, 100, Offset{0}), buffer("b", 4, 5, 10, Offset{50})}, Bytes{1}};
  EXPECT_EQ(place_buffers(apart).peak, Bytes{100});
}

TEST(Placement, RefusesWhatMakesNoSense) {
  EXPECT_THROW(place_buffers({{buffer("a", 0, 1, -1)}, Bytes{1}}), InvalidArgument);
  EXPECT_THROW(place_buffers({{buffer("a", 2, 1, 1)}, Bytes{1}}), InvalidArgument);
  EXPECT_THROW(place_buffers({{buffer("a", 0, 1, 1)}, Bytes{0}}), InvalidArgument);
  EXPECT_THROW(place_buffers({{buffer("a", 0, 1, 1, Offset{32})}, Bytes{64}}), InvalidArgument);
  EXPECT_THROW(place_buffers({{buffer("a", 0, 1, 1, Offset{-64})}, Bytes{64}}), InvalidArgument);
  EXPECT_THROW(place_buffers({{buffer("a", 0, 1, 1, Offset{std::int64_t{1} << 62})}, Bytes{1}}), InvalidArgument);
  const std::int64_t half = std::int64_t{1} << 61;
  EXPECT_THROW(place_buffers({{buffer("a", 0, 1, half), buffer("b", 1, 2, half)}, Bytes{1}}), InvalidArgument);
  EXPECT_THROW(max_live({{buffer("a", 0, 1, INT64_MAX)}, Bytes{64}}), InvalidArgument);
}

TEST(Placement, EmptyLifetimesAndSizesOccupyNothing) {
  const PlacementProblem problem{{buffer("a", 0, 4, 100), buffer("z", 1, 3, 0), buffer("n", 2, 2, 50)}, Bytes{1}};
  const Placement p = place_buffers(problem);
  EXPECT_EQ(p.peak, Bytes{100});
  EXPECT_TRUE(check_placement(problem, p.offsets).empty());
}

TEST(MaxLive, IsTheLargestSumAtOneStep) {
  const PlacementProblem problem{{buffer("a", 0, 2, 10), buffer("b", 2, 4, 10), buffer("c", 3, 5, 7)}, Bytes{1}};
  EXPECT_EQ(max_live(problem), Bytes{17});
  EXPECT_EQ(max_live_step(problem), Step{3});
  EXPECT_EQ(max_live_step({}), Step{0});
}

TEST(MaxLive, RoundsSizesUpToTheAlignment) {
  EXPECT_EQ(max_live({{buffer("a", 0, 2, 1), buffer("b", 1, 2, 65)}, Bytes{64}}), Bytes{192});
}

RC_GTEST_PROP(PlacementProperty, IsValidAlignedAndAtOrAboveItsBound, ()) {
  const PlacementProblem problem = *any_problem();
  const Placement p = place_buffers(problem);
  RC_ASSERT(!any_pair_shares_a_byte(problem, p.offsets));
  RC_ASSERT(check_placement(problem, p.offsets, p.peak).empty());
  RC_ASSERT(p.peak >= p.lower_bound);
  for (const Offset offset : p.offsets) RC_ASSERT(offset.value % problem.alignment.value == 0);
}

RC_GTEST_PROP(PlacementProperty, MaxLiveMatchesCountingEveryStep, ()) {
  const PlacementProblem problem = *any_problem();
  std::int64_t most = 0;
  for (std::int32_t t = 0; t < 50; ++t) {
    std::int64_t live = 0;
    for (const Buffer& b : problem.buffers)
      if (index(b.lifetime.begin) <= t && t < index(b.lifetime.end)) live += align_up(b.size, problem.alignment).value;
    most = std::max(most, live);
  }
  RC_ASSERT(max_live(problem) == Bytes{most});
}

RC_GTEST_PROP(PlacementProperty, SameProblemGivesTheSameOffsets, ()) {
  const PlacementProblem problem = *any_problem();
  const Placement first = place_buffers(problem);
  const Placement second = place_buffers(problem);
  RC_ASSERT(first.offsets == second.offsets);
  RC_ASSERT(first.made_by == second.made_by);
}

RC_GTEST_PROP(PlacementProperty, AnyListingOrderIsPlacedValidly, ()) {
  PlacementProblem problem = *any_problem();
  const Bytes bound = max_live(problem);
  std::reverse(problem.buffers.begin(), problem.buffers.end());
  const Placement p = place_buffers(problem);
  RC_ASSERT(!any_pair_shares_a_byte(problem, p.offsets));
  RC_ASSERT(p.lower_bound == bound);
}

RC_GTEST_PROP(PlacementProperty, ReplacingAroundFixedBuffersKeepsThem, ()) {
  PlacementProblem problem = *any_problem();
  const Placement before = place_buffers(problem);
  for (std::size_t i = 0; i < problem.buffers.size(); i += 3) problem.buffers[i].fixed = before.offsets[i];
  const Placement after = place_buffers(problem);
  RC_ASSERT(check_placement(problem, after.offsets).empty());
  for (std::size_t i = 0; i < problem.buffers.size(); i += 3) RC_ASSERT(after.offsets[i] == before.offsets[i]);
}

}  // namespace
}  // namespace thimble
