#include <gtest/gtest.h>

#include "run_plan.h"

namespace thimble::testing {
namespace {

Program program_of(const Graph& graph, Cut cut = {kBatch}) {
  return plan_of(tiny_registry(), graph, std::move(cut)).programs[0];
}

const Storage& storage(const Program& program, std::string_view tensor) {
  return program.schedule.storages[storage_of(program, tensor)];
}

TEST(Schedule, RunsInPlaceWhereTheInputDies) {
  const OpRegistry registry = tiny_registry();
  const Program p = program_of(chain(registry));
  EXPECT_EQ(storage_of(p, "s"), storage_of(p, "h"));
}

TEST(Schedule, KeepsAnInputThatIsReadLater) {
  const OpRegistry registry = tiny_registry();
  const Program p = program_of(diamond(registry));
  EXPECT_NE(storage_of(p, "a"), storage_of(p, "h"));
}

TEST(Schedule, KeepsAnInputThatTheCallerReadsAfterTheLastStep) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId a = g.add_op(registry, "scale", "a", {x}, {{"factor", 2.0}}).front();
  const TensorId b = g.add_op(registry, "scale", "b", {a}, {{"factor", 2.0}}).front();
  g.mark_output(a);
  g.mark_output(b);
  const Program p = program_of(g);
  EXPECT_NE(storage_of(p, "a"), storage_of(p, "b"));
  EXPECT_EQ(run_plan(plan_of(registry, g), registry).at("a"), interpret(g, registry).at("a"));
}

TEST(Schedule, DoesNotOverwriteAnInputReadTwiceByOneOp) {
  const OpRegistry registry = tiny_registry();
  for (const bool through_view : {false, true}) {
    auto [g, x] = start();
    const TensorId a = g.add_op(registry, "scale", "a", {x}, {{"factor", 2.0}}).front();
    TensorId other = a;
    if (through_view) other = g.add_op(registry, "reshape", "same", {a}, {{"columns", std::int64_t{3}}}).front();
    g.mark_output(g.add_op(registry, "add", "twice", {a, other}).front());
    const Program p = program_of(g);
    EXPECT_NE(storage_of(p, "a"), storage_of(p, "twice")) << through_view;
  }
}

TEST(Schedule, AViewKeepsTheBytesItLooksAt) {
  const OpRegistry registry = tiny_registry();
  const Program p = program_of(step_graph(registry, with_running_state(registry)));
  EXPECT_EQ(storage_of(p, "tall"), storage_of(p, "h"));
  EXPECT_GE(storage(p, "flat").lifetime.end, Step{index(step_of(p, "y.dw")) + 1});
}

TEST(Schedule, AWeightIsReadThroughItsViewBeforeItsUpdate) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId seen = g.add_input("seen", {DType::f32, {1}}, Role::statistic);
  const TensorId view = g.add_op(registry, "reshape", "view", {seen}, {{"columns", std::int64_t{1}}}).front();
  g.add_op(registry, "counter", "count", {x, seen});
  g.mark_output(g.add_op(registry, "scale", "late", {view}, {{"factor", 2.0}}).front());
  const Plan plan = plan_of(registry, g);
  EXPECT_LT(step_of(plan.programs[0], "late"), step_of(plan.programs[0], "count"));
  EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
}

TEST(Schedule, UpdatesRightAfterTheGradientUnlessTheBatchIsCut) {
  const OpRegistry registry = tiny_registry();
  const Graph g = step_graph(registry, chain(registry));
  const Program whole = program_of(g), cut = program_of(g, {4, 4});
  EXPECT_LT(step_of(whole, "w2.update"), step_of(whole, "h.dw"));
  ASSERT_EQ(cut.schedule.order.size(), 3U);  // the repeat, two updates
  EXPECT_EQ(cut.schedule.order[0].kind, ScheduleNode::Kind::repeat);
  EXPECT_EQ(cut.schedule.order[0].ranges, (std::vector<HalfOpen>{{0, 4}, {4, 8}}));
  EXPECT_GT(step_of(cut, "w2.update"), step_of(cut, "h.dw"));
}

