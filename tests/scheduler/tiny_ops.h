// A registry of tiny ops with real kernels on floats, and tiny named graphs: what the scheduler's tests plan and run.
// Header only, so that fuzzers can include it alone.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "thimble/differentiate.h"
#include "thimble/error.h"
#include "thimble/plan.h"

namespace thimble::testing {

/// A kernel from a lambda `(const OpShape&, const KernelArguments&)`.
class FunctionKernel final : public Kernel {
 public:
  using Function = std::function<void(const OpShape&, const KernelArguments&)>;
  FunctionKernel(OpShape shape, Function function) : shape_(std::move(shape)), function_(std::move(function)) {}
  void run(const KernelArguments& arguments) override { function_(shape_, arguments); }

 private:
  OpShape shape_;
  Function function_;
};

inline auto kernel(FunctionKernel::Function function) {
  return [function](const OpShape& shape) -> std::unique_ptr<Kernel> {
    return std::make_unique<FunctionKernel>(shape, function);
  };
}

inline const float* in(const KernelArguments& a, std::size_t i) { return reinterpret_cast<const float*>(a.inputs[i]); }
inline float* out(const KernelArguments& a, std::size_t i) { return reinterpret_cast<float*>(a.outputs[i]); }
inline std::size_t count_of(const TensorType& type) { return static_cast<std::size_t>(element_count(type)); }

inline void require(bool fits, const char* kind) {
  if (!fits) throw InvalidArgument(std::string(kind) + ": its inputs do not fit");
}

inline OpDefinition scale_op() {
  OpDefinition op;
  op.kind = "scale";
  op.in_place = {{0, 0}};
  op.infer = [](const std::vector<TensorType>& types, const Attributes& attributes) {
    require(types.size() == 1 && types[0].dtype == DType::f32, "scale");
    real_attribute(attributes, "factor");
    return outputs_like(types[0]);
  };
  op.gradient = [](GradientContext& g) {
    g.set_input_gradient(0, g.emit("scale", "grad", {g.output_gradient(0)}, g.op().attributes).front());
  };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    const auto factor = static_cast<float>(std::get<double>(s.attributes.find("factor")->second));
    for (std::size_t i = 0; i < count_of(s.outputs[0]); ++i) out(a, 0)[i] = factor * in(a, 0)[i];
  });
  return op;
}

inline OpDefinition add_op() {
  OpDefinition op;
  op.kind = "add";
  op.in_place = {{0, 0}, {1, 0}};
  op.infer = [](const std::vector<TensorType>& types, const Attributes&) {
    require(types.size() == 2 && types[0].dtype == DType::f32 && types[0] == types[1], "add");
    return outputs_like(types[0]);
  };
  op.gradient = [](GradientContext& g) {
    g.set_input_gradient(0, g.output_gradient(0));
    g.set_input_gradient(1, g.output_gradient(0));
  };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    for (std::size_t i = 0; i < count_of(s.outputs[0]); ++i) out(a, 0)[i] = in(a, 0)[i] + in(a, 1)[i];
  });
  return op;
}

