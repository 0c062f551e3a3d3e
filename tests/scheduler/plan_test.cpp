#include <gtest/gtest.h>

#include "run_plan.h"

namespace thimble::testing {
namespace {

TEST(Plan, PersistentTensorsLieAtTheSameOffsetsInEveryProgram) {
  const Plan plan = two_programs(tiny_registry());
  std::size_t shared = 0;
  for (const PersistentTensor& tensor : plan.persistent)
    for (const Program& program : plan.programs)
      for (const Storage& storage : program.schedule.storages)
        if (storage.name == tensor.name) shared += storage.offset == tensor.offset ? 1U : 100U;
  EXPECT_EQ(shared, 7U);  // w1, w2, two momenta, seen; w1 and w2 again
}

TEST(Plan, TheArenaIsThatOfTheLargestProgram) {
  const Plan plan = two_programs(tiny_registry());
  EXPECT_EQ(plan.arena, std::max(plan.programs[0].planned, plan.programs[1].planned));
  EXPECT_EQ(&peak_program(plan), &plan.programs[0]);
  for (const Program& program : plan.programs) EXPECT_GE(program.planned, program.lower_bound);
}

TEST(Plan, RolesSumToTheLiveBytesAtThePeak) {
  for (const Cut& cut : {Cut{8}, Cut{3, 5}}) {
    const Plan plan = two_programs(tiny_registry(), cut);
    for (const Program& program : plan.programs) {
      Bytes sum;
      for (Bytes bytes : bytes_by_role(plan, program, program.peak_step)) sum += bytes;
      EXPECT_EQ(sum, program.lower_bound);
    }
  }
}

TEST(Plan, TheHashIsOfWhatDecidesBits) {
  const OpRegistry registry = tiny_registry();
  const Graph g = step_graph(registry, chain(registry));
  const Plan plan = plan_of(registry, g);
  EXPECT_EQ(plan.arithmetic_hash.size(), 32U);
  EXPECT_EQ(plan_of(registry, g, {8}, 2).arithmetic_hash, plan.arithmetic_hash);
  EXPECT_NE(plan_of(registry, g, {4, 4}).arithmetic_hash, plan.arithmetic_hash);
  Plan turned = plan;
  turn_over(turned);
  EXPECT_EQ(arithmetic_hash(turned), plan.arithmetic_hash);
  OpRegistry other = tiny_registry();
  other.set_engine("tiny", "2");
  EXPECT_NE(plan_of(other, g).arithmetic_hash, plan.arithmetic_hash);
}

TEST(Plan, ComesBackFromJsonAsItWas) {
  const OpRegistry registry = tiny_registry();
  for (const Cut& cut : {Cut{8}, Cut{4, 4}, Cut{3, 5}}) {
    const Plan plan = two_programs(registry, cut);
    const std::string text = write_plan(plan);
    EXPECT_EQ(read_plan(text, "p"), plan);
    EXPECT_EQ(write_plan(two_programs(registry, cut)), text);
  }
}

TEST(Plan, HandsStateFromOneProgramToTheNext) {
  const OpRegistry registry = tiny_registry();
  const auto with_memory = [](Graph& g) { return g.add_input("memory", {DType::f32, {3}}, Role::state); };
  auto [writer, x] = start();
  writer.add_op(registry, "keep", "kept", {x, with_memory(writer)});
  Graph reader{.tensors = {}, .ops = {}, .batch = kBatch};
  reader.mark_output(reader.add_op(registry, "scale", "read", {with_memory(reader)}, {{"factor", 2.0}}).front());
  PlanRequest request{
      .model = "", .options = {}, .batch = kBatch, .device = {}, .planner_seed = 0, .budget = {}, .programs = {}};
  request.programs = {{"write", writer, {kBatch}}, {"read", reader, {kBatch}}};
  const Plan plan = make_plan(request, registry);
  EXPECT_EQ(plan.persistent.at(0).role, Role::state);
  EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
  EXPECT_EQ(read_plan(write_plan(plan), "p"), plan);
  HostMemory memory;
  Runtime runtime(plan, registry, memory, {.poison = true, .canaries = true});
  run_once(runtime, "write");
  std::vector<float> expected;
  for (std::size_t i = 0; i < 3; ++i) expected.push_back(2 * value_of("x", i));
  EXPECT_EQ(run_once(runtime, "read").at("read"), expected);
}

TEST(Plan, NamesTheProgramsThereAre) {
  const Plan plan = two_programs(tiny_registry());
  try {
    plan.program("generate");
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("'train', 'evaluate'"), std::string::npos);
  }
}

TEST(Plan, RefusesAPersistentTensorOfTwoTypes) {
  const OpRegistry registry = tiny_registry();
  Graph other = chain(registry);
  other.tensors[other.find("w1")].type.shape = {5, 3};
  PlanRequest request{
      .model = "", .options = {}, .batch = kBatch, .device = {}, .planner_seed = 0, .budget = {}, .programs = {}};
  request.programs = {{"a", chain(registry), {8}}, {"b", other, {8}}};
  try {
    make_plan(request, registry);
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("'w1'"), std::string::npos);
  }
}

TEST(Plan, CountsTwoFlopsPerMultiplyAdd) {
  const OpRegistry registry = tiny_registry();
  const Plan plan = plan_of(registry, chain(registry));
  EXPECT_DOUBLE_EQ(program_cost(plan.programs[0], registry, plan.device).flops, 2.0 * 8 * (4 * 3 + 2 * 4));
}

}  // namespace
}  // namespace thimble::testing