TEST(Schedule, ABarrierStandsBetweenGradientsAndUpdates) {
  const OpRegistry registry = tiny_registry();
  const Graph g = step_graph(registry, chain(registry));
  const Schedule s = make_schedule(g, registry, {}, {{kBatch}, true});
  std::size_t barrier = 0;
  while (s.order[barrier].kind != ScheduleNode::Kind::barrier) ++barrier;
  for (std::size_t i = 0; i < s.order.size(); ++i) {
    if (i == barrier) continue;
    const bool is_update = g.ops[s.steps[static_cast<std::size_t>(index(s.order[i].step))].op].phase == Phase::update;
    EXPECT_EQ(is_update, i > barrier);
  }
}

TEST(Schedule, SumsLiveForTheWholeRepeat) {
  const OpRegistry registry = tiny_registry();
  const Program p = program_of(step_graph(registry, chain(registry)), {3, 5});
  const auto end = static_cast<std::int32_t>(p.schedule.order[0].body.size());
  for (const char* sum : {"loss", "h.dw.sum", "y.dw.sum"}) {
    EXPECT_EQ(storage(p, sum).lifetime.begin, Step{0}) << sum;
    EXPECT_GE(storage(p, sum).lifetime.end, Step{end}) << sum;
  }
}

TEST(Schedule, InputsHoldTheLargestMicrobatchUntilTheirLastReader) {
  const OpRegistry registry = tiny_registry();
  const Program p = program_of(step_graph(registry, chain(registry)), {3, 5});
  for (const char* name : {"x", "target", "h"})
    EXPECT_FALSE(p.schedule.instances[instance_of(p, name)].whole_batch) << name;
  EXPECT_EQ(storage(p, "x").size, align_up(Bytes{5 * 3 * 4}, kAlignment));
  EXPECT_EQ(storage(p, "h").size, align_up(Bytes{5 * 4 * 4}, kAlignment));
  EXPECT_EQ(storage(p, "x").lifetime, (Lifetime{Step{0}, Step{index(step_of(p, "h.dw")) + 1}}));
  EXPECT_EQ(storage(p, "target").lifetime, (Lifetime{Step{0}, Step{index(step_of(p, "loss")) + 1}}));
}

TEST(Schedule, InputsThatTheCallerReadsThroughAViewHoldTheWholeBatch) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  g.mark_output(g.add_op(registry, "reshape", "rows", {x}, {{"columns", std::int64_t{1}}}).front());
  const Program p = program_of(g, {3, 5});
  EXPECT_TRUE(p.schedule.instances[instance_of(p, "x")].whole_batch);
  EXPECT_EQ(storage(p, "x").size, align_up(Bytes{8 * 3 * 4}, kAlignment));
}

TEST(Schedule, WithoutACutInputsHoldTheWholeBatch) {
  const OpRegistry registry = tiny_registry();
  const Program p = program_of(step_graph(registry, chain(registry)));
  EXPECT_TRUE(p.schedule.instances[instance_of(p, "x")].whole_batch);
  EXPECT_EQ(storage(p, "x").size, align_up(Bytes{8 * 3 * 4}, kAlignment));
  EXPECT_EQ(storage(p, "x").lifetime, (Lifetime{Step{0}, Step{index(step_of(p, "h.dw")) + 1}}));
}

TEST(Schedule, RefusesACutThatIsNotTheBatch) {
  const OpRegistry registry = tiny_registry();
  EXPECT_THROW(program_of(chain(registry), {3, 4}), InvalidArgument);
  EXPECT_THROW(program_of(chain(registry), {8, 0}), InvalidArgument);
}

}  // namespace
}  // namespace thimble::testing
