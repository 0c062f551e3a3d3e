// An op of your own: output types, gradient rule, kernel; then differentiated, planned and run (op_registry.h).
#include <cstdio>
#include <memory>

#include "thimble/differentiate.h"
#include "thimble/runtime.h"

using namespace thimble;

namespace {

// y = factor x. A kernel is prepared once for its shapes; `run` allocates nothing.
class ScaleKernel final : public Kernel {
 public:
  explicit ScaleKernel(const OpShape& s)
      : count_(element_count(s.outputs[0])), factor_(static_cast<float>(real_attribute(s.attributes, "factor"))) {}
  void run(const KernelArguments& a) override {
    const auto* x = reinterpret_cast<const float*>(a.inputs[0]);
    auto* y = reinterpret_cast<float*>(a.outputs[0]);
    for (std::int64_t i = 0; i < count_; ++i) y[i] = factor_ * x[i];
  }

 private:
  std::int64_t count_;
  float factor_;
};

// loss = x^2 / 2 of one value
class HalfSquareKernel final : public Kernel {
 public:
  void run(const KernelArguments& a) override {
    const float x = *reinterpret_cast<const float*>(a.inputs[0]);
    *reinterpret_cast<float*>(a.outputs[0]) = x * x / 2;
  }
};

OpRegistry own_ops() {
  OpDefinition scale, half_square;
  scale.kind = "scale";
  scale.infer = [](const std::vector<TensorType>& in, const Attributes&) { return outputs_like(in.at(0)); };
  scale.gradient = [](GradientContext& g) {  // dx = factor dy: the same op once more
    g.set_input_gradient(0, g.emit("scale", "dx", {g.output_gradient(0)}, g.op().attributes).front());
  };
  scale.make_kernel = [](const OpShape& s) { return std::make_unique<ScaleKernel>(s); };

  half_square.kind = "half_square";
  half_square.infer = [](const std::vector<TensorType>& in, const Attributes&) { return outputs_like(in.at(0)); };
  half_square.gradient = [](GradientContext& g) { g.set_input_gradient(0, g.input(0)); };  // dx = x: no op at all
  half_square.make_kernel = [](const OpShape&) { return std::make_unique<HalfSquareKernel>(); };

  OpRegistry registry;
  registry.add(scale);
  registry.add(half_square);
  return registry;
}

}  // namespace

int main() {
  const OpRegistry registry = own_ops();
  Graph graph;
  graph.batch = 1;
  const TensorId w = graph.add_input("w", {DType::f32, {1}}, Role::weight);
  const TensorId y = graph.add_op(registry, "scale", "y", {w}, {{"factor", 3.0}}).front();
  const TensorId loss = graph.add_op(registry, "half_square", "loss", {y}).front();
  graph.mark_output(loss);

  PlanRequest request;
  request.model = "scale";
  request.batch = graph.batch;
  request.programs = {{"gradient", differentiate(graph, registry, loss), {1}}};
  HostMemory memory;
  Runtime runtime(make_plan(request, registry), registry, memory);
  *reinterpret_cast<float*>(runtime.persistent("w").data()) = 4;

  float value = 0, gradient = 0;
  runtime.run("gradient", {}, nullptr, [&](ProgramView& outputs) {
    value = outputs.as<float>("loss")[0];
    gradient = outputs.as<float>("y.dx")[0];
  });
  std::printf("loss (3 w)^2 / 2 at w = 4: %g, its gradient 9 w: %g\n", static_cast<double>(value),
              static_cast<double>(gradient));
  return value == 72 && gradient == 36 ? 0 : 1;
}
