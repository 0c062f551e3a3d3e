// From a forward graph to a training step with an offset for every byte (graph.h, differentiate.h, plan.h, replay.h).
// A plan needs to know what an op gives, not how it is computed: the ops here have no kernels.
#include <cstdio>
#include <string>
#include <tuple>

#include "thimble/differentiate.h"
#include "thimble/replay.h"

using namespace thimble;

namespace {

using Types = std::vector<TensorType>;
using Outputs = std::vector<OutputSpec>;

OpDefinition kind(const char* name, Outputs (*outputs)(const Types&)) {
  OpDefinition op;
  op.kind = name;
  op.infer = [outputs](const Types& inputs, const Attributes&) { return outputs(inputs); };
  return op;
}

OpRegistry ops_without_kernels() {
  OpDefinition linear = kind("linear", [](const Types& in) -> Outputs {  // x{N,I}, w{O,I}, b{O} -> y{N,O}
    return {{"", {DType::f32, {in.at(0).shape.at(0), in.at(1).shape.at(0)}, true}}};
  });
  linear.gradient = [](GradientContext& g) {
    const TensorId dy = g.output_gradient(0);
    if (g.wants_input_gradient(0))
      g.set_input_gradient(0, g.emit("linear_dx", "dx", {dy, g.input(0), g.input(1)}).front());
    const auto d = g.emit("linear_dw_db", "of", {dy, g.input(0), g.input(1), g.input(2)});
    g.set_input_gradient(1, d[0]);
    g.set_input_gradient(2, d[1]);
  };
  OpDefinition loss = kind("loss", [](const Types& in) -> Outputs {
    return {{"", {DType::f32, {1}}, Role::other}, {"dy", in.at(0)}};
  });
  loss.gradient = [](GradientContext& g) { g.set_input_gradient(0, g.output(1)); };
  OpDefinition sgd = kind("sgd", [](const Types& in) -> Outputs {
    return {{"", in.at(0), Role::weight, /*version_of_input=*/0}};
  });
  sgd.once = true;  // it changes the weight: never run twice

  OpRegistry registry;
  for (const OpDefinition& op : {linear, loss, sgd}) registry.add(op);
  registry.add(kind("linear_dx", [](const Types& in) -> Outputs { return {{"", in.at(1)}}; }));
  registry.add(kind("linear_dw_db", [](const Types& in) -> Outputs { return {{"dw", in.at(2)}, {"db", in.at(3)}}; }));
  return registry;
}

}  // namespace

int main() {
  const OpRegistry registry = ops_without_kernels();
  Graph g;
  g.batch = 8;
  TensorId y = g.add_input("x", {DType::f32, {8, 4}, true}, Role::input);
  for (const auto& [name, inputs, outputs] : {std::tuple{"fc1", 4, 16}, std::tuple{"fc2", 16, 2}}) {
    const TensorId w = g.add_input(std::string(name) + ".weight", {DType::f32, {outputs, inputs}}, Role::weight);
    const TensorId b = g.add_input(std::string(name) + ".bias", {DType::f32, {outputs}}, Role::weight);
    y = g.add_op(registry, "linear", name, {y, w, b}).front();
  }
  const TensorId loss = g.add_op(registry, "loss", "loss", {y}).front();
  g.mark_output(loss);

  PlanRequest request;
  request.model = "two layers";
  request.batch = g.batch;
  request.programs = {{"train", differentiate(g, registry, loss, {.kind = "sgd", .state = {}, .attributes = {}}), {8}}};
  const Plan plan = make_plan(request, registry);

  const Program& train = plan.program("train");
  for (const Storage& s : train.schedule.storages)
    std::printf("%-12s steps [%2d, %2d)  bytes [%4lld, %4lld)\n", s.name.c_str(), index(s.lifetime.begin),
                index(s.lifetime.end), static_cast<long long>(s.offset.value),
                static_cast<long long>((s.offset + s.size).value));
  std::printf("arena %s, lower bound %s\n", to_string(plan.arena).c_str(), to_string(train.lower_bound).c_str());

  // Two judges that share no code with the planner: one derives every claim again, one walks the steps without memory.
  const bool is_sound = check_plan(plan, registry).empty();
  const ReplayReport report = replay(plan, registry);
  return is_sound && report.problems.empty() && report.programs.at(0).high_water == train.planned ? 0 : 1;
}
