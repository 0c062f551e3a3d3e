#include "thimble/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "recording_device.h"
#include "thimble/planner.h"
#include "tiny_ops.h"

namespace thimble::testing {
namespace {

using ::testing::HasSubstr;

std::vector<PlanRequest> variants_of(const Graph& step, const std::vector<Cut>& cuts) {
  std::vector<PlanRequest> variants;
  for (const Cut& cut : cuts) {
    PlanRequest request{
        .model = "tiny", .options = {}, .batch = kBatch, .device = {}, .planner_seed = 0, .budget = {}, .programs = {}};
    request.programs.push_back({.name = "train", .graph = step, .microbatches = cut});
    variants.push_back(std::move(request));
  }
  return variants;
}

CalibrationPlace place() { return {"cpu", 1, "abacus", {{"tiny", "1"}}}; }

CalibrationTable two_entries() {
  const TensorType x{DType::f32, {8, 3}, true};
  return {place(),
          {{"scale", {{"factor", 0.5}}, {x}, {x}, 0.000125}, {"add", {{"n", std::int64_t{1}}}, {x, x}, {x}, 1e-9}}};
}

std::string refusal_of(const std::string& text, const CalibrationPlace& here) {
  try {
    read_calibration(text, "table.json", here);
  } catch (const BadInput& error) {
    return error.what();
  }
  return "none";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("the test's pattern is not in the table: " + from);
  return text.replace(at, from.size(), to);
}

TEST(CalibrationTable, SurvivesItsFile) {
  const CalibrationTable table = two_entries();
  const CalibrationTable again = read_calibration(write_calibration(table), "table.json", place());
  EXPECT_EQ(again.entries(), table.entries());
  EXPECT_EQ(again.place(), table.place());
  EXPECT_EQ(again.hash(), table.hash());
  EXPECT_EQ(write_calibration(again), write_calibration(table));
}

TEST(CalibrationTable, HashIsOfWhatItSaysNotOfItsOrder) {
  const CalibrationTable table = two_entries();
  std::vector<CalibrationEntry> entries = table.entries();
  std::reverse(entries.begin(), entries.end());
  EXPECT_EQ(CalibrationTable(place(), entries).hash(), table.hash());
  entries[0].seconds *= 2;
  EXPECT_NE(CalibrationTable(place(), entries).hash(), table.hash());
}

TEST(CalibrationTable, KnowsWhatWasMeasuredAndNothingElse) {
  const CalibrationTable table = two_entries();
  OpShape shape{table.entries()[1].inputs, table.entries()[1].outputs, table.entries()[1].attributes, {}};
  EXPECT_EQ(table.seconds("scale", shape), 0.000125);
  EXPECT_EQ(table.seconds("add", shape), std::nullopt);
  shape.device.threads = 2;
  EXPECT_EQ(table.seconds("scale", shape), std::nullopt);
  shape.device.threads = 1;
  shape.inputs[0].shape[0] = 4;
  EXPECT_EQ(table.seconds("scale", shape), std::nullopt);
}

TEST(CalibrationTable, RefusesDamageAndSaysWhere) {
  const std::string text = write_calibration(two_entries());
  struct Damage {
    std::string from, to, says;
  };
  const std::vector<Damage> damages{
      {"\"version\":1", "\"version\":2", "version: is 2, this build reads 1"},
      {"thimble-calibration", "thimble-plan", "format: is not 'thimble-calibration'"},
      {"\"seconds\":0.000125", "\"seconds\":-1.5", "seconds: is -1.5"},
      {"\"seconds\":0.000125", "\"seconds\":0", "seconds: is 0"},
      {"\"seconds\":0.000125", "\"seconds\":null", "seconds: is null"},
      {"\"seconds\":0.000125", "\"seconds\":\"NaN\"", "seconds: is \"NaN\""},
      {"\"seconds\":0.000125", "\"seconds\":NaN", "is not JSON"},
      {"\"seconds\":0.000125", "\"seconds\":1e999", "number overflow"},
      {"\"seconds\":0.000125", "\"seconds\":3601", "takes 3601.0 seconds, outside (0, 3600.0]"},
      {"\"seconds\":0.000125", "\"seconds\":1,\"seconds\":2", "two fields 'seconds'"},
      {"\"kind\":\"add\"", "\"kind\":7", "entries[0].kind: is not a string"},
      {"\"shape\":[8,3]", "\"shape\":[8,-3]", "is -3, outside [1,"},
      {"\"shape\":[8,3]", "\"shape\":[1048576,1048576,1048576]", "more than 2^43 elements"},
      {"\"dtype\":\"f32\"", "\"dtype\":\"f16\"", "f16"},
      {"\"entries\":[", "\"entries\":{}}", "is not JSON"},
      {"\"threads\":1", "\"threads\":0", "threads: is 0, outside [1, 4096]"},
      {"\"threads\":1", "\"threads\":2", "threads: was measured with '2', here it is '1'"},
      {"\"device\":\"cpu\"", "\"device\":\"gpu\"", "device: was measured with 'gpu', here it is 'cpu'"},
      {"\"processor\":\"abacus\"", "\"processor\":\"slide rule\"", "processor: was measured with 'slide rule'"},
      {"{\"tiny\":\"1\"}", "{\"tiny\":\"2\"}", "engines.tiny: was measured with '2', here it is '1'"},
      {"{\"tiny\":\"1\"}", "{}", "engines.tiny: was measured with 'absent'"},
      {"{\"tiny\":\"1\"}", "{\"tiny\":\"1\",\"more\":\"1\"}",
       "engines.more: was measured with '1', here it is 'absent'"},
  };
  for (const auto& damage : damages)
    EXPECT_THAT(refusal_of(replaced(text, damage.from, damage.to), place()), HasSubstr(damage.says)) << damage.to;
  for (std::size_t length = 0; length + 2 < text.size(); ++length)
    EXPECT_NE(refusal_of(text.substr(0, length), place()), "none") << length;
}

TEST(CalibrationTable, RefusesAnOpListedTwice) {
  std::vector<CalibrationEntry> entries = two_entries().entries();
  entries.push_back(entries.front());
  entries.back().seconds = 1;
  EXPECT_THROW(CalibrationTable(place(), entries), InvalidArgument);
  std::string text = write_calibration(two_entries());
  const std::size_t begin = text.find("[{\"kind\"") + 1, end = text.find("},{\"kind\"") + 1;
  text.insert(begin, text.substr(begin, end - begin) + ",");
  EXPECT_THAT(refusal_of(text, place()), HasSubstr("entries[1], 'add', has the attributes and shapes of an earlier"));
}

// An op that takes as long as its attribute says, which its cost hides.
OpDefinition waiting_op(int& made) {
  OpDefinition op;
  op.kind = "wait";
  op.infer = [](const std::vector<TensorType>& types, const Attributes&) { return outputs_like(types.at(0)); };
  op.make_kernel = [&made](const OpShape& shape) -> std::unique_ptr<Kernel> {
    ++made;
    return std::make_unique<FunctionKernel>(shape, [](const OpShape& s, const KernelArguments&) {
      const std::chrono::microseconds length(std::get<std::int64_t>(s.attributes.find("microseconds")->second));
      const auto start = std::chrono::steady_clock::now();
      while (std::chrono::steady_clock::now() - start < length) {
      }
    });
  };
  return op;
}

TEST(Calibrate, PricesAnOpByWhatItTook) {
  int made = 0;
  OpRegistry registry = tiny_registry();
  registry.add(waiting_op(made));
  auto [graph, x] = start();
  for (const char* name : {"a", "b", "c"})
    x = graph.add_op(registry, "wait", name, {x}, {{"microseconds", std::int64_t{name[0] == 'c' ? 3000 : 0}}}).front();
  std::vector<PlanRequest> variants = variants_of(graph, {{8}});
  const auto table = std::make_shared<const CalibrationTable>(calibrate(variants, registry));
  EXPECT_EQ(made, 2) << "a and b have one shape";
  ASSERT_EQ(table->entries().size(), 2U);
  EXPECT_EQ(count_unmeasured(*table, variants, registry), 0U);
  const OpShape quick = shape_of(graph, OpId{0}, 8, {}), slow = shape_of(graph, OpId{2}, 8, {});
  EXPECT_EQ(op_seconds("wait", quick, registry, nullptr), op_seconds("wait", slow, registry, nullptr));
  EXPECT_LT(op_seconds("wait", quick, registry, table.get()), op_seconds("wait", slow, registry, table.get()));
  EXPECT_GE(op_seconds("wait", slow, registry, table.get()), 0.003) << "the op itself looks at the clock";

  variants[0].calibration = table;
  const double sum = 1e3 * (2 * *table->seconds("wait", quick) + *table->seconds("wait", slow));
  EXPECT_DOUBLE_EQ(Frontier(variants, registry).candidates().front().milliseconds, sum);
  const Plan plan = make_plan(variants[0], registry);
  EXPECT_DOUBLE_EQ(program_cost(plan.programs[0], registry, plan.device, table.get()).milliseconds, sum);
}

TEST(Calibrate, MeasuresEachPartOfEachCut) {
  const OpRegistry registry = tiny_registry();
  const Graph step = step_graph(registry, chain(registry));
  const std::vector<PlanRequest> variants = variants_of(step, {{8}, {4, 4}, {3, 3, 2}});
  const CalibrationTable table = calibrate(variants, registry);
  EXPECT_EQ(count_unmeasured(table, variants, registry), 0U);
  EXPECT_GT(count_unmeasured(calibrate(variants_of(step, {{8}}), registry), variants, registry), 0U);
  EXPECT_EQ(table.place(), this_place({}, registry));
  for (std::int64_t part : {8, 4, 3, 2}) EXPECT_TRUE(table.seconds("dense", shape_of(step, OpId{0}, part, {}))) << part;
  EXPECT_THROW(calibrate({}, registry), InvalidArgument);
}

// Recorded, with everything in the device's memory.
TEST(Calibrate, MeasuresOnTheDeviceThatAPlanIsFor) {
  OpRegistry registry = tiny_registry();
  add_recorded_kernels(registry, "recording");
  registry.set_engine("tiny", "1", "recording");
  std::vector<PlanRequest> variants = variants_of(step_graph(registry, chain(registry)), {{8}, {4, 4}});
  for (PlanRequest& variant : variants) variant.device.name = variant.device.backend = "recording";
  RecordingDevice device;
  const CalibrationTable table = calibrate(variants, registry, &device);
  EXPECT_EQ(count_unmeasured(table, variants, registry), 0U);
  EXPECT_EQ(static_cast<std::size_t>(device.captures), 3 * table.entries().size()) << "once in each round";
  EXPECT_EQ(table.place(), this_place(variants[0].device, registry));
  EXPECT_THROW(calibrate(variants, registry), InvalidArgument);
  variants.resize(1);
  variants[0].device = {};
  EXPECT_THROW(calibrate(variants, registry, &device), InvalidArgument);
}

// What a kernel is given looks like what the runtime gives: aligned, its own, and a new version over the old one.
TEST(Calibrate, GivesKernelsHarmlessBuffers) {
  OpRegistry registry;
  OpDefinition op;
  op.kind = "probe";
  op.infer = [](const std::vector<TensorType>& types, const Attributes&) {
    return std::vector<OutputSpec>{{"", types.at(0), Role::activation}, {"new", types.at(1), Role::statistic, 1}};
  };
  op.workspace = [](const OpShape&) { return Bytes{100}; };
  op.fullest = [](const OpShape& s, std::size_t input, std::span<std::int32_t> values) {
    EXPECT_EQ(values.size(), static_cast<std::size_t>(s.inputs[input].shape[0]));
    if (input == 3) std::fill(values.begin(), values.end(), 7);
  };
  int runs = 0;
  op.make_kernel = kernel([&runs](const OpShape& s, const KernelArguments& a) {
    ++runs;
    for (const void* data : {static_cast<const void*>(a.inputs[0]), static_cast<const void*>(a.outputs[0]),
                             static_cast<const void*>(a.workspace)})
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(kAlignment.value), 0U);
    EXPECT_EQ(a.outputs[1], a.inputs[1]);
    EXPECT_NE(a.outputs[0], a.inputs[0]);
    for (std::size_t i = 0; i < count_of(s.inputs[0]); ++i) EXPECT_TRUE(in(a, 0)[i] >= 0.25F && in(a, 0)[i] < 0.75F);
    EXPECT_EQ(*reinterpret_cast<const std::int32_t*>(a.inputs[2]), 0);
    for (int i = 0; i < kBatch; ++i) EXPECT_EQ(reinterpret_cast<const std::int32_t*>(a.inputs[3])[i], 7);
    EXPECT_EQ(a.samples, (HalfOpen{0, 8}));
    EXPECT_FALSE(a.first_microbatch);
    std::memset(a.workspace, 0xFF, 100);
    std::memset(a.outputs[0], 0xFF, count_of(s.outputs[0]) * sizeof(float));
  });
  registry.add(op);
  auto [graph, x] = start();
  const TensorId state = graph.add_input("state", {DType::f32, {1}}, Role::statistic);
  const TensorId labels = graph.add_input("labels", {DType::i32, {kBatch}, true}, Role::input);
  const TensorId lengths = graph.add_input("lengths", {DType::i32, {kBatch}, true}, Role::input);
  graph.add_op(registry, "probe", "probe", {x, state, labels, lengths});
  calibrate(variants_of(graph, {{8}}), registry);
  EXPECT_GE(runs, 2);
}

// x -> dense -> scale(1) -> dense -> scale(2) -> ...: every scale is an entry of its own.
Graph scaled_chain(const OpRegistry& registry, int length) {
  auto [graph, x] = start();
  for (int i = 1; i <= length; ++i) {
    const std::string name = std::to_string(i);
    const TensorId w = weight(graph, ("w" + name).c_str(), 3, 3);
    x = graph.add_op(registry, "dense", "d" + name, {x, w}).front();
    x = graph.add_op(registry, "scale", "s" + name, {x}, {{"factor", 1.0 * i}}).front();
  }
  return step_graph(registry, finish(registry, std::move(graph), x));
}

int recomputations_of(const Program& program, const std::string& op) {
  int count = 0;
  for (const ScheduledStep& step : program.schedule.steps)
    count += step.is_recomputation && program.graph.ops[step.op].name == op ? 1 : 0;
  return count;
}

TEST(Planner, DoesNotRecomputeWhatATableSaysIsDear) {
  const OpRegistry registry = tiny_registry();
  std::vector<PlanRequest> variants = variants_of(scaled_chain(registry, 8), {{8}});
  std::vector<CalibrationEntry> entries = calibrate(variants, registry).entries();
  const auto plans_with = [&](double seconds_of_s3) {
    for (CalibrationEntry& entry : entries) {
      const auto factor = entry.attributes.find("factor");
      entry.seconds = factor != entry.attributes.end() && factor->second == Attribute{3.0} ? seconds_of_s3 : 1e-3;
    }
    for (PlanRequest& variant : variants)
      variant.calibration = std::make_shared<const CalibrationTable>(this_place({}, registry), entries);
    return Frontier(variants, registry);
  };
  const Frontier even = plans_with(1e-3);
  const std::vector<Plan> curve = even.curve(100);
  const auto dropped = std::find_if(curve.begin(), curve.end(),
                                    [](const Plan& plan) { return recomputations_of(plan.programs[0], "s3") > 0; });
  ASSERT_NE(dropped, curve.end()) << "the test has nothing to avoid";
  const PlanOrNo dear = plans_with(0.1).within(dropped->arena);
  ASSERT_TRUE(std::holds_alternative<Plan>(dear));
  EXPECT_EQ(recomputations_of(std::get<Plan>(dear).programs[0], "s3"), 0);
  EXPECT_LE(std::get<Plan>(dear).arena, dropped->arena);
}

TEST(Planner, APlanNamesItsTableButItsArithmeticDoesNot) {
  const OpRegistry registry = tiny_registry();
  std::vector<PlanRequest> variants = variants_of(step_graph(registry, chain(registry)), {{4, 4}});
  const Plan plain = make_plan(variants[0], registry);
  EXPECT_EQ(plain.calibration, std::nullopt);
  variants[0].calibration = std::make_shared<const CalibrationTable>(calibrate(variants, registry));
  const Plan plan = make_plan(variants[0], registry);
  EXPECT_EQ(plan.calibration, variants[0].calibration->hash());
  EXPECT_EQ(plan.arithmetic_hash, plain.arithmetic_hash);
  EXPECT_EQ(read_plan(write_plan(plan), "plan.json"), plan);
  EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
}

}  // namespace
}  // namespace thimble::testing
