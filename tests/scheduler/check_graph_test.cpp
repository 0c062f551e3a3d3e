// The checker on ids, on the graph against the registry, and on steps against ops.
#include "damaged_plan.h"

namespace thimble::testing {
namespace {

TEST(CheckIds, RefusesImpossibleGraphs) {
  const char* shape = "tensor 'h' has an impossible shape or version";
  const char* absent = "op 'h' names a tensor that is not there";
  expect_findings({
      {"negative batch", "has a batch of -1", [](Plan& p) { train(p).graph.batch = -1; }},
      {"huge batch", "has a batch of 1073741825", [](Plan& p) { train(p).graph.batch = (1 << 30) + 1; }},
      {"no element", shape, [](Plan& p) { tensor(p, "h").type.shape[1] = 0; }},
      {"more elements than fit", shape,
       [](Plan& p) {
         tensor(p, "h").type.shape = {1LL << 40, 1LL << 40};
       }},
      {"samples of a scalar", shape, [](Plan& p) { tensor(p, "h").type.shape = {}; }},
      {"version of nothing", shape, [](Plan& p) { tensor(p, "h").version_of = TensorId{999}; }},
      {"absent input", absent, [](Plan& p) { op(p, "h").inputs[0] = TensorId{999}; }},
      {"absent output", absent, [](Plan& p) { op(p, "h").outputs[0] = TensorId{-7}; }},
  });
}

TEST(CheckIds, RefusesImpossibleSchedules) {
  const char* instance_of_nothing = "an instance names a tensor or storage that is not there";
  const char* size = "storage 'x' has an impossible size or offset";
  const char* lifetime = "storage 'x' has an impossible lifetime";
  const char* step_of_nothing = "step 0 names an op, instance or storage that is not there";
  expect_findings({
      {"absent tensor", instance_of_nothing, [](Plan& p) { instance(p, "h").tensor = TensorId{-1}; }},
      {"absent storage", instance_of_nothing, [](Plan& p) { instance(p, "h").storage = StorageId{999}; }},
      {"negative size", size, [](Plan& p) { storage(p, "x").size = Bytes{-64}; }},
      {"huge size", size, [](Plan& p) { storage(p, "x").size = Bytes{INT64_MAX / 64 * 64}; }},
      {"negative offset", size, [](Plan& p) { storage(p, "x").offset = Offset{-64}; }},
      {"huge offset", size, [](Plan& p) { storage(p, "x").offset = Offset{INT64_MAX / 64 * 64}; }},
      {"before the program", lifetime, [](Plan& p) { storage(p, "x").lifetime.begin = Step{-1}; }},
      {"beyond the program", lifetime, [](Plan& p) { storage(p, "x").lifetime.end = Step{1000}; }},
      {"backwards", lifetime,
       [](Plan& p) {
         storage(p, "x").lifetime = {Step{3}, Step{2}};
       }},
      {"absent op", step_of_nothing, [](Plan& p) { train(p).schedule.steps[0].op = OpId{999}; }},
      {"absent input", step_of_nothing, [](Plan& p) { train(p).schedule.steps[0].inputs[0] = InstanceId{-7}; }},
      {"absent output", step_of_nothing, [](Plan& p) { train(p).schedule.steps[0].outputs[0] = InstanceId{999}; }},
      {"absent workspace", step_of_nothing, [](Plan& p) { train(p).schedule.steps[0].workspace = StorageId{999}; }},
  });
}

TEST(CheckGraph, FindsTensorsThatAreNotWhatTheirOpsMake) {
  expect_findings({
      {"two of one name", "two tensors are named 'h'", [](Plan& p) { tensor(p, "y").name = "h"; }},
      {"given as a version", "tensor 'x' is given, but a version of another",
       [](Plan& p) { tensor(p, "x").version_of = TensorId{0}; }},
      {"made by no op", "tensor 'h' is not made by the op it names",
       [](Plan& p) { tensor(p, "h").producer = OpId{999}; }},
      {"made by another op", "tensor 'h' is not made by the op it names",
       [](Plan& p) { tensor(p, "h").producer = tensor(p, "y").producer; }},
      {"op that makes a given tensor", "tensor 'x' is not made by op 'h'",
       [](Plan& p) { op(p, "h").outputs[0] = train(p).graph.find("x"); }},
      {"unknown kind", "op 'h' is of unknown kind 'warp'", [](Plan& p) { op(p, "h").kind = "warp"; }},
      {"attribute missing", "op 's': ", [](Plan& p) { op(p, "s").attributes.clear(); }},
      {"one output too many", "op 'loss' has 2 outputs, its kind makes 1",
       [](Plan& p) { op(p, "loss").attributes.clear(); }},
      {"other type", "tensor 'h' has another type than op 'h' makes",
       [](Plan& p) { tensor(p, "h").type.shape[1] = 5; }},
      {"other version", "tensor 'count' is a version of another value than op 'count' makes",
       [](Plan& p) { tensor(p, "count").version_of = kNoTensor; }},
      {"other batch", "tensor 'x' holds 8 samples, the batch has 4",
       [](Plan& p) {
         train(p).graph.batch = 4;
         train(p).microbatches = {4};
       }},
  });
}

TEST(CheckSteps, FindsStepsThatAreNotTheirOps) {
  const char* other_tensors = "does not take the tensors of op 'h'";
  expect_findings({
      {"swapped inputs", other_tensors, [](Plan& p) { std::swap(step(p, "h").inputs[0], step(p, "h").inputs[1]); }},
      {"one input too few", other_tensors, [](Plan& p) { step(p, "h").inputs.pop_back(); }},
      {"another output", other_tensors, [](Plan& p) { step(p, "h").outputs = step(p, "y").outputs; }},
      {"op run twice", "op 'h' runs 2 times", [](Plan& p) { step(p, "count") = step(p, "h"); }},
      {"op never run", "op 'count' runs 0 times", [](Plan& p) { step(p, "count") = step(p, "h"); }},
      {"state recomputed", "op 'count' changes state and is recomputed",
       [](Plan& p) { step(p, "count").is_recomputation = true; }},
      {"update recomputed", "op 'w1.update' changes state and is recomputed",
       [](Plan& p) { step(p, "w1.update").is_recomputation = true; }},
  });
}

TEST(CheckSteps, FindsUpdatesWhereTheyMayNotStand) {
  expect_findings({{"barrier after an update", "update 'w2.update' stands before the barrier",
                    [](Plan& p) { order(p).push_back({.kind = ScheduleNode::Kind::barrier}); }}});
  expect_findings({{"update inside the repeat", "update 'w2.update' stands inside a repeat",
                    [](Plan& p) {
                      order(p)[0].body.push_back(order(p)[1]);
                      order(p).erase(order(p).begin() + 1);
                    }}},
                  kHalves);
}

}  // namespace
}  // namespace thimble::testing
