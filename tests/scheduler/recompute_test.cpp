#include "thimble/recompute.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "run_plan.h"
#include "thimble/planner.h"
#include "thimble/replay.h"

namespace thimble::testing {
namespace {

Plan plan_with(const OpRegistry& registry, const Graph& step, const RecomputeRanks& ranks, Cut cut = {kBatch}) {
  PlanRequest request{
      .model = "tiny", .options = {}, .batch = kBatch, .device = {}, .planner_seed = 0, .budget = {}, .programs = {}};
  request.programs.push_back({.name = "train", .graph = step, .microbatches = std::move(cut), .ranks = ranks});
  return make_plan(request, registry);
}

// A chain of `blocks` dense layers, each with a scale behind it.
Graph deep_chain(const OpRegistry& registry, int blocks) {
  auto [g, x] = start();
  const auto width = static_cast<int>(g.tensors[x].type.shape[1]);
  for (int i = 0; i < blocks; ++i) {
    const std::string name = "l" + std::to_string(i);
    const TensorId w = weight(g, (name + ".w").c_str(), width, width);
    x = g.add_op(registry, "dense", name, {x, w}).front();
    x = g.add_op(registry, "scale", name + ".s", {x}, {{"factor", 0.5}}).front();
  }
  return finish(registry, std::move(g), x);
}

int recomputations(const Plan& plan) {
  int count = 0;
  for (const ScheduledStep& step : plan.programs[0].schedule.steps) count += step.is_recomputation;
  return count;
}

TEST(Recompute, ChangesBytesAndStepsButNotBits) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, deep_chain(registry, 6));
  const RecomputeBasis basis = recompute_basis(step, registry);
  ASSERT_FALSE(basis.values.empty());
  for (const Cut& cut : {Cut{8}, Cut{3, 5}}) {
    const Plan plain = plan_with(registry, step, {}, cut);
    const Values expected = run_plan(plain, registry);
    for (std::int32_t rank : {1, kOnDemand}) {
      RecomputeRanks ranks = keep_everything(step);
      for (TensorId t : basis.values) ranks[t] = rank;
      const Plan plan = plan_with(registry, step, ranks, cut);
      EXPECT_GT(recomputations(plan), 0);
      EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
      EXPECT_EQ(replay(plan, registry).problems, std::vector<std::string>{});
      EXPECT_EQ(plan.arithmetic_hash, plain.arithmetic_hash);
      EXPECT_EQ(run_plan(plan, registry), expected);
    }
  }
}

TEST(Recompute, KeepingEverythingIsThePlainOrder) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, deep_chain(registry, 4));
  EXPECT_EQ(plan_with(registry, step, keep_everything(step)).programs[0].schedule.steps.size(), step.ops.size());
}

TEST(Recompute, FindsTheValuesBetweenBlocks) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, deep_chain(registry, 3));
  std::vector<std::string> names;
  for (TensorId t : borders_of_blocks(step).between) names.push_back(step.tensors[t].name);
  EXPECT_EQ(names, (std::vector<std::string>{"l0", "l0.s", "l1", "l1.s", "l2", "l2.s"}));
}

RC_GTEST_PROP(Recompute, AnyRanksGiveASoundPlanWithTheSameBits, ()) {
  const OpRegistry registry = tiny_registry();
  const Graph graphs[] = {deep_chain(registry, 5), chain(registry), with_running_state(registry)};
  const Graph step = step_graph(registry, graphs[*rc::gen::inRange(0, 3)]);
  RecomputeRanks ranks = keep_everything(step);
  for (std::int32_t& rank : ranks) rank = *rc::gen::element(0, 1, 2, 3, kOnDemand);
  const Cut cut = *rc::gen::element(Cut{8}, Cut{4, 4}, Cut{3, 5});
  const Plan plan = plan_with(registry, step, ranks, cut);
  RC_ASSERT(check_plan(plan, registry) == std::vector<std::string>{});
  RC_ASSERT(replay(plan, registry).problems == std::vector<std::string>{});
  RC_ASSERT(run_plan(plan, registry) == run_plan(plan_with(registry, step, {}, cut), registry));
}

