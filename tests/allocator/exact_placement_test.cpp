#include "thimble/exact_placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "problems.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using testing::buffer;
using testing::cut_rectangle;
using testing::interlocked;
using Verdict = CapacityAnswer::Verdict;

constexpr std::int64_t kPlenty = 1'000'000;

/// Brute force over byte grids: every offset that is a multiple of the alignment, buffer by buffer. Knows nothing of
/// skylines, orders or sections.
bool fits_by_trying_everything(const PlacementProblem& problem, std::int64_t capacity) {
  const std::int64_t step = problem.alignment.value;
  std::vector<std::int64_t> at;
  const std::function<bool()> place_next = [&]() {
    if (at.size() == problem.buffers.size()) return true;
    const Buffer& b = problem.buffers[at.size()];
    const std::int64_t size = (b.size.value + step - 1) / step * step;
    for (std::int64_t offset = 0; offset + size <= capacity; offset += step) {
      if (b.fixed && b.fixed->value != offset) continue;
      bool clash = false;
      for (std::size_t i = 0; i < at.size() && !clash; ++i) {
        const Buffer& other = problem.buffers[i];
        const std::int64_t other_size = (other.size.value + step - 1) / step * step;
        clash = overlaps(b.lifetime, other.lifetime) && offset < at[i] + other_size && at[i] < offset + size;
      }
      if (clash) continue;
      at.push_back(offset);
      if (place_next()) return true;
      at.pop_back();
    }
    return false;
  };
  return place_next();
}

std::int64_t least_capacity_by_trying_everything(const PlacementProblem& problem) {
  std::int64_t capacity = 0;
  while (!fits_by_trying_everything(problem, capacity)) ++capacity;
  return capacity;
}

std::uint32_t draw(std::mt19937& random, std::uint32_t from, std::uint32_t to) {
  return from + static_cast<std::uint32_t>(random()) % (to - from + 1);
}

/// 2-7 buffers, few sizes and steps.
PlacementProblem tiny(std::uint32_t seed) {
  std::mt19937 random(seed);
  PlacementProblem problem;
  problem.alignment = Bytes{draw(random, 0, 3) == 0 ? 2 : 1};
  const std::uint32_t count = draw(random, 2, 7);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto begin = static_cast<std::int32_t>(draw(random, 0, 7));
    const auto end = begin + static_cast<std::int32_t>(draw(random, 1, 4));
    problem.buffers.push_back(buffer("b" + std::to_string(i), begin, end, draw(random, 1, 5)));
  }
  return problem;
}

/// Twelve bytes are live at every one of nine steps, in other pieces each time: max live is sometimes out of reach.
PlacementProblem tight(std::uint32_t seed) {
  std::mt19937 random(seed);
  PlacementProblem problem;
  std::vector<std::size_t> live;
  std::int64_t free = 12;
  for (std::int32_t step = 0; step < 9; ++step) {
    std::erase_if(live, [&](std::size_t i) {
      if (random() % 4 != 0) {
        problem.buffers[i].lifetime.end = Step{step + 1};
        return false;
      }
      free += problem.buffers[i].size.value;
      return true;
    });
    while (free > 0) {
      const std::int64_t size = std::min<std::int64_t>(free, draw(random, 1, 8));
      live.push_back(problem.buffers.size());
      problem.buffers.push_back(buffer("t" + std::to_string(problem.buffers.size()), step, step + 1, size));
      free -= size;
    }
  }
  return problem;
}

/// Fixes every third buffer where it does not overlap the ones fixed before.
PlacementProblem with_fixed(PlacementProblem problem, std::uint32_t seed) {
  std::mt19937 random(seed);
  for (std::size_t i = 0; i < problem.buffers.size(); i += 3) {
    Buffer& b = problem.buffers[i];
    const Offset at{static_cast<std::int64_t>(random() % 5) * problem.alignment.value};
    const bool clash = std::any_of(problem.buffers.begin(), problem.buffers.end(), [&](const Buffer& other) {
      return other.fixed && overlaps(other.lifetime, b.lifetime) && at < *other.fixed + other.size &&
             *other.fixed < at + b.size;
    });
    if (!clash) b.fixed = at;
  }
  return problem;
}

