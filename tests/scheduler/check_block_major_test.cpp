// The checker on programs of several repeats: what passes from one to another, what is given for which, and whole
// batches made over whole batches.
#include "block_graphs.h"
#include "damaged_plan.h"
#include "other_placements.h"

namespace thimble::testing {
namespace {

// Repeats: forward b0; forward b1; forward and backward of the rest; backward b1; backward b0.
const Plan& sound() {
  static const Plan plan = [] {
    const OpRegistry registry = tiny_registry();
    return tower_plan(registry, step_graph(registry, tower(registry, 2)), kHalves, {"b0", "b1"});
  }();
  return plan;
}

void expect_damages(const std::vector<Damage>& damages) {
  EXPECT_EQ(joined(check_plan(sound(), tiny_registry())), "");
  for (const Damage& damage : damages) expect_finding(sound(), damage);
}

ScheduleNode& repeat(Plan& p, std::size_t which) {
  for (ScheduleNode& node : order(p))
    if (node.kind == ScheduleNode::Kind::repeat && which-- == 0) return node;
  throw InvalidArgument("there is no such repeat");
}
Step begin_of(Plan& p, std::size_t which) { return repeat(p, which).body.front().step; }
Step last_of(Plan& p, std::size_t which) { return repeat(p, which).body.back().step; }
ScheduledStep& last_reader(Plan& p, const char* tensor) {
  const auto reads = [&](InstanceId input) {
    return train(p).schedule.instances[input].tensor == train(p).graph.find(tensor);
  };
  std::vector<ScheduledStep>& steps = train(p).schedule.steps;
  for (std::size_t i = steps.size(); i-- > 0;)
    if (std::any_of(steps[i].inputs.begin(), steps[i].inputs.end(), reads)) return steps[i];
  throw InvalidArgument("nobody reads it");
}

// The last instance of a tensor: recomputed, or given for the last repeat.
InstanceId last_instance(Plan& p, const char* name) {
  InstanceId last{-1};
  const auto& instances = train(p).schedule.instances;
  for (std::size_t i = 0; i < instances.size(); ++i)
    if (instances[static_cast<InstanceId>(i)].tensor == train(p).graph.find(name)) last = static_cast<InstanceId>(i);
  return last;
}

// Where a step reads `name`, it reads its first instance.
void read_first(Plan& p, ScheduledStep& step, const char* name) {
  for (InstanceId& input : step.inputs)
    if (train(p).schedule.instances[input].tensor == train(p).graph.find(name)) input = instance_of(train(p), name);
}

TEST(CheckBlockMajor, FindsRepeatsThatAreNotTheCut) {
  expect_damages({
      {"another cut", "the order's ranges are not the microbatches the program states",
       [](Plan& p) {
         repeat(p, 1).ranges = {{0, 2}, {2, 8}};
       }},
      {"cut short", "repeat ends at sample 4 of 8", [](Plan& p) { repeat(p, 3).ranges.pop_back(); }},
      {"no repeat at first", "steps before the first repeat, whose iterations begin with the inputs, are not known",
       [](Plan& p) {
         ScheduleNode& first = repeat(p, 0);
         const ScheduleNode step = first.body.front();
         first.body.erase(first.body.begin());
         order(p).insert(order(p).begin(), step);
       }},
      {"an update inside", "update 'last.w.update' stands inside a repeat",
       [](Plan& p) {
         ScheduleNode& third = repeat(p, 2);
         third.body.push_back({.step = step_of(p, "last.w.update")});
         std::erase_if(order(p), [&](const ScheduleNode& node) {
           return node.kind == ScheduleNode::Kind::step && node.step == step_of(p, "last.w.update");
         });
       }},
  });
}

TEST(CheckBlockMajor, FindsMicrobatchesThatCrossFromRepeatToRepeat) {
  expect_damages({
      {"one microbatch of a value between blocks", "outside the repeat, where it is the last microbatch's",
       [](Plan& p) { instance(p, "b0").whole_batch = false; }},
      {"what was to be made again", "reads 'b0.s' outside the repeat, where it is the last microbatch's",
       [](Plan& p) { read_first(p, step(p, "b0.h.dw"), "b0.s"); }},
      {"input given for another repeat", "reads 'x' outside the repeat, where it is the last microbatch's",
       [](Plan& p) { read_first(p, last_reader(p, "x"), "x"); }},
      {"a gradient that is no sum", "reads 'b1.h.dw' outside the repeat",
       [](Plan& p) { step(p, "b1.w.update").inputs[1] = instance_of(train(p), "b1.h.dw"); }},
      {"a batched value of one microbatch made outside", "is made outside the repeats, but holds one microbatch only",
       [](Plan& p) {
         Program& program = train(p);
         const InstanceId spare = program.schedule.instances.push_back(instance(p, "b0.h"));
         step(p, "last.w.update").outputs.push_back(spare);
       }},
  });
}

TEST(CheckBlockMajor, FindsInputsGivenInTheWrongPlaces) {
  expect_damages({
      {"twice for one repeat", "'x' is given in two places",
       [](Plan& p) { train(p).schedule.instances.push_back(instance(p, "x")); }},
      {"for one repeat and in full", "'x' is given in two places",
       [](Plan& p) { instance(p, "x").whole_batch = true; }},
      {"over what lasts", "whose storage holds 'target'",
       [](Plan& p) {
         instance(p, "target").storage = storage_of(p, "b1");
         storage(p, "b1").name = "target";
       }},
      {"too late", ", is used in [",
       [](Plan& p) {
         Storage& last = train(p).schedule.storages[train(p).schedule.instances[last_instance(p, "x")].storage];
         last.lifetime.begin = Step{index(last.lifetime.begin) + 1};
       }},
  });
}

TEST(CheckBlockMajor, FindsLifetimesThatEndWithinARepeat) {
  expect_damages({
      {"a value between blocks", "storage 'b0' lives in [",
       [](Plan& p) { storage(p, "b0").lifetime.end = last_of(p, 3); }},
      {"a value between blocks, for its first repeat", "storage 'b0' lives in [",
       [](Plan& p) { storage(p, "b0").lifetime.end = Step{index(last_of(p, 0)) + 1}; }},
      {"a sum", "storage 'last.dw.sum' lives in [",
       [](Plan& p) { storage(p, "last.dw.sum").lifetime.begin = step_of(p, "last.dw.sum"); }},
      {"over the border of a later one", "which crosses the border of the repeat [",
       [](Plan& p) {
         storage(p, "b0.h").lifetime = {storage(p, "b0.h").lifetime.begin, Step{index(begin_of(p, 1)) + 1}};
       }},
  });
}

// What a program claims of its live bytes.
void state_live_bytes(Plan& plan) {
  Program& program = plan.programs[0];
  Bytes persistent;
  for (const PersistentTensor& tensor : plan.persistent) persistent += padded(tensor);
  program.lower_bound = Bytes{};
  for (std::int32_t i = 0; i < static_cast<std::int32_t>(program.schedule.steps.size()); ++i) {
    Bytes live = persistent;
    for (const Storage& s : program.schedule.storages)
      if (!s.persistent && s.lifetime.begin <= Step{i} && Step{i} < s.lifetime.end) live += s.size;
    if (live > program.lower_bound) program.peak_step = Step{i};
    program.lower_bound = std::max(program.lower_bound, live);
  }
}

// a = 2 x in a first repeat; `more`, which reads a, in a second.
Plan two_repeats(const std::function<void(Graph&, TensorId)>& more, const OpRegistry& registry = tiny_registry()) {
  auto [g, x] = start();
  const TensorId a = g.add_op(registry, "scale", "a", {x}, {{"factor", 2.0}}).front();
  more(g, a);
  Plan plan = tower_plan(registry, g, kHalves, {});
  ScheduleOptions options{.microbatches = kHalves, .sequence = topological_order(g)};
  const auto steps = static_cast<std::int64_t>(options.sequence.size());
  options.repeats = {{0, 1}, {1, steps}};
  plan.programs[0].schedule = make_schedule(g, registry, {}, options);
  spread_out(plan);
  state_live_bytes(plan);
  return plan;
}

TEST(CheckBlockMajor, AllowsAWholeBatchOverOneThatDiesSampleBySample) {
  const OpRegistry registry = tiny_registry();
  Plan plan = two_repeats([&](Graph& g, TensorId a) {
    g.mark_output(g.add_op(registry, "scale", "b", {a}, {{"factor", 3.0}}).front());
  });
  EXPECT_EQ(storage_of(plan, "a"), storage_of(plan, "b"));
  EXPECT_EQ(joined(check_plan(plan, registry)), "");
  expect_finding(plan, {"one microbatch over the whole batch", "makes 'b' over its input 'a'",
                        [](Plan& p) { instance(p, "b").whole_batch = false; }});
}

TEST(CheckBlockMajor, RefusesAWholeBatchOverOneThatIsReadLater) {
  const OpRegistry registry = tiny_registry();
  Plan plan = two_repeats([&](Graph& g, TensorId a) {
    const TensorId b = g.add_op(registry, "scale", "b", {a}, {{"factor", 3.0}}).front();
    g.mark_output(b);
    g.mark_output(g.add_op(registry, "add", "c", {a, b}).front());
  });
  EXPECT_NE(storage_of(plan, "a"), storage_of(plan, "b"));
  EXPECT_EQ(joined(check_plan(plan, registry)), "");
  expect_finding(plan, {"over what the next step reads", "('c') reads 'a', whose storage holds 'b'",
                        [](Plan& p) { instance(p, "b").storage = storage_of(p, "a"); }});
}

// Its first column and its second, which may lie where the input does: one microbatch's fits, the next begins
// elsewhere.
TEST(CheckBlockMajor, RefusesAWholeBatchOverOneOfOtherSamples) {
  OpRegistry registry = tiny_registry();
  OpDefinition narrow;
  narrow.kind = "narrow";
  narrow.in_place = {{0, 0}};
  narrow.infer = [](const std::vector<TensorType>& types, const Attributes&) {
    TensorType type = types.at(0);
    type.shape.back() = 2;
    return outputs_like(type);
  };
  narrow.make_kernel = kernel([](const OpShape&, const KernelArguments&) {});
  registry.add(narrow);
  Plan plan = two_repeats([&](Graph& g, TensorId a) { g.mark_output(g.add_op(registry, "narrow", "b", {a}).front()); },
                          registry);
  EXPECT_NE(storage_of(plan, "a"), storage_of(plan, "b"));
  EXPECT_EQ(joined(check_plan(plan, registry)), "");
  instance(plan, "b").storage = storage_of(plan, "a");
  EXPECT_NE(joined(check_plan(plan, registry)).find("makes 'b' over its input 'a', which its kind does not allow"),
            std::string::npos);
}

TEST(CheckBlockMajor, FindsWholeBatchesThatAnotherOfOtherSamplesRunsOver) {
  const OpRegistry registry = tiny_registry();
  Plan plan = two_repeats([&](Graph& g, TensorId a) {
    g.mark_output(g.add_op(registry, "dense", "b", {a, weight(g, "w", 2, 3)}).front());
    g.mark_output(g.add_op(registry, "dense", "d", {g.find("x"), weight(g, "v", 4, 3)}).front());
  });
  EXPECT_EQ(joined(check_plan(plan, registry)), "");
  // The first microbatch of `d` takes 64 bytes, that of `a` 48.
  expect_finding(plan, {"over samples that the next iteration reads", "('b') reads 'a', whose storage holds ",
                        [](Plan& p) { instance(p, "d").storage = storage_of(p, "a"); }});
}

}  // namespace
}  // namespace thimble::testing
