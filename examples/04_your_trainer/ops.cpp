#include "ops.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "thimble/error.h"

namespace your_trainer {
namespace {

using namespace thimble;
using Types = std::vector<TensorType>;
using Function = void (*)(const OpShape&, const KernelArguments&);

// A kernel from a plain function; one that prepares something for its shapes has a class of its own.
class FunctionKernel final : public Kernel {
 public:
  FunctionKernel(OpShape shape, Function function) : shape_(std::move(shape)), function_(function) {}
  void run(const KernelArguments& arguments) override { function_(shape_, arguments); }

 private:
  OpShape shape_;
  Function function_;
};

const float* in(const KernelArguments& a, std::size_t i) { return reinterpret_cast<const float*>(a.inputs[i]); }
float* out(const KernelArguments& a, std::size_t i) { return reinterpret_cast<float*>(a.outputs[i]); }

void require(bool fits, const char* what) {
  if (!fits) throw InvalidArgument(what);
}

// y = tanh(x w^T + b). The workspace holds w^T, so that the innermost loop runs along a row: compilers vectorise that.
void dense_tanh(const OpShape& s, const KernelArguments& a) {
  const std::int64_t samples = s.inputs[0].shape[0], inputs = s.inputs[0].shape[1], outputs = s.inputs[1].shape[0];
  const float *x = in(a, 0), *w = in(a, 1), *b = in(a, 2);
  auto* transposed = reinterpret_cast<float*>(a.workspace);
  for (std::int64_t i = 0; i < inputs; ++i)
    for (std::int64_t o = 0; o < outputs; ++o) transposed[i * outputs + o] = w[o * inputs + i];
  for (std::int64_t n = 0; n < samples; ++n) {
    float* y = out(a, 0) + n * outputs;
    std::copy_n(b, outputs, y);
    for (std::int64_t i = 0; i < inputs; ++i)
      for (std::int64_t o = 0; o < outputs; ++o) y[o] += x[n * inputs + i] * transposed[i * outputs + o];
    for (std::int64_t o = 0; o < outputs; ++o) y[o] = std::tanh(y[o]);
  }
}

// tanh' = 1 - y^2: what went into the tanh need not be kept.
void dense_tanh_gradient(const OpShape& s, const KernelArguments& a) {
  const std::int64_t samples = s.inputs[1].shape[0], inputs = s.inputs[1].shape[1], outputs = s.inputs[2].shape[0];
  const float *dy = in(a, 0), *x = in(a, 1), *w = in(a, 2), *y = in(a, 3);
  float *dw = out(a, 0), *db = out(a, 1), *dx = s.outputs.size() > 2 ? out(a, 2) : nullptr;
  std::fill_n(dw, outputs * inputs, 0.0F);  // an output holds whatever lay there before
  std::fill_n(db, outputs, 0.0F);
  if (dx != nullptr) std::fill_n(dx, samples * inputs, 0.0F);
  for (std::int64_t n = 0; n < samples; ++n)
    for (std::int64_t o = 0; o < outputs; ++o) {
      const float value = y[n * outputs + o], dz = dy[n * outputs + o] * (1 - value * value);
      db[o] += dz;
      for (std::int64_t i = 0; i < inputs; ++i) dw[o * inputs + i] += dz * x[n * inputs + i];
      if (dx == nullptr) continue;
      for (std::int64_t i = 0; i < inputs; ++i) dx[n * inputs + i] += dz * w[o * inputs + i];
    }
}

// a.batch is the whole step's: the parts that the microbatches give add up to the mean, and so do their gradients.
void squared_loss(const OpShape& s, const KernelArguments& a) {
  const auto batch = static_cast<float>(a.batch);
  float* loss = out(a, 0);
  *loss = 0;
  for (std::int64_t i = 0; i < element_count(s.inputs[0]); ++i) {
    const float difference = in(a, 0)[i] - in(a, 1)[i];
    *loss += difference * difference / 2 / batch;
    out(a, 1)[i] = difference / batch;
  }
}

void momentum_sgd(const OpShape& s, const KernelArguments& a) {
  const auto momentum = static_cast<float>(real_attribute(s.attributes, "momentum"));
  for (std::int64_t i = 0; i < element_count(s.outputs[0]); ++i) {
    out(a, 1)[i] = momentum * in(a, 2)[i] + in(a, 1)[i];
    out(a, 0)[i] = in(a, 0)[i] - a.scalars->learning_rate * out(a, 1)[i];
  }
}

void accumulate(const OpShape& s, const KernelArguments& a) {
  for (std::int64_t i = 0; i < element_count(s.outputs[0]); ++i)
    out(a, 0)[i] = a.first_microbatch ? in(a, 0)[i] : out(a, 0)[i] + in(a, 0)[i];
}

OpDefinition define(const char* kind, Function run, decltype(OpDefinition::infer) infer) {
  OpDefinition op;
  op.kind = kind;
  op.infer = std::move(infer);
  op.make_kernel = [run](const OpShape& shape) { return std::make_unique<FunctionKernel>(shape, run); };
  return op;
}

}  // namespace

void register_ops(OpRegistry& registry) {
  OpDefinition dense = define("dense_tanh", dense_tanh, [](const Types& t, const Attributes&) {
    require(t.size() == 3 && t[0].batched && t[0].shape.size() == 2 && t[1].shape.size() == 2 &&
                t[0].shape[1] == t[1].shape[1] && t[2] == TensorType{DType::f32, {t[1].shape[0]}},
            "dense_tanh: takes x{N,I}, w{O,I}, b{O}");
    return outputs_like({DType::f32, {t[0].shape[0], t[1].shape[0]}, true});
  });
  dense.workspace = [](const OpShape& s) { return bytes_of(s.inputs[1]); };
  dense.gradient = [](GradientContext& g) {
    const std::int64_t with_dx = g.wants_input_gradient(0) ? 1 : 0;  // of the data nobody does
    const auto d = g.emit("dense_tanh_gradient", "gradient",
                          {g.output_gradient(0), g.input(0), g.input(1), g.output(0)}, {{"with_dx", with_dx}});
    g.set_input_gradient(1, d[0]);
    g.set_input_gradient(2, d[1]);
    if (with_dx != 0) g.set_input_gradient(0, d[2]);
  };
  registry.add(dense);

  registry.add(define("dense_tanh_gradient", dense_tanh_gradient, [](const Types& t, const Attributes& attributes) {
    require(t.size() == 4 && t[0] == t[3], "dense_tanh_gradient: takes dy{N,O}, x{N,I}, w{O,I}, y{N,O}");
    std::vector<OutputSpec> d{{"dw", t[2]}, {"db", {DType::f32, {t[2].shape[0]}}}};
    if (int_attribute(attributes, "with_dx") != 0) d.push_back({"dx", t[1]});
    return d;
  }));

  OpDefinition loss = define("squared_loss", squared_loss, [](const Types& t, const Attributes&) {
    require(t.size() == 2 && t[0] == t[1], "squared_loss: takes y and a target like it");
    return std::vector<OutputSpec>{{"", {DType::f32, {1}}, Role::other}, {"dy", t[0]}};
  });
  loss.gradient = [](GradientContext& g) { g.set_input_gradient(0, g.output(1)); };  // made on the way: no op
  registry.add(loss);

  OpDefinition sgd = define("momentum_sgd", momentum_sgd, [](const Types& t, const Attributes&) {
    require(t.size() == 3 && t[0] == t[1] && t[0] == t[2], "momentum_sgd: takes w, its gradient, its momentum");
    // New versions in the old storage: of input 0 and of input 2.
    return std::vector<OutputSpec>{{"", t[0], Role::weight, 0}, {"momentum", t[2], Role::optimizer, 2}};
  });
  sgd.once = true;  // changes state: no plan may run it twice
  registry.add(sgd);

  OpDefinition sum =
      define(kAccumulateKind, accumulate, [](const Types& t, const Attributes&) { return outputs_like(t.at(0)); });
  sum.accumulates = true;
  registry.add(sum);

  registry.set_engine("your_trainer", "1");  // raise it when a kernel gives other bits
}

}  // namespace your_trainer
