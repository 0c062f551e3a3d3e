// What a plan leaves below its peak makes ops faster that can use it.
#include <gtest/gtest.h>

#include "thimble/planner.h"
#include "tiny_ops.h"

namespace thimble::testing {
namespace {

// scale with a scratch of `width` KiB, at most 8, which takes 1 / width of a millisecond; `hungry` has that of the
// attribute `kib` and no choice.
OpRegistry paced_registry() {
  OpRegistry registry = tiny_registry();
  OpDefinition paced = scale_op();
  paced.kind = "paced";
  paced.in_place = {};
  paced.workspace = [](const OpShape& s) { return Bytes{1024 * int_attribute(s.attributes, "width")}; };
  paced.cost = [](const OpShape& s) {
    const double all = 1e-3 * s.device.flops_per_second * s.device.threads;
    return OpCost{0, 0, all / static_cast<double>(int_attribute(s.attributes, "width"))};
  };
  paced.faster = [](const OpShape& s) {
    std::vector<Attributes> wider;
    for (std::int64_t width = 2 * int_attribute(s.attributes, "width"); width <= 8; width *= 2) {
      wider.push_back(s.attributes);
      wider.back()["width"] = width;
    }
    return wider;
  };
  registry.add(paced);
  OpDefinition hungry = scale_op();
  hungry.kind = "hungry";
  hungry.workspace = [](const OpShape& s) { return Bytes{1024 * int_attribute(s.attributes, "kib")}; };
  registry.add(hungry);
  return registry;
}

Graph paced_and_hungry(const OpRegistry& registry, std::int64_t kib) {
  auto [g, x] = start();
  const TensorId a = g.add_op(registry, "paced", "a", {x}, {{"factor", 2.0}, {"width", std::int64_t{1}}}).front();
  g.mark_output(g.add_op(registry, "hungry", "b", {a}, {{"factor", 2.0}, {"kib", kib}}).front());
  return g;
}

PlanRequest request_of(Graph graph, bool spend_slack) {
  PlanRequest request{
      .model = "tiny", .options = {}, .batch = kBatch, .device = {}, .planner_seed = 0, .budget = {}, .programs = {}};
  request.programs.push_back(
      {.name = "train", .graph = std::move(graph), .microbatches = {kBatch}, .spend_slack = spend_slack});
  return request;
}

std::int64_t width_in(const Plan& plan) {
  const Program& program = plan.programs[0];
  const ScheduledStep& step = program.schedule.steps[static_cast<std::size_t>(index(step_of(program, "a")))];
  const std::int64_t width = int_attribute(program.graph.ops[step.op].attributes, "width");
  EXPECT_EQ(program.schedule.storages[step.workspace].size, Bytes{1024 * width});
  return width;
}

// The peak is at b, whose x has died: 1 KiB is hardly more than what a has beside its scratch.
TEST(PredictedSeconds, AreTheLongerOfComputingAndMovingAndTheLaunches) {
  const DeviceDescription device{
      .threads = 2, .flops_per_second = 1e9, .bytes_per_second = 1e9, .seconds_per_launch = 1e-3};
  EXPECT_DOUBLE_EQ(predicted_seconds({.flops = 3e9, .bytes = 1e9, .idle_flops = 1e9}, device), 2 + 1e-3);
  EXPECT_DOUBLE_EQ(predicted_seconds({.flops = 3e9, .bytes = 4e9, .launches = 5}, device), 4 + 5e-3);
}

TEST(SpendSlack, GivesAsMuchAsThePeakAllows) {
  const OpRegistry registry = paced_registry();
  for (const auto& [kib, width] : {std::pair{1, 1}, {2, 1}, {3, 2}, {5, 4}, {9, 8}, {100, 8}}) {
    const Graph graph = paced_and_hungry(registry, kib);
    const Plan lean = make_plan(request_of(graph, false), registry),
               plan = make_plan(request_of(graph, true), registry);
    EXPECT_EQ(width_in(lean), 1);
    EXPECT_EQ(width_in(plan), width) << kib << " KiB";
    EXPECT_EQ(plan.programs[0].lower_bound, lean.programs[0].lower_bound) << kib << " KiB";
    EXPECT_EQ(plan.arena, lean.arena);
    EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
    const auto milliseconds = [&](const Plan& p) {
      return program_cost(p.programs[0], registry, p.device).milliseconds;
    };
    EXPECT_NEAR(milliseconds(lean) - milliseconds(plan), 1 - 1.0 / width, 1e-9) << kib << " KiB";
  }
}

// Width 8 with more than the peak, 4 below it, 1 where nothing is spent.
TEST(SpendSlack, OffersAFrontierWhatIsFasterInAsManyBytesAndInMore) {
  const OpRegistry registry = paced_registry();
  const Frontier frontier({request_of(paced_and_hungry(registry, 5), true)}, registry);
  const std::vector<Candidate>& all = frontier.candidates();
  ASSERT_EQ(all.size(), 3U);
  const std::int64_t widths[] = {8, 4, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(all[i].spend_slack, widths[i] > 1);
    EXPECT_NEAR(all[2].milliseconds - all[i].milliseconds, 1 - 1.0 / static_cast<double>(widths[i]), 1e-9);
    const Plan plan = frontier.plan(all[i]);
    EXPECT_EQ(width_in(plan), widths[i]);
    EXPECT_EQ(plan.programs[0].lower_bound, all[i].live);
    EXPECT_DOUBLE_EQ(program_cost(plan.programs[0], registry, plan.device).milliseconds, all[i].milliseconds);
    EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
  }
  EXPECT_EQ(all[1].live, all[2].live);
  const Bytes x{128};  // dead at b, where the peak was
  EXPECT_EQ(all[0].live, all[1].live + Bytes{3 * 1024} + x);
  EXPECT_EQ(width_in(std::get<Plan>(frontier.within(all[0].live))), 8);
  EXPECT_EQ(width_in(std::get<Plan>(frontier.within(all[0].live - kAlignment))), 4);
  EXPECT_EQ(width_in(std::get<Plan>(frontier.within(all[1].live))), 4);
}

// A second program of the same graph for fewer samples: it has the bytes of the first one's budget.
TEST(SpendSlack, LeavesOtherProgramsTheWholeBudget) {
  const OpRegistry registry = paced_registry();
  PlanRequest request = request_of(paced_and_hungry(registry, 5), true);
  request.programs.push_back(request.programs[0]);
  request.programs[1].name = "short";
  const auto program = [](Graph graph, std::int64_t samples) {
    graph.batch = samples;
    for (Tensor& tensor : graph.tensors) tensor.type = with_samples(tensor.type, samples);
    return graph;
  };
  request.programs[1].graph = program(request.programs[1].graph, 1);
  request.programs[1].microbatches = {1};
  const Frontier frontier({request}, registry);
  const Bytes peak = frontier.candidates()[1].live;
  const auto width_of_short = [&](Bytes budget) {
    Plan plan = std::get<Plan>(frontier.within(budget));
    EXPECT_LE(plan.arena, budget);
    std::swap(plan.programs[0], plan.programs[1]);
    return width_in(plan);
  };
  EXPECT_EQ(width_of_short(peak), 4);
  EXPECT_EQ(width_of_short(peak + Bytes{4096}), 8);
}

}  // namespace
}  // namespace thimble::testing
