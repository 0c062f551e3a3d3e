// Block-major order: other steps, lifetimes and bytes than microbatch-major, the same bits.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "block_graphs.h"
#include "run_plan.h"
#include "thimble/planner.h"
#include "thimble/replay.h"

namespace thimble::testing {
namespace {

using Kind = ScheduleNode::Kind;

const Storage& storage(const Program& program, const char* tensor) {
  return program.schedule.storages[storage_of(program, tensor)];
}

std::vector<HalfOpen> repeats_of(const Program& program) {
  std::vector<HalfOpen> repeats;
  for (const ScheduleNode& node : program.schedule.order)
    if (node.kind == Kind::repeat) repeats.push_back({index(node.body.front().step), index(node.body.back().step) + 1});
  return repeats;
}

// Which repeat each op runs in for the first time; updates: how many repeats came before.
std::map<std::string, std::size_t> repeat_of_ops(const Program& program) {
  std::map<std::string, std::size_t> found;
  std::size_t repeat = 0;
  const auto note = [&](Step step, std::size_t in) {
    found.try_emplace(program.graph.ops[program.schedule.steps[static_cast<std::size_t>(index(step))].op].name, in);
  };
  for (const ScheduleNode& node : program.schedule.order) {
    if (node.kind == Kind::step) note(node.step, repeat);
    for (const ScheduleNode& inner : node.body) note(inner.step, repeat);
    repeat += node.kind == Kind::repeat;
  }
  return found;
}

void expect_sound(const Plan& plan, const OpRegistry& registry) {
  EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
  const ReplayReport report = replay(plan, registry);
  EXPECT_EQ(report.problems, std::vector<std::string>{});
  EXPECT_EQ(report.programs[0].high_water, plan.programs[0].planned);
  EXPECT_EQ(read_plan(write_plan(plan), "p"), plan);
}

TEST(BlockMajor, GivesTheBitsOfMicrobatchMajorOrder) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, tower(registry, 4));
  for (const Cut& cut : {Cut{4, 4}, Cut{3, 5}, Cut{1, 1, 1, 1, 1, 1, 1, 1}}) {
    const Plan plain = tower_plan(registry, step, cut, {});
    const Values expected = run_plan(plain, registry);
    for (const std::vector<const char*>& splits :
         {std::vector{"b1"}, std::vector{"b3"}, std::vector{"b0", "b2"}, std::vector{"b2", "b0", "b1", "b3"}}) {
      const Plan plan = tower_plan(registry, step, cut, splits);
      expect_sound(plan, registry);
      EXPECT_EQ(repeats_of(plan.programs[0]).size(), 2 * splits.size() + 1);
      EXPECT_EQ(plan.arithmetic_hash, plain.arithmetic_hash);
      EXPECT_EQ(run_plan(plan, registry), expected);
    }
  }
}

RC_GTEST_PROP(BlockMajor, AnySplitsAndRanksGiveASoundPlanWithTheSameBits, ()) {
  const OpRegistry registry = tiny_registry();
  const Graph graphs[] = {tower(registry, 5), chain(registry), diamond(registry), with_running_state(registry),
                          translator(registry, 4)};
  const Graph step = step_graph(registry, graphs[*rc::gen::inRange(0, 5)]);
  const Cut cut = *rc::gen::element(Cut{4, 4}, Cut{3, 5}, Cut{1, 6, 1});
  PlanRequest request = tower_request(step, cut, {});
  const Values expected = run_plan(make_plan(request, registry), registry);
  ProgramRequest& program = request.programs[0];
  program.ranks = keep_everything(step);
  for (std::int32_t& rank : program.ranks) rank = *rc::gen::element(0, 1, 2, kWithinBlock, kOnDemand);
  for (TensorId split : loop_splits(step, recompute_basis(step, registry)))
    if (*rc::gen::arbitrary<bool>()) program.splits.push_back({split, *rc::gen::arbitrary<bool>()});
  if (!program.splits.empty()) program.splits.back().rebuilt = false;
  program.barrier_before_update = *rc::gen::arbitrary<bool>();
  const Plan plan = make_plan(request, registry);
  RC_ASSERT(check_plan(plan, registry) == std::vector<std::string>{});
  RC_ASSERT(replay(plan, registry).problems == std::vector<std::string>{});
  RC_ASSERT(run_plan(plan, registry) == expected);
  Plan turned = plan;
  turn_over(turned);
  RC_ASSERT(run_plan(turned, registry) == expected);
}

