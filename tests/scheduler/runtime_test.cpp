#include <gtest/gtest.h>

#include "new_counter.h"
#include "run_plan.h"

namespace thimble::testing {
namespace {

TEST(Runtime, ComputesWhatTheGraphMeans) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId w = weight(g, "w", 1, 3);
  g.mark_output(g.add_op(registry, "dense", "y", {x, w}).front());
  const Values values = run_plan(plan_of(registry, g), registry);
  for (std::size_t i = 0; i < 8; ++i) {
    float expected = 0;
    for (std::size_t j = 0; j < 3; ++j) expected += value_of("x", i * 3 + j) * value_of("w", j);
    EXPECT_FLOAT_EQ(values.at("y")[i], expected);
  }
}

TEST(Runtime, TrainsAsAnInterpreterWithMemoryForEverything) {
  const OpRegistry registry = tiny_registry();
  for (const Graph& forward : {chain(registry), diamond(registry), with_running_state(registry)}) {
    const Graph g = step_graph(registry, forward);
    const Values plain = interpret(g, registry), planned = run_plan(plan_of(registry, g), registry);
    EXPECT_EQ(planned.at("loss"), plain.at("loss"));
    EXPECT_EQ(planned.at("w1"), plain.at("w1.update"));
    EXPECT_EQ(planned.at("w2.momentum"), plain.at("w2.update.momentum"));
    EXPECT_NE(planned.at("w1"), plain.at("w1"));
  }
}

TEST(Runtime, EveryCutGivesTheSameGradients) {
  const OpRegistry registry = tiny_registry();
  const Graph g = step_graph(registry, with_running_state(registry));
  const Values whole = run_plan(plan_of(registry, g), registry);
  for (const Cut& cut : {Cut{4, 4}, Cut{3, 5}, Cut{5, 3}, Cut{1, 1, 1, 1, 1, 1, 1, 1}}) {
    Values parts = run_plan(plan_of(registry, g, cut), registry);
    EXPECT_NEAR(parts.at("loss")[0], whole.at("loss")[0], 1e-5);
    for (const char* name : {"w1", "w2", "w1.momentum", "w2.momentum", "seen"})
      for (std::size_t i = 0; i < whole.at(name).size(); ++i)
        EXPECT_NEAR(parts.at(name)[i], whole.at(name)[i], 1e-5) << name;  // sums in another order
    EXPECT_EQ(parts.at("seen")[0], 8.0F);
  }
}

TEST(Runtime, WholeBatchesPassThroughViewsAndCuts) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId rows = g.add_op(registry, "reshape", "rows", {x}, {{"columns", std::int64_t{1}}}).front();
  const TensorId twice = g.add_op(registry, "scale", "twice", {rows}, {{"factor", 2.0}}).front();
  g.mark_output(g.add_op(registry, "reshape", "back", {twice}, {{"columns", std::int64_t{3}}}).front());
  for (const Cut& cut : {Cut{8}, Cut{4, 4}, Cut{3, 5}}) {
    const Plan plan = plan_of(registry, g, cut);
    EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
    EXPECT_EQ(run_plan(plan, registry).at("back"), interpret(g, registry).at("back"));
  }
}

TEST(Runtime, EachIterationIsFilledWithItsSamplesOnly) {
  const OpRegistry registry = tiny_registry();
  for (const Cut& cut : {Cut{8}, Cut{3, 5}, Cut{1, 6, 1}}) {
    HostMemory memory;
    Runtime runtime(two_programs(registry, cut), registry, memory, {.poison = true, .canaries = true});
    std::vector<HalfOpen> filled, expected;
    const auto fill = [&](ProgramView& view) {
      filled.push_back(view.samples());
      EXPECT_EQ(view.as<float>("x").size(), static_cast<std::size_t>(3 * view.samples().size()));
      EXPECT_EQ(view.as<float>("target").size(), static_cast<std::size_t>(2 * view.samples().size()));
      EXPECT_THROW(view.bytes("loss"), InvalidArgument);
    };
    const auto read = [](ProgramView& view) {
      EXPECT_EQ(view.samples(), (HalfOpen{0, kBatch}));
      EXPECT_EQ(view.as<float>("loss").size(), 1U);
      EXPECT_THROW(view.bytes("x"), InvalidArgument);  // its bytes serve others by now
    };
    runtime.run("train", {.seed = 1, .step = 0, .learning_rate = 0.125F}, fill, read);
    for (std::int64_t size : cut) {
      const std::int64_t begin = expected.empty() ? 0 : expected.back().end;
      expected.push_back({begin, begin + size});
    }
    EXPECT_EQ(filled, expected);
  }
}

