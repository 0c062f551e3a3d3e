// Properties over random graphs of tiny ops and random cuts.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "run_plan.h"
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

}  // namespace
}  // namespace thimble::testing