/// y{N,O} = x{N,I} w{O,I}^T
inline OpDefinition dense_op() {
  OpDefinition op;
  op.kind = "dense";
  op.infer = [](const std::vector<TensorType>& t, const Attributes&) {
    require(t.size() == 2 && t[0].batched && !t[1].batched && t[0].dtype == DType::f32 && t[1].dtype == DType::f32 &&
                t[0].shape.size() == 2 && t[1].shape.size() == 2 && t[0].shape[1] == t[1].shape[1],
            "dense");
    return outputs_like({DType::f32, {t[0].shape[0], t[1].shape[0]}, true});
  };
  op.gradient = [](GradientContext& g) {
    const TensorId dy = g.output_gradient(0);
    if (g.wants_input_gradient(0))
      g.set_input_gradient(0, g.emit("dense_input_gradient", "dx", {dy, g.input(1)}).front());
    if (g.wants_input_gradient(1))
      g.set_input_gradient(1, g.emit("dense_weight_gradient", "dw", {dy, g.input(0)}).front());
  };
  op.cost = [](const OpShape& s) {
    return OpCost{2.0 * static_cast<double>(element_count(s.outputs[0]) * s.inputs[0].shape[1]), 0};
  };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    const auto n = static_cast<std::size_t>(s.outputs[0].shape[0]), o = static_cast<std::size_t>(s.outputs[0].shape[1]);
    const auto k = static_cast<std::size_t>(s.inputs[0].shape[1]);
    for (std::size_t r = 0; r < n; ++r)
      for (std::size_t c = 0; c < o; ++c) {
        float sum = 0;
        for (std::size_t j = 0; j < k; ++j) sum += in(a, 0)[r * k + j] * in(a, 1)[c * k + j];
        out(a, 0)[r * o + c] = sum;
      }
  });
  return op;
}

inline OpDefinition dense_input_gradient_op() {
  OpDefinition op;
  op.kind = "dense_input_gradient";
  op.infer = [](const std::vector<TensorType>& t, const Attributes&) {
    require(t.size() == 2 && t[0].batched && !t[1].batched && t[0].dtype == DType::f32 && t[1].dtype == DType::f32 &&
                t[0].shape.size() == 2 && t[1].shape.size() == 2 && t[0].shape[1] == t[1].shape[0],
            "dense_input_gradient");
    return outputs_like({DType::f32, {t[0].shape[0], t[1].shape[1]}, true});
  };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    const auto n = static_cast<std::size_t>(s.outputs[0].shape[0]), k = static_cast<std::size_t>(s.outputs[0].shape[1]);
    const auto o = static_cast<std::size_t>(s.inputs[0].shape[1]);
    for (std::size_t r = 0; r < n; ++r)
      for (std::size_t j = 0; j < k; ++j) {
        float sum = 0;
        for (std::size_t c = 0; c < o; ++c) sum += in(a, 0)[r * o + c] * in(a, 1)[c * k + j];
        out(a, 0)[r * k + j] = sum;
      }
  });
  return op;
}

/// dw{O,I} summed over the samples at hand; sums row by row in its workspace of one output.
inline OpDefinition dense_weight_gradient_op() {
  OpDefinition op;
  op.kind = "dense_weight_gradient";
  op.infer = [](const std::vector<TensorType>& t, const Attributes&) {
    require(t.size() == 2 && t[0].batched && t[1].batched && t[0].dtype == DType::f32 && t[1].dtype == DType::f32 &&
                t[0].shape.size() == 2 && t[1].shape.size() == 2,
            "dense_weight_gradient");
    return std::vector<OutputSpec>{{"", {DType::f32, {t[0].shape[1], t[1].shape[1]}}, Role::gradient}};
  };
  op.workspace = [](const OpShape& s) { return bytes_of(s.outputs[0]); };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    const auto n = static_cast<std::size_t>(s.inputs[0].shape[0]), o = static_cast<std::size_t>(s.inputs[0].shape[1]);
    const auto k = static_cast<std::size_t>(s.inputs[1].shape[1]);
    auto* sum = reinterpret_cast<float*>(a.workspace);
    for (std::size_t i = 0; i < o * k; ++i) sum[i] = 0;
    for (std::size_t r = 0; r < n; ++r)
      for (std::size_t c = 0; c < o; ++c)
        for (std::size_t j = 0; j < k; ++j) sum[c * k + j] += in(a, 0)[r * o + c] * in(a, 1)[r * k + j];
    for (std::size_t i = 0; i < o * k; ++i) out(a, 0)[i] = sum[i];
  });
  return op;
}