void expect_optimum_of_brute_force(const PlacementProblem& problem, std::uint32_t seed) {
  const std::int64_t optimum = least_capacity_by_trying_everything(problem);
  const MinimizedPlacement best = minimize_peak(problem, kPlenty);
  EXPECT_EQ(best.placement.peak, Bytes{optimum}) << "seed " << seed;
  EXPECT_EQ(best.placement.lower_bound, Bytes{optimum}) << "seed " << seed;
  EXPECT_TRUE(best.proven_optimal) << "seed " << seed;
  EXPECT_TRUE(check_placement(problem, best.placement.offsets, best.placement.peak).empty()) << "seed " << seed;
  const CapacityAnswer fits = place_into(problem, Bytes{optimum}, kPlenty);
  ASSERT_EQ(fits.verdict, Verdict::kPlaced) << "seed " << seed;
  EXPECT_TRUE(check_placement(problem, fits.placement.offsets, Bytes{optimum}).empty()) << "seed " << seed;
  const CapacityAnswer no = place_into(problem, Bytes{optimum - 1}, kPlenty);
  EXPECT_EQ(no.verdict, Verdict::kInfeasible) << "seed " << seed;
  EXPECT_GT(no.lower_bound, Bytes{optimum - 1}) << "seed " << seed;
  EXPECT_LE(no.lower_bound, Bytes{optimum}) << "seed " << seed;
}

TEST(ExactPlacement, IsTheOptimumOfBruteForce) {
  for (std::uint32_t seed = 0; seed < 300; ++seed) expect_optimum_of_brute_force(tiny(seed), seed);
}

TEST(ExactPlacement, IsTheOptimumOfBruteForceWhereMaxLiveIsOutOfReach) {
  int above_max_live = 0;
  for (std::uint32_t seed = 0; seed < 2'000; ++seed) {
    const PlacementProblem problem = tight(seed);
    expect_optimum_of_brute_force(problem, seed);
    above_max_live += minimize_peak(problem, kPlenty).placement.peak > max_live(problem) ? 1 : 0;
  }
  EXPECT_GE(above_max_live, 10) << "too easy to judge the bound";
}

TEST(ExactPlacement, IsTheOptimumOfBruteForceAroundFixedBuffers) {
  for (std::uint32_t seed = 0; seed < 400; ++seed) {
    const PlacementProblem problem = with_fixed(tiny(seed), seed);
    expect_optimum_of_brute_force(problem, seed);
    const Placement placement = minimize_peak(problem, kPlenty).placement;
    for (std::size_t i = 0; i < problem.buffers.size(); ++i)
      EXPECT_EQ(placement.offsets[i], problem.buffers[i].fixed.value_or(placement.offsets[i])) << "seed " << seed;
  }
}

TEST(ExactPlacement, LeavesRoomEmptyWhereEveryOptimumDoes) {
  // A search in which nothing may rest on a neighbour's buffer alone, over an empty floor, "proves" 17.
  const PlacementProblem problem{
      {buffer("a", 0, 9, 6), buffer("b", 0, 1, 8), buffer("c", 0, 3, 1), buffer("d", 0, 8, 1), buffer("e", 1, 4, 5),
       buffer("f", 1, 2, 3), buffer("g", 2, 10, 3), buffer("h", 3, 10, 1), buffer("i", 4, 12, 4), buffer("j", 4, 5, 1),
       buffer("k", 5, 7, 1), buffer("l", 7, 8, 1), buffer("m", 8, 10, 2), buffer("n", 10, 12, 6),
       buffer("o", 12, 14, 4)},
      Bytes{1}};
  EXPECT_EQ(max_live(problem), Bytes{16});
  EXPECT_EQ(minimize_peak(problem, kPlenty).placement.peak, Bytes{16});
}

TEST(ExactPlacement, EmptyProblemFitsIntoNothing) {
  EXPECT_EQ(place_into({}, Bytes{0}, 0).verdict, Verdict::kPlaced);
  EXPECT_TRUE(minimize_peak({}, 0).proven_optimal);
}

TEST(ExactPlacement, BelowMaxLiveIsRefutedWithoutSearch) {
  const CapacityAnswer answer = place_into(interlocked(), Bytes{11}, kPlenty);
  EXPECT_EQ(answer.verdict, Verdict::kInfeasible);
  EXPECT_EQ(answer.lower_bound, Bytes{12});
  EXPECT_EQ(answer.nodes, 0);
}

TEST(ExactPlacement, WhatIsFixedTooHighDoesNotFit) {
  const PlacementProblem problem{{buffer("a", 0, 2, 4, Offset{8}), buffer("dead", 3, 3, 20)}, Bytes{1}};
  EXPECT_EQ(place_into(problem, Bytes{19}, kPlenty).verdict, Verdict::kInfeasible);
  EXPECT_EQ(place_into(problem, Bytes{20}, kPlenty).verdict, Verdict::kPlaced);
  EXPECT_TRUE(minimize_peak(problem, kPlenty).proven_optimal);
}

