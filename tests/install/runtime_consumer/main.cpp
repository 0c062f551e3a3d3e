// Uses thimble::runtime alone: an op of its own, planned and run in one arena.
#include <cstdio>
#include <memory>

#include "thimble/memory.h"
#include "thimble/plan.h"
#include "thimble/runtime.h"

namespace {

using namespace thimble;

class DoubleKernel final : public Kernel {
 public:
  explicit DoubleKernel(const OpShape& shape) : count_(shape.inputs.at(0).shape.at(0)) {}
  void run(const KernelArguments& arguments) override {
    const auto* x = reinterpret_cast<const float*>(arguments.inputs[0]);
    auto* y = reinterpret_cast<float*>(arguments.outputs[0]);
    for (std::int64_t i = 0; i < count_; ++i) y[i] = 2 * x[i];
  }

 private:
  std::int64_t count_;
};

}  // namespace

int main() {
  OpRegistry registry;
  OpDefinition twice;
  twice.kind = "twice";
  twice.infer = [](const std::vector<TensorType>& in, const Attributes&) { return outputs_like(in.at(0)); };
  twice.make_kernel = [](const OpShape& shape) { return std::make_unique<DoubleKernel>(shape); };
  registry.add(twice);

  Graph graph;
  graph.batch = 4;
  const TensorId x = graph.add_input("x", {DType::f32, {4}, true}, Role::input);
  graph.mark_output(graph.add_op(registry, "twice", "y", {x}).front());

  PlanRequest request;
  request.model = "twice";
  request.batch = 4;
  request.programs = {{"forward", graph, {4}}};
  HostMemory memory;
  Runtime runtime(make_plan(request, registry), registry, memory);
  float last = 0;
  runtime.run(
      "forward", {},
      [](ProgramView& in) {
        for (float& value : in.as<float>("x")) value = 21;
      },
      [&](ProgramView& out) { last = out.as<float>("y")[3]; });
  std::printf("%g\n", static_cast<double>(last));
  return last == 42 ? 0 : 1;
}