/// loss{1}: sum over the samples at hand of (x - target)^2 / 2, divided by the step's batch. With the attribute
/// `keep` it also gives its difference for the backward pass.
inline OpDefinition square_loss_op() {
  OpDefinition op;
  op.kind = "square_loss";
  op.infer = [](const std::vector<TensorType>& t, const Attributes& attributes) {
    require(t.size() == 2 && t[0].batched && t[0] == t[1] && t[0].dtype == DType::f32, "square_loss");
    std::vector<OutputSpec> specs{{"", {DType::f32, {1}}, Role::other}};
    if (attributes.count("keep") != 0) specs.push_back({"difference", t[0]});
    return specs;
  };
  op.gradient = [](GradientContext& g) {
    g.change_forward("keep", std::int64_t{1});
    g.set_input_gradient(0, g.emit("loss_gradient", "dx", {g.output(1)}).front());
  };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    float sum = 0;
    for (std::size_t i = 0; i < count_of(s.inputs[0]); ++i) {
      const float difference = in(a, 0)[i] - in(a, 1)[i];
      if (s.outputs.size() > 1) out(a, 1)[i] = difference;
      sum += difference * difference / 2;
    }
    out(a, 0)[0] = sum / static_cast<float>(a.batch);
  });
  return op;
}

inline OpDefinition loss_gradient_op() {
  OpDefinition op;
  op.kind = "loss_gradient";
  op.in_place = {{0, 0}};
  op.infer = [](const std::vector<TensorType>& t, const Attributes&) {
    require(t.size() == 1 && t[0].dtype == DType::f32, "loss_gradient");
    return outputs_like(t[0]);
  };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    for (std::size_t i = 0; i < count_of(s.outputs[0]); ++i) out(a, 0)[i] = in(a, 0)[i] / static_cast<float>(a.batch);
  });
  return op;
}

/// Splits or joins the last dimension: attribute `columns` is the new last extent.
inline OpDefinition reshape_op() {
  OpDefinition op;
  op.kind = "reshape";
  op.view = true;
  op.infer = [](const std::vector<TensorType>& t, const Attributes& attributes) {
    const std::int64_t columns = int_attribute(attributes, "columns");
    require(t.size() == 1 && columns > 0 && t[0].dtype != DType::bit && elements_per_sample(t[0]) % columns == 0,
            "reshape");
    TensorType type{t[0].dtype, {elements_per_sample(t[0]) / columns, columns}, t[0].batched};
    if (t[0].batched) type.shape.insert(type.shape.begin(), t[0].shape[0]);
    if (t[0].batched && type.shape[1] == 1) type.shape.erase(type.shape.begin() + 1);
    return outputs_like(type);
  };
  op.gradient = [](GradientContext& g) {
    g.set_input_gradient(
        0, g.emit("reshape", "grad", {g.output_gradient(0)}, {{"columns", g.type(g.input(0)).shape.back()}}).front());
  };
  return op;
}

/// state{1}' = state + number of samples seen.
inline OpDefinition counter_op() {
  OpDefinition op;
  op.kind = "counter";
  op.once = true;
  op.infer = [](const std::vector<TensorType>& t, const Attributes&) {
    require(t.size() == 2 && t[0].batched && t[1] == TensorType{DType::f32, {1}}, "counter");
    return std::vector<OutputSpec>{{"", t[1], Role::statistic, 1}};
  };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    out(a, 0)[0] = in(a, 1)[0] + static_cast<float>(s.inputs[0].shape[0]);
  });
  return op;
}

/// state{n}' = the first sample of x{*, n}.
inline OpDefinition keep_op() {
  OpDefinition op;
  op.kind = "keep";
  op.once = true;
  op.infer = [](const std::vector<TensorType>& t, const Attributes&) {
    require(t.size() == 2 && t[0].batched && t[1] == TensorType{DType::f32, {t[0].shape.back()}}, "keep");
    return std::vector<OutputSpec>{{"", t[1], Role::state, 1}};
  };
  op.make_kernel = kernel(
      [](const OpShape& s, const KernelArguments& a) { std::copy_n(in(a, 0), count_of(s.inputs[1]), out(a, 0)); });
  return op;
}

