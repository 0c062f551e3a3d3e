// Sound plans have no finding; the plan's header; how findings are told. The parts of a program have tests of their
// own.
#include "damaged_plan.h"

namespace thimble::testing {
namespace {

TEST(CheckPlan, FindsNothingInSoundPlans) {
  const OpRegistry registry = tiny_registry();
  for (const Cut& cut : {Cut{8}, kHalves, Cut{3, 5}, Cut{1, 1, 1, 1, 1, 1, 1, 1}}) {
    EXPECT_EQ(joined(check_plan(two_programs(registry, cut), registry)), "");
    EXPECT_EQ(joined(check_plan(plan_of(registry, step_graph(registry, diamond(registry)), cut), registry)), "");
  }
}

TEST(CheckPlan, FindsDamageInTheHeader) {
  const char* impossible = "plan: its arena or a persistent tensor has an impossible size, or it has more than 64";
  expect_findings({
      {"no program", "plan: has no program", [](Plan& p) { p.programs.clear(); }},
      {"two of one name", "two programs are named 'train'", [](Plan& p) { p.programs[1].name = "train"; }},
      {"too many programs", impossible, [](Plan& p) { p.programs.resize(65, p.programs[0]); }},
      {"negative arena", impossible, [](Plan& p) { p.arena = Bytes{-64}; }},
      {"huge arena", impossible, [](Plan& p) { p.arena = Bytes{INT64_MAX}; }},
      {"persistent at a huge offset", impossible, [](Plan& p) { p.persistent[0].offset = Offset{INT64_MAX}; }},
      {"persistent of a huge shape", impossible,
       [](Plan& p) {
         p.persistent[0].type.shape = {1 << 30, 1 << 30};
       }},
      {"persistent twice", "two persistent tensors are named 'w2'", [](Plan& p) { p.persistent[0].name = "w2"; }},
      {"other arena", "plan: states an arena of ", [](Plan& p) { p.arena += Bytes{64}; }},
      {"other engine", "plan: made for tiny '2', here it is '1'", [](Plan& p) { p.engines["tiny"] = "2"; }},
      {"absent engine", "plan: made for big '1', here it is 'absent'", [](Plan& p) { p.engines["big"] = "1"; }},
      {"other hash", "plan: its arithmetic hash is ", [](Plan& p) { p.arithmetic_hash[3] = 'x'; }},
  });
}

TEST(CheckPlan, FindsWhatAProgramWithoutStepsCannotGrant) {
  PlanRequest request{
      .model = "", .options = {}, .batch = kBatch, .device = {}, .planner_seed = 0, .budget = {}, .programs = {}};
  request.programs = {{"idle", start().graph, {kBatch}}};
  const std::string findings = joined(check_plan(make_plan(request, tiny_registry()), tiny_registry()));
  EXPECT_NE(findings.find("has no step, but storage 'x' does not persist"), std::string::npos) << findings;
}

TEST(CheckPlan, TellsAtMostTwentyFindings) {
  const OpRegistry registry = tiny_registry();
  Plan plan = two_programs(registry);
  for (Op& broken : plan.programs[0].graph.ops) broken.kind = "warp";
  for (Op& broken : plan.programs[1].graph.ops) broken.inputs = {TensorId{12345}};
  EXPECT_EQ(check_plan(plan, registry).size(), 20U);
}

TEST(CheckPlan, ChecksEveryProgramAndNamesIt) {
  const OpRegistry registry = tiny_registry();
  Plan plan = two_programs(registry);
  plan.programs[0].planned += Bytes{64};
  plan.programs[1].lower_bound += Bytes{64};
  const std::string findings = joined(check_plan(plan, registry));
  EXPECT_NE(findings.find("program 'train': states "), std::string::npos) << findings;
  EXPECT_NE(findings.find("program 'evaluate': states a lower bound"), std::string::npos) << findings;
}

TEST(CheckPlan, TurnsWhatARegisteredFunctionThrowsIntoAFinding) {
  const Plan plan = plan_of(tiny_registry(), step_graph(tiny_registry(), chain(tiny_registry())));
  OpRegistry registry;
  registry.set_engine("tiny", "1");
  for (OpDefinition op : {scale_op(), add_op(), dense_op(), dense_input_gradient_op(), dense_weight_gradient_op(),
                          square_loss_op(), loss_gradient_op(), sgd_op()}) {
    if (op.kind == "dense_weight_gradient")
      op.workspace = [](const OpShape&) -> Bytes { throw std::length_error("too long"); };
    registry.add(op);
  }
  EXPECT_NE(joined(check_plan(plan, registry)).find("too long"), std::string::npos);
}

}  // namespace
}  // namespace thimble::testing