TEST(BlockMajor, UpdatesABlockRightAfterItsRepeat) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, tower(registry, 2));
  const Program p = tower_plan(registry, step, {4, 4}, {"b0", "b1"}).programs[0];
  const auto repeat = repeat_of_ops(p);
  // Forward 0, 1; forward and backward 2; backward 1, 0.
  for (const auto& [op, in] : std::map<std::string, std::size_t>{{"b0.count", 0},
                                                                 {"b1.count", 1},
                                                                 {"last", 2},
                                                                 {"last.dx", 2},
                                                                 {"last.w.update", 3},
                                                                 {"b1.h.dw", 3},
                                                                 {"b1.w.update", 4},
                                                                 {"b0.h.dw", 4},
                                                                 {"b0.w.update", 5}})
    EXPECT_EQ(repeat.at(op), in) << op;
  const std::vector<HalfOpen> repeats = repeats_of(p);
  for (const auto& [sum, at] : std::map<const char*, std::size_t>{{"last.dw.sum", 2}, {"b1.h.dw.sum", 3}}) {
    EXPECT_EQ(storage(p, sum).lifetime.begin, Step{static_cast<std::int32_t>(repeats[at].begin)}) << sum;
    EXPECT_EQ(storage(p, sum).lifetime.end, Step{static_cast<std::int32_t>(repeats[at].end) + 1}) << sum;
  }
}

TEST(BlockMajor, ABarrierKeepsAllUpdatesBehindTheLastRepeat) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, tower(registry, 2));
  PlanRequest request = tower_request(step, {4, 4}, {"b0", "b1"});
  request.programs[0].barrier_before_update = true;
  const Plan plan = make_plan(request, registry);
  expect_sound(plan, registry);
  for (const auto& [op, in] : repeat_of_ops(plan.programs[0])) EXPECT_EQ(op.ends_with(".update"), in == 5) << op;
  EXPECT_EQ(plan.programs[0].schedule.order[5].kind, Kind::barrier);
}

TEST(BlockMajor, HoldsTheWholeBatchBetweenBlocksAndOneMicrobatchWithin) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, tower(registry, 3));
  const Program p = tower_plan(registry, step, {2, 6}, {"b0", "b1"}).programs[0];
  for (const Instance& instance : p.schedule.instances) {
    const Tensor& tensor = p.graph.tensors[instance.tensor];
    if (!tensor.type.batched || instance.whole_batch) continue;
    const Storage& s = p.schedule.storages[instance.storage];
    EXPECT_LE(s.size,
              align_up(with_samples(tensor.type, 6).shape[0] * Bytes{tensor.type.shape[1] * 4 * 2}, kAlignment));
    std::size_t around = 0;
    for (HalfOpen repeat : repeats_of(p))
      around += repeat.begin <= index(s.lifetime.begin) && index(s.lifetime.end) <= repeat.end;
    EXPECT_EQ(around, 1U) << tensor.name;
  }
  for (const char* name : {"b0", "b1"}) EXPECT_TRUE(p.schedule.instances[instance_of(p, name)].whole_batch) << name;
  for (const char* name : {"b0.h", "b1.s", "b2"})
    EXPECT_FALSE(p.schedule.instances[instance_of(p, name)].whole_batch) << name;
}

TEST(BlockMajor, AGradientOfAWholeBatchLiesWhereAnotherDies) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, tower(registry, 3));
  const Program p = tower_plan(registry, step, {4, 4}, {"b0", "b1"}).programs[0];
  // add(gradient of s, gradient of b1) -> gradient of b0, over the gradient of b1
  const InstanceId b0_gradient = instance_of(p, "b1.s.sum0"), b1_gradient = instance_of(p, "b2.s.sum0");
  ASSERT_NE(b0_gradient, InstanceId{-1});
  ASSERT_NE(b1_gradient, InstanceId{-1});
  EXPECT_TRUE(p.schedule.instances[b0_gradient].whole_batch);
  EXPECT_EQ(p.schedule.instances[b0_gradient].storage, p.schedule.instances[b1_gradient].storage);
}

