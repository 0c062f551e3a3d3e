// What every member of the portfolio promises, and what the exact ones promise on top.
#include <gtest/gtest.h>

#include <cstdio>

#include "remat_cases.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using namespace literals;

using namespace remat_cases;

void expect_sound(const RematProblem& problem, Bytes budget, const RematResult& result, const std::string& what) {
  EXPECT_EQ(result.cost.has_value(), result.status == RematStatus::optimal || result.status == RematStatus::feasible)
      << what;
  if (!result.cost) return;
  const RematReplay replay = replay_remat(problem, budget, result.schedule);
  EXPECT_TRUE(replay.findings.empty()) << what << ": " << replay.findings.front();
  EXPECT_EQ(replay.cost, *result.cost) << what;
  EXPECT_EQ(replay.peak, result.peak) << what;
  EXPECT_LE(result.cost_lower_bound, *result.cost) << what;
  EXPECT_LE(result.budget_lower_bound, result.peak) << what;
}

class EverySolver : public ::testing::TestWithParam<std::string> {};

// The empty name is the portfolio.
std::vector<std::string> all_names() {
  std::vector<std::string> names = remat_solver_names();
  names.emplace_back();
  return names;
}

TEST_P(EverySolver, IsSoundOnRandomGraphs) {
  for (std::uint32_t seed = 0; seed < 120; ++seed) {
    const RematProblem problem = random_problem(seed, 4 + static_cast<int>(seed % 6), seed % 2 == 1);
    for (std::int64_t budget : {4, 7, 10, 14, 40}) {
      const std::string what =
          "seed " + std::to_string(seed) + ", budget " + std::to_string(budget) + ", solver " + GetParam();
      const RematResult result = solve_remat(problem, Bytes{budget}, {.solver = GetParam(), .move_limit = 100'000});
      expect_sound(problem, Bytes{budget}, result, what);
      const auto least = cheapest(problem, budget);
      EXPECT_TRUE(result.status != RematStatus::infeasible || !least) << what;
      EXPECT_TRUE(result.status != RematStatus::optimal || result.cost == least) << what;
      EXPECT_LE(result.cost_lower_bound, least.value_or(INT64_MAX)) << what;
      EXPECT_TRUE(least || !result.cost) << what;
    }
  }
}

TEST_P(EverySolver, GivesTheSameScheduleTwice) {
  const RematProblem problem = chain(20);
  const RematOptions options{.solver = GetParam(), .move_limit = 300'000};
  EXPECT_EQ(write_remat_result(solve_remat(problem, 40_B, options), 40_B),
            write_remat_result(solve_remat(problem, 40_B, options), 40_B));
}

TEST_P(EverySolver, SolvesWhatNeedsNoRecomputation) {
  const RematProblem problem = chain(6);
  const RematResult result = solve_remat(problem, 1000_B, {.solver = GetParam(), .move_limit = 100'000});
  ASSERT_TRUE(result.cost);
  // The backward search promises any schedule.
  EXPECT_TRUE(GetParam() == "backwards" || result.status == RematStatus::optimal);
}

INSTANTIATE_TEST_SUITE_P(Remat, EverySolver, ::testing::ValuesIn(all_names()),
                         [](const auto& test) { return test.param.empty() ? std::string("portfolio") : test.param; });

TEST(Remat, EqualsDijkstraOnRandomGraphs) {
  int infeasible = 0, dearer = 0;
  for (std::uint32_t seed = 1000; seed < 1500; ++seed) {
    const RematProblem problem = random_problem(seed, 3 + static_cast<int>(seed % 7), seed % 3 == 0, seed % 2 == 0);
    const std::int64_t unlimited = solve_remat(problem, 1000_B).cost.value();
    for (std::int64_t budget = 3; budget <= 15; budget += 2) {
      const auto least = cheapest(problem, budget);
      const RematResult portfolio = solve_remat(problem, Bytes{budget}, {.move_limit = 20'000});
      const RematResult exact = solve_remat(problem, Bytes{budget}, {.solver = "exact"});
      const std::string what = "seed " + std::to_string(seed) + ", budget " + std::to_string(budget);
      EXPECT_EQ(portfolio.cost, least) << what;
      EXPECT_EQ(portfolio.status, least ? RematStatus::optimal : RematStatus::infeasible) << what;
      EXPECT_EQ(exact.cost, least) << what;
      infeasible += !least;
      dearer += least && *least > unlimited;
    }
  }
  EXPECT_GT(infeasible, 100);  // the cases have to be hard enough to say something
  EXPECT_GT(dearer, 50);
}

// It promises nothing, but where it finds hardly anything it is broken.
TEST(Remat, UnwindingFitsMostBudgetsThatAnythingFits) {
  int feasible = 0, found = 0, optimal = 0;
  for (std::uint32_t seed = 2000; seed < 2300; ++seed) {
    const RematProblem problem = random_problem(seed, 4 + static_cast<int>(seed % 8), false, seed % 2 == 0);
    for (std::int64_t budget = 4; budget <= 16; budget += 3) {
      const std::string what = "seed " + std::to_string(seed) + ", budget " + std::to_string(budget);
      const RematResult result = solve_remat(problem, Bytes{budget}, {.solver = "unwinding"});
      expect_sound(problem, Bytes{budget}, result, what);
      const auto least = cheapest(problem, budget);
      EXPECT_GE(result.cost.value_or(INT64_MAX), least.value_or(INT64_MAX)) << what;
      feasible += least.has_value();
      found += result.cost.has_value();
      optimal += result.cost && result.cost == least;
    }
  }
  std::printf("%d budgets that something fits, %d found, %d of them at the optimum\n", feasible, found, optimal);
  EXPECT_GT(feasible, 500);
  EXPECT_GE(found, feasible * 99 / 100);
  EXPECT_GE(optimal, found * 9 / 10);
}

// Where tensors are wanted again across many layers, single steps that make room run out of it.
TEST(Remat, UnwindingFitsLayeredGraphsThatEvictionDoesNot) {
  for (const auto& [percent, fewest] : {std::pair{55, 11}, {40, 5}}) {
    int unwound = 0, evicted = 0;
    for (std::uint32_t seed = 0; seed < 12; ++seed) {
      const RematProblem problem = layered(seed, 12, 10);
      const Bytes budget{solve_remat(problem, 1'000'000_B, {.solver = "order"}).peak.value * percent / 100};
      const RematResult result = solve_remat(problem, budget, {.solver = "unwinding"});
      expect_sound(problem, budget, result, "seed " + std::to_string(seed));
      unwound += result.cost.has_value();
      evicted += solve_remat(problem, budget, {.solver = "eviction"}).cost.has_value();
    }
    std::printf("12 layered graphs at %d %% of their peak: %d unwound, %d evicted\n", percent, unwound, evicted);
    EXPECT_GE(unwound, fewest);
    EXPECT_GT(unwound, evicted);
  }
}

TEST(Remat, MoreBudgetNeverCostsMore) {
  const RematProblem problem = chain(9);
  std::int64_t before = INT64_MAX;
  for (std::int64_t budget = 13; budget <= 60; ++budget) {
    const RematResult result = solve_remat(problem, Bytes{budget});
    ASSERT_TRUE(result.cost) << budget;
    EXPECT_LE(*result.cost, before) << budget;
    before = *result.cost;
  }
}

// Those that start from nothing; the others are given what was found before.
TEST(Remat, ThePortfolioIsNeverWorseThanAMemberAlone) {
  for (std::uint32_t seed = 0; seed < 6; ++seed) {
    const RematProblem problem = random_problem(seed, 40, false);
    const RematResult portfolio = solve_remat(problem, 30_B, {.node_limit = 200, .move_limit = 300'000});
    for (const char* name : {"order", "backwards", "segments", "eviction"}) {
      const RematResult alone = solve_remat(problem, 30_B, {.solver = name, .node_limit = 200, .move_limit = 300'000});
      if (alone.cost) {
        ASSERT_TRUE(portfolio.cost) << name;
        EXPECT_LE(*portfolio.cost, *alone.cost) << "seed " << seed << ", " << name;
      }
    }
  }
}

TEST(Remat, SaysWhatItCannotDo) {
  RematProblem problem = chain(3);
  EXPECT_THROW(solve_remat(problem, Bytes{-1}), InvalidArgument);
  EXPECT_THROW(solve_remat(problem, 10_B, {.solver = "magic"}), InvalidArgument);
  problem.ops[0].outputs = {99};
  EXPECT_THROW(solve_remat(problem, 10_B), InvalidArgument);
}

TEST(Remat, AKeptTensorThatNothingMakesIsInfeasible) {
  RematProblem problem = chain(3);
  problem.tensors.push_back({Bytes{1}, true});
  EXPECT_EQ(solve_remat(problem, 1000_B).status, RematStatus::infeasible);
}

TEST(Remat, AnEmptyProblemCostsNothing) {
  const RematResult result = solve_remat({}, 0_B);
  EXPECT_EQ(result.status, RematStatus::optimal);
  EXPECT_EQ(result.cost, 0);
}

}  // namespace
}  // namespace thimble
