// Recomputation on stored graphs with proven optima and on graphs of published systems (the folder `shared`, which is
// not part of a release).
#include <gtest/gtest.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "remat_baselines.h"
#include "remat_cases.h"

namespace thimble {
namespace {

using namespace remat_cases;
using Json = nlohmann::json;

bool is_required() {
  const char* value = std::getenv("THIMBLE_REQUIRE_SHARED");
  return value && std::string(value) == "1";
}

std::string missing(const char* folder) {
  return "nothing under " + (instances() / folder).string() + "; set THIMBLE_SHARED";
}

#define SKIP_WITHOUT(folder)                            \
  if (files(folder).empty()) {                          \
    if (is_required()) FAIL() << missing(folder);       \
    GTEST_SKIP() << "all skipped: " << missing(folder); \
  }

struct Tally {
  int rows = 0, optimal = 0;
  double sum = 0, worst = 0;  // of cost / optimum - 1

  void row(const RematProblem& problem, Bytes budget, std::optional<std::int64_t> optimum, bool has_to_be_proven,
           const std::string& what) {
    const RematResult result = solve_remat(problem, budget);
    ++rows;
    if (!optimum) {
      EXPECT_FALSE(result.cost) << what;
      EXPECT_TRUE(!has_to_be_proven || result.status == RematStatus::infeasible) << what;
      optimal += result.status == RematStatus::infeasible;
      return;
    }
    ASSERT_TRUE(result.cost) << what;
    EXPECT_TRUE(replay_remat(problem, budget, result.schedule).findings.empty()) << what;
    EXPECT_LE(result.cost_lower_bound, *optimum) << what;
    EXPECT_GE(*result.cost, *optimum) << what;
    EXPECT_TRUE(!has_to_be_proven || *result.cost == *optimum) << what << ": " << *result.cost;
    EXPECT_TRUE(!has_to_be_proven || result.status == RematStatus::optimal) << what;
    const double gap = static_cast<double>(*result.cost) / static_cast<double>(*optimum) - 1;
    optimal += gap == 0;
    sum += gap;
    worst = std::max(worst, gap);
  }
};

constexpr std::size_t kProvenUpTo = 30;  // tensors

TEST(RematInstances, SlowExactRowsAreAtTheStatedOptimum) {
  SKIP_WITHOUT("exact");
  Tally all;
  for (const auto& path : files("exact")) {
    const std::string text = read_text(path);
    const Json json = Json::parse(text);
    const RematProblem problem = read_remat_problem(text, path.filename().string());
    Tally file;
    for (const Json& row : json.at("budgets")) {
      std::optional<std::int64_t> optimum;
      if (row.at("optimum").is_number()) optimum = row.at("optimum").get<std::int64_t>();
      file.row(problem, Bytes{row.at("budget")}, optimum, problem.tensors.size() <= kProvenUpTo,
               path.filename().string() + " at " + row.at("budget").dump());
    }
    std::printf("%-24s %2d of %2d rows optimal, worst gap %.2f %%\n", path.filename().c_str(), file.optimal, file.rows,
                100 * file.worst);
    all.rows += file.rows;
    all.optimal += file.optimal;
    all.sum += file.sum;
    all.worst = std::max(all.worst, file.worst);
  }
  std::printf("%d of %d rows optimal, mean gap %.3f %%, worst %.2f %%\n", all.optimal, all.rows,
              100 * all.sum / all.rows, 100 * all.worst);
  EXPECT_LE(all.sum / all.rows, 0.01);
  EXPECT_LE(all.worst, 0.06);
}

TEST(RematInstances, SlowStaircasesAreExactAtBothEndsOfEveryStep) {
  SKIP_WITHOUT("exact");
  for (const auto& path : files("exact")) {
    const std::string text = read_text(path);
    const Json json = Json::parse(text);
    const RematProblem problem = read_remat_problem(text, path.filename().string());
    if (!json.contains("staircase") || problem.tensors.size() > kProvenUpTo) continue;
    Tally tally;
    for (const Json& step : json.at("staircase"))
      for (std::size_t end : {0U, 1U}) {
        if (step.at(end).is_null()) continue;
        tally.row(problem, Bytes{step.at(end)}, step.at(2).get<std::int64_t>(), true,
                  path.filename().string() + " at " + step.at(end).dump());
      }
    EXPECT_EQ(tally.optimal, tally.rows) << path;
  }
}

TEST(RematInstances, SlowPublicGraphsMeetTheRecordedOptima) {
  SKIP_WITHOUT("public");
  Tally tally;
  for (const Json& entry : Json::parse(read_text(instances() / "public/optima.json"))) {
    const std::string name = entry.at("name");
    const RematProblem problem = read_remat_problem(read_text(instances() / "public" / (name + ".json.gz")), name);
    for (const Json& row : entry.at("rows")) {
      const std::string what = name + " at " + row.at("budget").dump();
      if (row.at("optimum").is_number())
        tally.row(problem, Bytes{row.at("budget")}, row.at("optimum").get<std::int64_t>(), false, what);
      if (row.at("optimum") == "infeasible") {
        EXPECT_EQ(solve_remat(problem, Bytes{row.at("budget")}).status, RematStatus::infeasible) << what;
      }
    }
  }
  std::printf("%d of %d recorded optima met, worst gap %.3f %%\n", tally.optimal, tally.rows, 100 * tally.worst);
  EXPECT_EQ(tally.optimal, tally.rows);
}

// One public graph beside what it is compared with.
struct Compared {
  std::string name;
  RematProblem problem;
  double peak = 0;  // bytes without recomputation
  double base = 0;  // cost without recomputation
  remat_baselines::Baselines baselines;
  remat_baselines::TimeRatios dtr;
  int rows = 0, comparisons = 0;

