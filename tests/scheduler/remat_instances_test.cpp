// Recomputation on stored graphs with proven optima and on graphs of published systems (the folder `shared`, which is
// not part of a release).
#include <gtest/gtest.h>

#include <cstdio>
#include <nlohmann/json.hpp>

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

}  // namespace
}  // namespace thimble
