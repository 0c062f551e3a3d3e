// A sound plan has no finding; every way of damaging it that we could think of has one that names the thing.
#include <gtest/gtest.h>

#include <functional>

#include "run_plan.h"

namespace thimble::testing {
namespace {

struct Damage {
  const char* what;
  const char* named;  // part of a finding
  Cut cut;
  std::function<void(Plan&)> apply;
};

Program& train(Plan& plan) { return plan.programs[0]; }
Storage& storage(Plan& plan, const char* tensor) { return train(plan).schedule.storages[storage_of(train(plan), tensor)]; }
ScheduledStep& step(Plan& plan, const char* op) { return train(plan).schedule.steps[static_cast<std::size_t>(index(step_of(train(plan), op)))]; }
Tensor& tensor(Plan& plan, const char* name) { return train(plan).graph.tensors[train(plan).graph.find(name)]; }
Op& op(Plan& plan, const char* name) { return train(plan).graph.ops[step(plan, name).op]; }
Instance& instance(Plan& plan, const char* name) { return train(plan).schedule.instances[instance_of(train(plan), name)]; }

const Cut kWhole{8}, kHalves{4, 4};

const std::vector<Damage>& damages() {
  static const std::vector<Damage> all{
      {"overlap", "'target'", kWhole, [](Plan& p) { storage(p, "target").offset = storage(p, "x").offset; }},
      {"over a weight", "'w1'", kWhole, [](Plan& p) { storage(p, "x").offset = Offset{}; }},
      {"shrunk", "'x'", kWhole, [](Plan& p) { storage(p, "x").size = Bytes{64}; }},
      {"misaligned", "'x'", kWhole, [](Plan& p) { storage(p, "x").offset = storage(p, "x").offset + Bytes{4}; }},
      {"odd size", "'x'", kWhole, [](Plan& p) { storage(p, "x").size += Bytes{4}; }},
      {"beyond the arena", "'x'", kWhole, [](Plan& p) { storage(p, "x").offset = Offset{} + p.arena; }},
      {"negative offset", "'x'", kWhole, [](Plan& p) { storage(p, "x").offset = Offset{-64}; }},
      {"huge size", "'x'", kWhole, [](Plan& p) { storage(p, "x").size = Bytes{INT64_MAX / 64 * 64}; }},
      {"swapped steps", "'y'", kWhole, [](Plan& p) { std::swap(step(p, "y"), step(p, "loss")); }},
      {"update before an old reader", "'w2", kWhole, [](Plan& p) { std::swap(step(p, "y.dx"), step(p, "w2.update")); }},
      {"state recomputed", "'count'", kWhole, [](Plan& p) { step(p, "count").is_recomputation = true; }},
      {"update recomputed", "'w1.update'", kWhole, [](Plan& p) { step(p, "w1.update").is_recomputation = true; }},
      {"op run twice", "'h'", kWhole, [](Plan& p) { step(p, "count") = step(p, "h"); }},
      {"wrong planned bytes", "highest byte", kWhole, [](Plan& p) { train(p).planned += Bytes{64}; }},
      {"wrong lower bound", "lower bound", kWhole, [](Plan& p) { train(p).lower_bound -= Bytes{64}; }},
      {"wrong peak step", "peak at step", kWhole, [](Plan& p) { train(p).peak_step = Step{index(train(p).peak_step) + 1}; }},
      {"wrong arena", "arena", kWhole, [](Plan& p) { p.arena += Bytes{64}; }},
      {"wrong hash", "hash", kWhole, [](Plan& p) { p.arithmetic_hash[3] = 'x'; }},
      {"other engine", "tiny", kWhole, [](Plan& p) { p.engines["tiny"] = "2"; }},
      {"lifetime cut at its end", "'x'", kWhole, [](Plan& p) { storage(p, "x").lifetime.end = Step{1}; }},
      {"lifetime cut at its begin", "'h'", kWhole, [](Plan& p) { storage(p, "h").lifetime.begin = Step{index(storage(p, "h").lifetime.begin) + 1}; }},
      {"lifetime beyond the program", "'x'", kWhole, [](Plan& p) { storage(p, "x").lifetime.end = Step{1000}; }},
      {"lifetime backwards", "'x'", kWhole, [](Plan& p) { storage(p, "x").lifetime = {Step{3}, Step{2}}; }},
      {"output cut short", "'loss'", kWhole, [](Plan& p) { storage(p, "loss").lifetime.end = Step{index(storage(p, "loss").lifetime.begin) + 1}; }},
      {"persistent moved", "'w1'", kWhole, [](Plan& p) { storage(p, "w1").offset = storage(p, "w2").offset; }},
      {"persistent list moved", "'w1'", kWhole, [](Plan& p) { p.persistent[0].offset = p.persistent[1].offset; }},
      {"persistent renamed", "'w1'", kWhole, [](Plan& p) { p.persistent[0].name = "w9"; }},
      {"persistent twice", "'w2'", kWhole, [](Plan& p) { p.persistent[0].name = "w2"; }},
      {"persistent of another role", "'w1'", kWhole, [](Plan& p) { p.persistent[0].role = Role::statistic; }},
      {"persistent made transient", "'w1'", kWhole, [](Plan& p) { storage(p, "w1").persistent = false; }},
      {"input made persistent", "'x'", kWhole, [](Plan& p) { storage(p, "x").persistent = true; }},
      {"value in a weight's storage", "'s'", kWhole, [](Plan& p) { instance(p, "s").storage = storage_of(train(p), "w1.momentum"); }},
      {"unknown kind", "'warp'", kWhole, [](Plan& p) { op(p, "h").kind = "warp"; }},
      {"attribute missing", "'s'", kWhole, [](Plan& p) { op(p, "s").attributes.clear(); }},
      {"wrong output type", "'h'", kWhole, [](Plan& p) { tensor(p, "h").type.shape[1] = 5; }},
      {"wrong version", "'count'", kWhole, [](Plan& p) { tensor(p, "count").version_of = kNoTensor; }},
      {"given as a version", "'x'", kWhole, [](Plan& p) { tensor(p, "x").version_of = TensorId{0}; }},
      {"other batch", "samples", kWhole, [](Plan& p) { train(p).graph.batch = 4; train(p).microbatches = {4}; }},
      {"overwritten output", "'loss'", kWhole, [](Plan& p) { instance(p, "s").storage = instance(p, "loss").storage; storage(p, "loss").lifetime.begin = Step{0}; std::swap(step(p, "s"), step(p, "count")); }},
      {"in place where not allowed", "'y'", kWhole, [](Plan& p) { instance(p, "y").storage = instance(p, "flat").storage; }},
      {"view elsewhere", "'tall'", kWhole, [](Plan& p) { instance(p, "tall").storage = instance(p, "y").storage; }},
      {"new version elsewhere", "'count'", kWhole, [](Plan& p) { instance(p, "count").storage = instance(p, "y").storage; }},
      {"no workspace", "'h.dw'", kWhole, [](Plan& p) { step(p, "h.dw").workspace = kNoStorage; }},
      {"workspace over an input", "workspace", kWhole, [](Plan& p) { step(p, "h.dw").workspace = storage_of(train(p), "x"); }},
      {"swapped inputs", "'h'", kWhole, [](Plan& p) { std::swap(step(p, "h").inputs[0], step(p, "h").inputs[1]); }},
      {"id that is not there", "step", kWhole, [](Plan& p) { step(p, "h").op = OpId{999}; }},
      {"instance that is not there", "step", kWhole, [](Plan& p) { step(p, "h").inputs[0] = InstanceId{-7}; }},
      {"storage that is not there", "instance", kWhole, [](Plan& p) { instance(p, "h").storage = StorageId{999}; }},
      {"order misses a step", "steps", kWhole, [](Plan& p) { train(p).schedule.order.pop_back(); }},
      {"order out of turn", "belongs", kWhole, [](Plan& p) { std::swap(train(p).schedule.order[0], train(p).schedule.order[1]); }},
      {"no step at all", "no step", kWhole, [](Plan& p) { train(p).schedule.steps.clear(); train(p).schedule.order.clear(); }},
      {"two tensors of one name", "'h'", kWhole, [](Plan& p) { tensor(p, "y").name = "h"; }},
      {"two programs of one name", "'train'", kWhole, [](Plan& p) { p.programs[1].name = "train"; }},
      {"barrier after an update", "barrier", kWhole, [](Plan& p) { train(p).schedule.order.push_back({.kind = ScheduleNode::Kind::barrier}); }},
      {"ranges with a gap", "sample 4", kHalves, [](Plan& p) { train(p).schedule.order[0].ranges[1].begin = 5; }},
      {"ranges cut short", "sample 7", kHalves, [](Plan& p) { train(p).schedule.order[0].ranges[1].end = 7; }},
      {"other microbatches stated", "microbatches", kHalves, [](Plan& p) { train(p).microbatches = {3, 5}; }},
      {"empty repeat", "repeat", kHalves, [](Plan& p) { train(p).schedule.order.insert(train(p).schedule.order.begin(), {.kind = ScheduleNode::Kind::repeat}); }},
      {"nested repeat", "nested", kHalves, [](Plan& p) { const ScheduleNode inner = train(p).schedule.order[0]; train(p).schedule.order[0].body = {inner}; }},
      {"update inside the repeat", "update", kHalves, [](Plan& p) { auto& order = train(p).schedule.order; order[0].body.push_back(order[1]); order.erase(order.begin() + 1); }},
      {"input of one microbatch", "'x'", kHalves, [](Plan& p) { instance(p, "x").whole_batch = false; }},
      {"partial gradient read outside", "outside the repeat", kHalves, [](Plan& p) { auto& nodes = train(p).schedule.order; const auto last = nodes[0].body.back(); nodes[0].body.pop_back(); nodes.insert(nodes.begin() + 1, last); }},
      {"sum released between microbatches", "'loss.sum'", kHalves, [](Plan& p) { storage(p, "loss.sum").lifetime.begin = Step{index(step_of(train(p), "loss.sum"))}; }},
      {"sum overwritten between microbatches", "'loss.sum'", kHalves, [](Plan& p) { instance(p, "h").storage = instance(p, "loss.sum").storage; }},
      {"input overwritten for the next microbatch", "'x'", kHalves, [](Plan& p) { instance(p, "h.dw").storage = instance(p, "x").storage; }},
      {"lifetime across the repeat's border", "border", kHalves, [](Plan& p) { storage(p, "s").lifetime.end = Step{static_cast<std::int32_t>(train(p).schedule.steps.size())}; }},
  };
  return all;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

TEST(CheckPlan, FindsNothingInSoundPlans) {
  const OpRegistry registry = tiny_registry();
  for (const Cut& cut : {kWhole, kHalves, Cut{3, 5}, Cut{1, 1, 1, 1, 1, 1, 1, 1}}) {
    EXPECT_EQ(joined(check_plan(two_programs(registry, cut), registry)), "");
    EXPECT_EQ(joined(check_plan(plan_of(registry, step_graph(registry, diamond(registry)), cut), registry)), "");
  }
}

TEST(CheckPlan, FindsEveryDamageAndNamesTheThing) {
  const OpRegistry registry = tiny_registry();
  for (const Damage& damage : damages()) {
    Plan plan = two_programs(registry, damage.cut);
    damage.apply(plan);
    const std::string findings = joined(check_plan(plan, registry));
    EXPECT_NE(findings.find(damage.named), std::string::npos) << damage.what << ": " << findings;
  }
}

TEST(CheckPlan, FindsDamageInTheSecondProgramAfterTwentyFindings) {
  const OpRegistry registry = tiny_registry();
  Plan plan = two_programs(registry);
  for (Op& broken : plan.programs[0].graph.ops) broken.kind = "warp";
  for (Op& broken : plan.programs[1].graph.ops) broken.inputs = {TensorId{12345}};
  EXPECT_EQ(check_plan(plan, registry).size(), 20U);
}

TEST(CheckPlan, TurnsWhatARegisteredFunctionThrowsIntoAFinding) {
  const Plan plan = plan_of(tiny_registry(), step_graph(tiny_registry(), chain(tiny_registry())));
  OpRegistry registry;
  registry.set_engine("tiny", "1");
  for (OpDefinition op : {scale_op(), add_op(), dense_op(), dense_input_gradient_op(), dense_weight_gradient_op(), square_loss_op(), loss_gradient_op(), sgd_op()}) {
    if (op.kind == "dense_weight_gradient") op.workspace = [](const OpShape&) -> Bytes { throw std::length_error("too long"); };
    registry.add(op);
  }
  EXPECT_NE(joined(check_plan(plan, registry)).find("too long"), std::string::npos);
}

}  // namespace
}  // namespace thimble::testing