  // Solved or proven impossible, and no dearer than any baseline that fits the same budget.
  void row(std::int64_t bytes, const RematOptions& options) {
    const Bytes budget{bytes};
    const std::string what = name + " at " + std::to_string(bytes);
    const RematResult result = solve_remat(problem, budget, options);
    ++rows;
    EXPECT_NE(result.status, RematStatus::not_found) << what;
    EXPECT_EQ(result.cost.has_value(), result.status != RematStatus::infeasible) << what;
    std::int64_t cost = INT64_MAX;
    if (result.cost) {
      const RematReplay replay = replay_remat(problem, budget, result.schedule);
      EXPECT_TRUE(replay.findings.empty()) << what << ": " << replay.findings.front();
      EXPECT_LE(replay.peak, budget) << what;
      EXPECT_LE(result.cost_lower_bound, replay.cost) << what;
      cost = replay.cost;
    }
    for (const auto* plans : {&baselines.sqrt_n, &baselines.greedy}) {
      const auto other = remat_baselines::cheapest_within(*plans, budget);
      comparisons += other.has_value();
      EXPECT_LE(cost, other.value_or(INT64_MAX)) << what;
    }
    const auto recorded = remat_baselines::lowest_within(dtr, budget);
    comparisons += recorded.has_value();
    EXPECT_LE(static_cast<double>(cost) / base, recorded.value_or(1e300)) << what;
  }
};

std::vector<Compared> public_graphs(std::size_t fewest_ops, std::size_t most_ops) {
  const Json peer = Json::parse(read_text(instances() / "public/peer_dtr_simulator.json"));
  std::vector<Compared> graphs;
  for (const auto& path : files("public")) {
    if (path.extension() != ".gz") continue;
    const std::string text = read_text(path);
    const Json json = Json::parse(text);
    Compared graph;
    graph.problem = read_remat_problem(text, path.filename().string());
    if (graph.problem.ops.size() < fewest_ops || graph.problem.ops.size() > most_ops) continue;
    graph.name = json.at("name");
    graph.peak = json.at("stats").at("peak_given_order_nonconst");
    graph.baselines = remat_baselines::measure_baselines(graph.problem, json.at("stats").at("fwd_ops"));
    graph.base = static_cast<double>(graph.baselines.sqrt_n.front().cost);
    graph.dtr = remat_baselines::recorded_dtr(peer, graph.name);
    graphs.push_back(std::move(graph));
  }
  return graphs;
}

void compare_at_fractions(std::vector<Compared>& graphs, const RematOptions& options) {
  for (Compared& graph : graphs)
    for (const double fraction : {0.9, 0.7, 0.5, 0.3})
      graph.row(static_cast<std::int64_t>(graph.peak * fraction), options);
}

void expect_rows(const std::vector<Compared>& graphs, std::size_t count, int rows, int fewest_comparisons) {
  int all = 0, comparisons = 0;
  for (const Compared& graph : graphs) {
    all += graph.rows;
    comparisons += graph.comparisons;
  }
  std::printf("%zu graphs, %d rows, %d comparisons with a baseline that fits\n", graphs.size(), all, comparisons);
  EXPECT_EQ(graphs.size(), count);
  EXPECT_EQ(all, rows);
  EXPECT_GE(comparisons, fewest_comparisons);
}

constexpr std::size_t kSmall = 130, kMiddle = 400;  // ops

// A small part of what a search and the local search are given by default: the larger graphs in seconds.
const RematOptions kLittleEffort{.solver = {}, .node_limit = 2000, .move_limit = 100'000'000};

TEST(RematInstances, SlowSmallPublicGraphsAreSolvedOrProvenAndNoDearerThanBaselines) {
  SKIP_WITHOUT("public");
  std::vector<Compared> graphs = public_graphs(1, kSmall);
  compare_at_fractions(graphs, {});
  expect_rows(graphs, 6, 24, 20);
}

TEST(RematInstances, SlowMiddlePublicGraphsAreNoDearerThanBaselinesWithLittleEffort) {
  SKIP_WITHOUT("public");
  std::vector<Compared> graphs = public_graphs(kSmall + 1, kMiddle);
  compare_at_fractions(graphs, kLittleEffort);
  expect_rows(graphs, 5, 20, 30);
}

// The hardest rows: nothing but the unwinding finds a schedule; at 0.3 of the peak it has millions of runs.
TEST(RematInstances, SlowTheLargeLayeredGraphFitsLessThanAThirdOfItsPeak) {
  SKIP_WITHOUT("public");
  const std::string text = read_text(instances() / "public/rl_n500.json.gz");
  const RematProblem problem = read_remat_problem(text, "rl_n500");
  const double peak = Json::parse(text).at("stats").at("peak_given_order_nonconst");
  const double base = Json::parse(text).at("stats").at("total_cost");
  for (const auto& [fraction, times] : {std::pair{0.5, 3.0}, {0.4, 1000.0}, {0.3, 40'000.0}}) {
    const Bytes budget{static_cast<std::int64_t>(fraction * peak)};
    const RematResult result = solve_remat(problem, budget);
    ASSERT_TRUE(result.cost) << fraction;
    EXPECT_TRUE(replay_remat(problem, budget, result.schedule).findings.empty());
    EXPECT_LE(static_cast<double>(*result.cost), times * base) << fraction;
  }
}

TEST(RematInstances, SlowRecordedRunsOfTheDtrSimulatorAreNotCheaper) {
  SKIP_WITHOUT("public");
  std::vector<Compared> graphs = public_graphs(1, kMiddle);
  std::size_t recorded = 0;
  for (Compared& graph : graphs) {
    recorded += !graph.dtr.empty();
    for (const auto& run : graph.dtr) graph.row(run.first, kLittleEffort);
  }
  EXPECT_EQ(recorded, 2U);
  expect_rows(graphs, 11, 13, 30);
}

}  // namespace
}  // namespace thimble