TEST(Runtime, InputsAreWholeAgainWhereTheCallerReadsThem) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId rows = g.add_op(registry, "reshape", "rows", {x}, {{"columns", std::int64_t{1}}}).front();
  const TensorId twice = g.add_op(registry, "scale", "twice", {rows}, {{"factor", 2.0}}).front();
  for (TensorId output : {x, rows, twice}) g.mark_output(output);
  const Plan plan = plan_of(registry, g, {3, 5});
  EXPECT_EQ(run_plan(plan, registry), interpret(g, registry));
}

TEST(Runtime, AnInputThatIsNotBatchedLastsForAllMicrobatches) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId rate = g.add_input("rate", {DType::f32, {2, 3}}, Role::input);
  const TensorId half = g.add_op(registry, "scale", "half", {rate}, {{"factor", 0.5}}).front();
  g.mark_output(g.add_op(registry, "dense", "y", {x, half}).front());
  HostMemory memory;
  Runtime runtime(plan_of(registry, g, {3, 5}), registry, memory, {.poison = true});
  std::vector<float> y;
  const auto fill = [](ProgramView& view) {
    std::ranges::fill(view.as<float>("x"), 1.0F);
    if (view.samples().begin == 0) std::ranges::fill(view.as<float>("rate"), 4.0F);
  };
  runtime.run("train", {}, fill, [&](ProgramView& view) { y = floats(view.bytes("y")); });
  EXPECT_EQ(y, std::vector<float>(16, 6.0F));
}

TEST(Runtime, TheHighWaterIsWhatWasPlanned) {
  const OpRegistry registry = tiny_registry();
  const Plan plan = two_programs(registry, {3, 5});
  HostMemory memory;
  Runtime runtime(plan, registry, memory);
  for (const char* name : {"train", "evaluate", "train"}) {
    run_once(runtime, name);
    EXPECT_EQ(runtime.last_high_water(), plan.program(name).planned);
  }
}

TEST(Runtime, PoisonFillsReleasedBytesWithNaN) {
  const OpRegistry registry = tiny_registry();
  const Plan plan = plan_of(registry, step_graph(registry, chain(registry)));
  HostMemory memory;
  Runtime runtime(plan, registry, memory, {.poison = true});
  fill_persistent(runtime);
  run_once(runtime, "train");
  const Storage& x = plan.programs[0].schedule.storages[storage_of(plan.programs[0], "x")];
  for (std::int64_t i = 0; i < x.size.value; ++i)
    EXPECT_EQ(*runtime.arena().address(x.offset + Bytes{i}), std::byte{0xff});
}

TEST(Runtime, AnyValidPlacementGivesTheSameWeights) {
  const OpRegistry registry = tiny_registry();
  const Plan plan = two_programs(registry, {3, 5});
  Plan turned = plan;
  turn_over(turned);
  EXPECT_NE(turned, plan);
  EXPECT_EQ(run_plan(turned, registry), run_plan(plan, registry));
}

TEST(Runtime, AllocatesNothingWhileItRuns) {
  const OpRegistry registry = tiny_registry();
  HostMemory memory;
  Runtime runtime(two_programs(registry, {3, 5}), registry, memory);
  fill_persistent(runtime);
  run_once(runtime, "train");
  const StepScalars scalars{.seed = 1, .step = 1, .learning_rate = 0.1F};
  std::int64_t before = 0, after = 0;
  const ViewFunction fill = [&](ProgramView&) { before = allocations(); };
  const ViewFunction read = [&](ProgramView&) { after = allocations(); };
  const std::int64_t begin = allocations();
  runtime.run("train", scalars, fill, read);
  EXPECT_EQ(allocations(), begin);
  EXPECT_EQ(after, before);
  EXPECT_GT(begin, 0);
}

TEST(Runtime, RefusesDamagedPlansAndUnknownNames) {
  const OpRegistry registry = tiny_registry();
  HostMemory memory;
  Plan damaged = two_programs(registry);
  damaged.programs[0].planned += Bytes{64};
  EXPECT_THROW(Runtime(damaged, registry, memory), BadInput);
  Runtime runtime(two_programs(registry), registry, memory);
  EXPECT_THROW(runtime.run("dream", {}, nullptr, nullptr), InvalidArgument);
  EXPECT_THROW(runtime.persistent("x"), InvalidArgument);
  EXPECT_THROW(runtime.run(
                   "evaluate", {}, [](ProgramView& view) { view.bytes("h"); }, nullptr),
               InvalidArgument);
  runtime.run("evaluate", {}, nullptr, nullptr);  // what the failed run was granted is free again
}

}  // namespace
}  // namespace thimble::testing