TEST(BlockMajor, AsksForTheInputsThatARepeatReads) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, tower(registry, 2));
  HostMemory memory;
  Runtime runtime(tower_plan(registry, step, {3, 5}, {"b0", "b1"}), registry, memory, {.poison = true});
  std::vector<std::string> asked;
  const auto fill = [&](ProgramView& view) {
    const HalfOpen samples = view.samples();
    for (const char* name : {"x", "target"})
      if (const auto values = view.as<float>(name); !values.empty()) {
        EXPECT_EQ(values.size(), static_cast<std::size_t>(samples.size() * (*name == 'x' ? 3 : 4)));
        asked.push_back(name + std::to_string(samples.begin) + "-" + std::to_string(samples.end));
      }
    EXPECT_THROW(view.bytes("loss"), InvalidArgument);
  };
  runtime.run("train", {.seed = 1, .step = 0, .learning_rate = 0.125F}, fill, nullptr);
  EXPECT_EQ(asked, (std::vector<std::string>{"x0-3", "x3-8", "target0-3", "target3-8", "x0-3", "x3-8"}));
}

TEST(BlockMajor, MakesAViewOfAnInputAgainInsteadOfHoldingTheInput) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId rows = g.add_op(registry, "reshape", "rows", {x}, {{"columns", std::int64_t{3}}}).front();
  const TensorId a = g.add_op(registry, "dense", "a", {rows, weight(g, "w", 4, 3)}).front();
  const TensorId b = g.add_op(registry, "dense", "b", {a, weight(g, "v", 2, 4)}).front();
  const Graph step = step_graph(registry, finish(registry, std::move(g), b));
  const Plan plan = tower_plan(registry, step, {3, 5}, {"a"});
  expect_sound(plan, registry);
  for (const Instance& instance : plan.programs[0].schedule.instances)
    EXPECT_FALSE(instance.whole_batch && plan.programs[0].graph.tensors[instance.tensor].name == "x");
  EXPECT_EQ(run_plan(plan, registry), run_plan(tower_plan(registry, step, {3, 5}, {}), registry));
}

// Forward through b0 to b2 at once, forward and backward behind b2, b0 and b1 again, backward 3, 2, 1, 0 of the blocks.
TEST(BlockMajor, MakesSplitsThatAreNotHeldAgain) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, tower(registry, 4));
  PlanRequest request = tower_request(step, {3, 5}, {"b0", "b1", "b2"});
  const Plan held = make_plan(request, registry);
  for (std::size_t i : {0, 1}) request.programs[0].splits[i].rebuilt = true;
  const Plan rebuilt = make_plan(request, registry);
  expect_sound(rebuilt, registry);
  EXPECT_EQ(repeats_of(held.programs[0]).size(), 7U);
  EXPECT_EQ(repeats_of(rebuilt.programs[0]).size(), 6U);
  const auto whole_batches = [&](const Plan& plan, const char* name) {
    std::vector<bool> whole;
    for (const Instance& instance : plan.programs[0].schedule.instances)
      if (plan.programs[0].graph.tensors[instance.tensor].name == name) whole.push_back(instance.whole_batch);
    return whole;
  };
  EXPECT_EQ(whole_batches(held, "b1").front(), true);
  EXPECT_EQ(whole_batches(rebuilt, "b1").front(), false);
  EXPECT_EQ(run_plan(rebuilt, registry), run_plan(held, registry));
  request.programs[0].splits[2].rebuilt = true;
  EXPECT_THROW(make_plan(request, registry), InvalidArgument);
}

// What the encoder made passes by every layer of the decoder; its gradient is one whole batch that all of them add to.
TEST(BlockMajor, SplitsADecoderBesideWhatItsEncoderMade) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, translator(registry, 3));
  std::vector<std::string> names;
  for (TensorId t : loop_splits(step, recompute_basis(step, registry))) names.push_back(step.tensors[t].name);
  EXPECT_EQ(names, (std::vector<std::string>{"e0", "e1", "begin", "d0.own", "d0", "d1.own", "d1", "d2.own"}));
  const Plan plain = tower_plan(registry, step, {3, 5}, {});
  const Plan plan = tower_plan(registry, step, {3, 5}, {"e1", "d0", "d1"});
  expect_sound(plan, registry);
  EXPECT_EQ(run_plan(plan, registry), run_plan(plain, registry));
  std::set<StorageId> storages;
  std::size_t sums = 0;
  const Schedule& schedule = plan.programs[0].schedule;
  for (const Instance& instance : schedule.instances) {
    const std::string& name = plan.programs[0].graph.tensors[instance.tensor].name;
    const bool is_sum = name.find(".key.sum") != std::string::npos || name.find(".value.sum") != std::string::npos;
    if (!instance.whole_batch || !is_sum) continue;
    storages.insert(instance.storage);
    ++sums;
  }
  EXPECT_EQ(storages.size(), 1U);
  EXPECT_GT(sums, 1U);
}