TEST(ExactPlacement, SizesCountRoundedUpToTheAlignment) {
  const PlacementProblem problem{{buffer("a", 0, 3, 1), buffer("b", 1, 4, 65)}, Bytes{64}};
  EXPECT_EQ(place_into(problem, Bytes{191}, kPlenty).verdict, Verdict::kInfeasible);
  EXPECT_EQ(place_into(problem, Bytes{192}, kPlenty).verdict, Verdict::kPlaced);
}

TEST(ExactPlacement, RefusesWhatMakesNoSense) {
  EXPECT_THROW(place_into({{buffer("a", 0, 1, -1)}, Bytes{1}}, Bytes{9}, 1), InvalidArgument);
  EXPECT_THROW(minimize_peak({{buffer("a", 2, 1, 1)}, Bytes{1}}, 1), InvalidArgument);
}

TEST(ExactPlacement, PacksRectanglesThatWereCutToPieces) {
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    const PlacementProblem problem = cut_rectangle(seed, 80);
    ASSERT_EQ(max_live(problem), Bytes{1000}) << "seed " << seed;
    const CapacityAnswer answer = place_into(problem, Bytes{1000}, 100'000);
    ASSERT_EQ(answer.verdict, Verdict::kPlaced) << "seed " << seed;
    EXPECT_TRUE(check_placement(problem, answer.placement.offsets, Bytes{1000}).empty()) << "seed " << seed;
    EXPECT_GE(place_buffers(problem).peak, answer.placement.peak) << "seed " << seed;
  }
}

TEST(ExactPlacement, NodeLimitIsKeptAndSaid) {
  const PlacementProblem problem = cut_rectangle(3, 200);
  const CapacityAnswer answer = place_into(problem, Bytes{1000}, 10);
  EXPECT_EQ(answer.verdict, Verdict::kNotFound);
  EXPECT_TRUE(answer.placement.offsets.empty());
  EXPECT_LE(answer.nodes, 10);
  EXPECT_GT(answer.nodes, 0);
}

TEST(ExactPlacement, SameProblemAndLimitGiveTheSameOffsets) {
  const PlacementProblem problem = cut_rectangle(4, 150);
  const CapacityAnswer first = place_into(problem, Bytes{1100}, 20'000);
  const CapacityAnswer second = place_into(problem, Bytes{1100}, 20'000);
  EXPECT_EQ(first.placement.offsets, second.placement.offsets);
  EXPECT_EQ(first.nodes, second.nodes);
  const MinimizedPlacement best = minimize_peak(problem, 5'000);
  EXPECT_EQ(best.placement.offsets, minimize_peak(problem, 5'000).placement.offsets);
}

TEST(ExactPlacement, SlowEveryGroupThatMakesThePeakIsMinimized) {
  PlacementProblem problem = cut_rectangle(0, 300);
  for (const std::uint32_t seed : {6U, 12U}) {
    const PlacementProblem later = cut_rectangle(seed, 300);
    for (Buffer b : later.buffers) {
      const auto shift = static_cast<std::int32_t>(seed) * 1000;
      b.lifetime = {Step{index(b.lifetime.begin) + shift}, Step{index(b.lifetime.end) + shift}};
      problem.buffers.push_back(b);
    }
  }
  ASSERT_GT(minimize_peak(problem, 0).placement.peak, Bytes{1000});
  const MinimizedPlacement best = minimize_peak(problem, 300'000);
  EXPECT_EQ(best.placement.peak, Bytes{1000});
  EXPECT_TRUE(best.proven_optimal);
}

TEST(ExactPlacement, SlowMoreNodesAreNeverWorse) {
  int improved = 0;
  for (std::uint32_t seed = 20; seed < 30; ++seed) {
    const PlacementProblem problem = cut_rectangle(seed, 300);
    Bytes peak = place_buffers(problem).peak;
    Bytes bound = max_live(problem);
    for (const std::int64_t nodes : {0, 400, 6'400, 100'000}) {
      const MinimizedPlacement best = minimize_peak(problem, nodes);
      EXPECT_LE(best.placement.peak, peak) << "seed " << seed << ", nodes " << nodes;
      EXPECT_GE(best.placement.lower_bound, bound) << "seed " << seed << ", nodes " << nodes;
      EXPECT_LE(best.nodes, nodes);
      EXPECT_TRUE(check_placement(problem, best.placement.offsets, best.placement.peak).empty());
      improved += best.placement.peak < peak ? 1 : 0;
      peak = best.placement.peak;
      bound = best.placement.lower_bound;
    }
  }
  EXPECT_GE(improved, 2) << "too easy: nothing is left to improve";
}

}  // namespace
}  // namespace thimble