TEST(Recompute, AWeightReadAfterItsUpdateIsRefused) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, deep_chain(registry, 3));
  RecomputeRanks ranks = keep_everything(step);
  for (TensorId t : recompute_basis(step, registry).values) ranks[t] = 1;
  Plan plan = plan_with(registry, step, ranks);
  // The update of l0.w moves before the last step that reads it.
  std::vector<ScheduledStep>& steps = plan.programs[0].schedule.steps;
  const auto op_of = [&](const ScheduledStep& s) { return step.ops[s.op].name; };
  std::size_t reader = steps.size(), update = steps.size();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (op_of(steps[i]) == "l1" && steps[i].is_recomputation) reader = i;
    if (op_of(steps[i]) == "l1.w.update") update = i;
  }
  ASSERT_LT(reader, update);
  ASSERT_LT(update, steps.size());
  std::rotate(steps.begin() + static_cast<std::ptrdiff_t>(reader), steps.begin() + static_cast<std::ptrdiff_t>(update),
              steps.begin() + static_cast<std::ptrdiff_t>(update) + 1);
  const auto findings = check_plan(plan, registry);
  ASSERT_FALSE(findings.empty());
}

std::vector<PlanRequest> variants_of(const OpRegistry& registry) {
  const Graph step = step_graph(registry, deep_chain(registry, 8));
  std::vector<PlanRequest> variants;
  for (const Cut& cut : {Cut{8}, Cut{4, 4}, Cut{2, 2, 2, 2}}) {
    PlanRequest request{
        .model = "tiny", .options = {}, .batch = kBatch, .device = {}, .planner_seed = 0, .budget = {}, .programs = {}};
    request.programs.push_back({.name = "train", .graph = step, .microbatches = cut});
    variants.push_back(std::move(request));
  }
  return variants;
}

TEST(Planner, MoreBytesNeverCostTime) {
  const OpRegistry registry = tiny_registry();
  const Frontier frontier(variants_of(registry), registry);
  const PlanOrNo too_little = frontier.within(Bytes{1});
  const DoesNotFit& no = std::get<DoesNotFit>(too_little);
  const Bytes smallest = no.smallest.arena;
  EXPECT_LE(no.lower_bound, smallest);
  double fastest = 1e300;
  for (std::int64_t bytes = smallest.value; bytes <= 2 * frontier.plan(frontier.candidates().front()).arena.value;
       bytes += 64) {
    const PlanOrNo answer = frontier.within(Bytes{bytes});
    const Plan& plan = std::get<Plan>(answer);
    EXPECT_LE(plan.arena, Bytes{bytes});
    const double milliseconds = program_cost(plan.programs[0], registry, plan.device).milliseconds;
    EXPECT_LE(milliseconds, fastest * (1 + 1e-12)) << bytes;
    fastest = milliseconds;
  }
  EXPECT_TRUE(std::holds_alternative<DoesNotFit>(frontier.within(smallest - Bytes{1})));
}

TEST(Planner, EveryPointOfTheCurveHasTheBitsOfItsArithmetic) {
  const OpRegistry registry = tiny_registry();
  const Frontier frontier(variants_of(registry), registry);
  std::map<std::string, Values> by_hash;
  for (const Plan& plan : frontier.curve(100)) {
    EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
    const Values values = run_plan(plan, registry);
    const auto [known, is_new] = by_hash.try_emplace(plan.arithmetic_hash, values);
    EXPECT_EQ(known->second, values);
  }
  EXPECT_GT(frontier.curve(100).size(), 3U);
}

// Fewer different ranks than the search may look at: it has to end without a new one.
TEST(Planner, EndsOnAGraphWithFewValues) {
  const OpRegistry registry = tiny_registry();
  PlanRequest request{
      .model = "tiny", .options = {}, .batch = kBatch, .device = {}, .planner_seed = 0, .budget = {}, .programs = {}};
  request.programs.push_back(
      {.name = "train", .graph = step_graph(registry, chain(registry)), .microbatches = {kBatch}});
  const Frontier frontier({request}, registry);
  EXPECT_EQ(frontier.candidates().front().recompute_milliseconds, 0);
  EXPECT_EQ(check_plan(frontier.plan(frontier.candidates().front()), registry), std::vector<std::string>{});
}

}  // namespace
}  // namespace thimble::testing