TEST(BlockMajor, KnowsWhereTheLoopMayBeSplit) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, tower(registry, 3));
  std::vector<std::string> names;
  for (TensorId t : loop_splits(step, recompute_basis(step, registry))) names.push_back(step.tensors[t].name);
  EXPECT_EQ(names, (std::vector<std::string>{"b0.h", "b0", "b1", "b2"}));
  EXPECT_THROW(tower_plan(registry, step, {4, 4}, {"x"}), InvalidArgument);
}

// Two blocks that share a weight: its gradient is a sum over both, complete when the first has gone backwards.
TEST(BlockMajor, DoesNotPartBlocksThatShareAWeight) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId w = weight(g, "w", 3, 3), v = weight(g, "v", 3, 3);
  for (const char* name : {"a", "b", "c"}) x = g.add_op(registry, "dense", name, {x, *name == 'b' ? v : w}).front();
  const Graph step = step_graph(registry, finish(registry, std::move(g), x));
  const RecomputeBasis basis = recompute_basis(step, registry);
  for (TensorId split : loop_splits(step, basis)) {
    PlanRequest request = tower_request(step, {4, 4}, {});
    request.programs[0].splits = {{.value = split}};
    expect_sound(make_plan(request, registry), registry);
  }
}

TEST(BlockMajor, RepeatsThatCannotBeAreRefused) {
  const OpRegistry registry = tiny_registry();
  const Graph step = accumulate_over_microbatches(step_graph(registry, tower(registry, 1)), registry);
  ScheduleOptions options{.microbatches = {4, 4}, .sequence = topological_order(step)};
  const auto steps = static_cast<std::int64_t>(options.sequence.size());
  for (const auto& repeats :
       {std::vector<HalfOpen>{{1, 2}}, {{0, steps}}, {{0, 2}, {1, 3}}, {{0, steps + 1}}, {{0, 0}}}) {
    options.repeats = repeats;
    EXPECT_THROW(make_schedule(step, registry, {}, options), InvalidArgument) << repeats.back().end;
  }
}

// A wide net on few samples: sums of gradients are most of its bytes.
Graph wide_tower(const OpRegistry& registry) {
  constexpr std::int64_t kColumns = 64;
  Graph g;
  g.batch = kBatch;
  TensorId x = g.add_input("x", {DType::f32, {kBatch, kColumns}, true}, Role::input);
  for (int i = 0; i < 5; ++i) {
    const std::string name = "l" + std::to_string(i);
    x = g.add_op(registry, "dense", name, {x, weight(g, (name + ".w").c_str(), kColumns, kColumns)}).front();
  }
  return finish(registry, std::move(g), x);
}

TEST(BlockMajor, IsOfferedWhereItTakesFewerBytes) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, wide_tower(registry));
  const PlanRequest request = tower_request(step, {2, 2, 2, 2}, {});
  const Frontier plain({request}, registry), either({request}, registry, {.loops = LoopOrder::either});
  const Frontier block({request}, registry, {.loops = LoopOrder::block});
  const auto smallest = [](const Frontier& frontier) {
    return std::get<DoesNotFit>(frontier.within(Bytes{1})).smallest;
  };
  const Plan least = smallest(either);
  EXPECT_GT(repeats_of(least.programs[0]).size(), 3U);
  EXPECT_LT(least.arena + Bytes{3 * 64 * 64 * 4}, smallest(plain).arena);
  EXPECT_EQ(smallest(block).arena, least.arena);
  for (const Candidate& candidate : block.candidates()) EXPECT_FALSE(candidate.splits.empty());
  for (const Candidate& candidate : plain.candidates()) EXPECT_TRUE(candidate.splits.empty());
  for (const Candidate& candidate : either.candidates()) {
    const Plan plan = either.plan(candidate);
    const std::vector<Bytes> live = live_by_step(plan.programs[0].schedule);
    EXPECT_EQ(*std::max_element(live.begin(), live.end()), candidate.live);
    EXPECT_NEAR(program_cost(plan.programs[0], registry, plan.device).milliseconds, candidate.milliseconds, 1e-9);
  }
}

}  // namespace
}  // namespace thimble::testing