inline OpDefinition accumulate_op() {
  OpDefinition op;
  op.kind = kAccumulateKind;
  op.accumulates = true;
  op.infer = [](const std::vector<TensorType>& t, const Attributes&) {
    require(t.size() == 1 && t[0].dtype == DType::f32 && !t[0].batched, "accumulate");
    return outputs_like(t[0]);
  };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    for (std::size_t i = 0; i < count_of(s.outputs[0]); ++i)
      out(a, 0)[i] = (a.first_microbatch ? 0.0F : out(a, 0)[i]) + in(a, 0)[i];
  });
  return op;
}

/// momentum' = 0.5 momentum + gradient; weight' = weight - rate * momentum'.
inline OpDefinition sgd_op() {
  OpDefinition op;
  op.kind = "sgd";
  op.once = true;
  op.infer = [](const std::vector<TensorType>& t, const Attributes&) {
    require(t.size() == 3 && t[0] == t[1] && t[0] == t[2] && t[0].dtype == DType::f32, "sgd");
    return std::vector<OutputSpec>{{"", t[0], Role::weight, 0}, {"momentum", t[0], Role::optimizer, 2}};
  };
  op.make_kernel = kernel([](const OpShape& s, const KernelArguments& a) {
    for (std::size_t i = 0; i < count_of(s.outputs[0]); ++i) {
      out(a, 1)[i] = 0.5F * in(a, 2)[i] + in(a, 1)[i];
      out(a, 0)[i] = in(a, 0)[i] - a.scalars->learning_rate * out(a, 1)[i];
    }
  });
  return op;
}

inline OpRegistry tiny_registry() {
  OpRegistry registry;
  for (OpDefinition op :
       {scale_op(), add_op(), dense_op(), dense_input_gradient_op(), dense_weight_gradient_op(), square_loss_op(),
        loss_gradient_op(), reshape_op(), counter_op(), keep_op(), accumulate_op(), sgd_op()})
    registry.add(std::move(op));
  registry.set_engine("tiny", "1");
  return registry;
}

// ---- graphs: batch 8, from x{8,3} to a loss ----

inline constexpr std::int64_t kBatch = 8;
inline Optimizer sgd() { return {.kind = "sgd", .state = {"momentum"}, .attributes = {}}; }

struct Start {
  Graph graph;
  TensorId x;
};

inline Start start() {
  Graph graph;
  graph.batch = kBatch;
  const TensorId x = graph.add_input("x", {DType::f32, {kBatch, 3}, true}, Role::input);
  return {std::move(graph), x};
}

inline TensorId weight(Graph& graph, const char* name, std::int64_t rows, std::int64_t columns) {
  return graph.add_input(name, {DType::f32, {rows, columns}}, Role::weight);
}

inline Graph finish(const OpRegistry& registry, Graph graph, TensorId y) {
  const TensorId target = graph.add_input("target", graph.tensors[y].type, Role::input);
  graph.mark_output(graph.add_op(registry, "square_loss", "loss", {y, target}).front());
  return graph;
}

/// x -> dense -> scale -> dense -> loss
inline Graph chain(const OpRegistry& registry) {
  auto [g, x] = start();
  const TensorId w1 = weight(g, "w1", 4, 3), w2 = weight(g, "w2", 2, 4);
  const TensorId h = g.add_op(registry, "dense", "h", {x, w1}).front();
  const TensorId s = g.add_op(registry, "scale", "s", {h}, {{"factor", 0.5}}).front();
  const TensorId y = g.add_op(registry, "dense", "y", {s, w2}).front();
  return finish(registry, std::move(g), y);
}

