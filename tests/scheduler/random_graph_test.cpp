// Properties over random graphs of tiny ops and random cuts.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "run_plan.h"
#include "thimble/live_counter.h"
#include "thimble/recompute.h"
#include "thimble/replay.h"

namespace thimble::testing {
namespace {

Graph random_graph(const OpRegistry& registry) {
  auto [g, x] = start();
  std::vector<TensorId> values{x, g.add_input("z", g.tensors[x].type, Role::input)};
  const TensorId seen = g.add_input("seen", {DType::f32, {1}}, Role::statistic);
  if (*rc::gen::arbitrary<bool>()) g.add_op(registry, "counter", "count", {x, seen});
  const int ops = *rc::gen::inRange(1, 12);
  for (int i = 0; i < ops; ++i) {
    const auto pick = [&] { return values[*rc::gen::inRange<std::size_t>(0, values.size())]; };
    const std::string name = "v" + std::to_string(i);
    const int kind = *rc::gen::inRange(0, 3);
    const TensorId a = pick();
    if (kind == 0) values.push_back(g.add_op(registry, "scale", name, {a}, {{"factor", 0.5}}).front());
    if (kind == 2) values.push_back(g.add_op(registry, "reshape", name, {a}, {{"columns", std::int64_t{3}}}).front());
    if (kind == 1) values.push_back(g.add_op(registry, "add", name, {a, pick()}).front());
    if (g.tensors[values.back()].producer != kNoOp && *rc::gen::inRange(0, 4) == 0) g.mark_output(values.back());
  }
  if (g.tensors[values.back()].producer != kNoOp) g.mark_output(values.back());
  return g;
}

Cut random_cut() {
  Cut cut;
  for (std::int64_t left = kBatch; left > 0; left -= cut.back())
    cut.push_back(*rc::gen::inRange<std::int64_t>(1, left + 1));
  return cut;
}

RC_GTEST_PROP(RandomGraph, IsPlannedSoundlyAndRunsAsItReads, ()) {
  const OpRegistry registry = tiny_registry();
  const Graph graph = random_graph(registry);
  const Plan plan = plan_of(registry, graph, random_cut());
  RC_ASSERT(check_plan(plan, registry) == std::vector<std::string>{});
  RC_ASSERT(replay(plan, registry).problems == std::vector<std::string>{});
  RC_ASSERT(read_plan(write_plan(plan), "p") == plan);
  const Values planned = run_plan(plan, registry), plain = interpret(graph, registry);
  for (const Tensor& tensor : graph.tensors)
    if (tensor.is_output) RC_ASSERT(planned.at(tensor.name) == plain.at(tensor.name));
  Plan turned = plan;
  turn_over(turned);
  RC_ASSERT(run_plan(turned, registry) == planned);
}

// The counter knows the rules of sharing and lifetimes by itself: both have to agree.
RC_GTEST_PROP(RandomGraph, IsCountedAsItIsScheduled, ()) {
  const OpRegistry registry = tiny_registry();
  Graph graph = random_graph(registry);
  const TensorId last = static_cast<TensorId>(graph.tensors.size() - 1);
  if (*rc::gen::arbitrary<bool>() && graph.tensors[last].type == graph.tensors[graph.find("x")].type)
    graph = step_graph(registry, finish(registry, std::move(graph), last));
  ScheduleOptions options{.microbatches = random_cut(), .barrier_before_update = *rc::gen::arbitrary<bool>()};
  if (options.microbatches.size() > 1) graph = accumulate_over_microbatches(graph, registry);
  for (std::size_t i = 0; i < graph.ops.size(); ++i)
    options.workspaces.push_back(Bytes{*rc::gen::inRange<std::int64_t>(0, 300)});
  const RecomputeBasis basis = recompute_basis(graph, registry);
  LiveCounter counter(graph, registry, options);
  for (int round = 0; round < 3; ++round) {  // the counter is used again
    RecomputeRanks ranks = keep_everything(graph);
    for (std::int32_t& rank : ranks) rank = *rc::gen::element<std::int32_t>(0, 1, 2, kWithinBlock, kOnDemand);
    options.sequence = recompute_sequence(graph, basis, ranks);
    const Schedule schedule = make_schedule(graph, registry, {}, options);
    RC_ASSERT(counter.count(options.sequence) == live_by_step(schedule));
    RC_ASSERT(counter.steps().size() == schedule.steps.size());
    for (std::size_t i = 0; i < schedule.steps.size(); ++i) RC_ASSERT(counter.steps()[i] == schedule.steps[i].op);
  }
}

}  // namespace
}  // namespace thimble::testing