/// h is read twice, by two branches that are added; w2 is read twice as well.
inline Graph diamond(const OpRegistry& registry) {
  auto [g, x] = start();
  const TensorId w1 = weight(g, "w1", 4, 3), w2 = weight(g, "w2", 2, 4);
  const TensorId h = g.add_op(registry, "dense", "h", {x, w1}).front();
  const TensorId a = g.add_op(registry, "scale", "a", {h}, {{"factor", 2.0}}).front();
  const TensorId left = g.add_op(registry, "dense", "left", {a, w2}).front();
  const TensorId right = g.add_op(registry, "dense", "right", {h, w2}).front();
  const TensorId sum = g.add_op(registry, "add", "sum", {left, right}).front();
  return finish(registry, std::move(g), sum);
}

/// The chain, with a statistic of x that changes in the forward pass, and a view of h.
inline Graph with_running_state(const OpRegistry& registry) {
  auto [g, x] = start();
  const TensorId w1 = weight(g, "w1", 4, 3), w2 = weight(g, "w2", 2, 4);
  const TensorId seen = g.add_input("seen", {DType::f32, {1}}, Role::statistic);
  g.add_op(registry, "counter", "count", {x, seen});
  const TensorId h = g.add_op(registry, "dense", "h", {x, w1}).front();
  const TensorId tall = g.add_op(registry, "reshape", "tall", {h}, {{"columns", std::int64_t{2}}}).front();
  const TensorId s = g.add_op(registry, "scale", "s", {tall}, {{"factor", 0.5}}).front();
  const TensorId flat = g.add_op(registry, "reshape", "flat", {s}, {{"columns", std::int64_t{4}}}).front();
  const TensorId y = g.add_op(registry, "dense", "y", {flat, w2}).front();
  return finish(registry, std::move(g), y);
}

inline Graph step_graph(const OpRegistry& registry, Graph forward) {
  const TensorId loss = forward.find("loss");
  return differentiate(std::move(forward), registry, loss, sgd());
}

using Cut = std::vector<std::int64_t>;

/// One program, or two with an evaluation beside the training.
inline Plan plan_of(const OpRegistry& registry, Graph step, Cut cut = {kBatch}, int threads = 1) {
  PlanRequest request{.model = "tiny",
                      .options = {{"a", "b"}},
                      .batch = kBatch,
                      .device = {},
                      .planner_seed = 7,
                      .budget = {},
                      .programs = {}};
  request.device.threads = threads;
  request.programs.push_back({"train", std::move(step), std::move(cut)});
  return make_plan(request, registry);
}

inline Plan two_programs(const OpRegistry& registry, Cut cut = {kBatch}) {
  PlanRequest request{.model = "tiny",
                      .options = {},
                      .batch = kBatch,
                      .device = {},
                      .planner_seed = 0,
                      .budget = Bytes{1 << 20},
                      .programs = {}};
  request.programs.push_back({"train", step_graph(registry, with_running_state(registry)), cut});
  request.programs.push_back({"evaluate", chain(registry), cut});
  return make_plan(request, registry);
}

inline Step step_of(const Program& program, std::string_view op) {
  for (std::size_t i = 0; i < program.schedule.steps.size(); ++i)
    if (program.graph.ops[program.schedule.steps[i].op].name == op) return Step{static_cast<std::int32_t>(i)};
  return Step{-1};
}

inline InstanceId instance_of(const Program& program, std::string_view tensor) {
  for (std::size_t i = 0; i < program.schedule.instances.size(); ++i)
    if (program.graph.tensors[program.schedule.instances[InstanceId{static_cast<std::int32_t>(i)}].tensor].name ==
        tensor)
      return InstanceId{static_cast<std::int32_t>(i)};
  return InstanceId{-1};
}

inline StorageId storage_of(const Program& program, std::string_view tensor) {
  return program.schedule.instances[instance_of(program, tensor)].storage;
}

/// A number for element i of a named tensor that no test depends on.
inline float value_of(std::string_view name, std::size_t i) {
  return static_cast<float>(static_cast<int>((i * 7 + name.size() * 3 + static_cast<unsigned char>(name.back())) % 11) -
                            5) /
         8.0F;
}

}  // namespace thimble::testing
