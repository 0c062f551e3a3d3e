// y = x w^T (+ b) for x {N, I} or {N, T, I}, w {O, I}, b {O}: one product over all rows.
#include "accumulation.h"
#include "matrix_product.h"
#include "registration.h"
#include "thimble/parallel.h"
#include "vector_sum.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;

// The bias first, the product on top of it.
void forward(const OpShape& shape, const KernelArguments& a) {
  const ProductSizes sizes{rows(shape.inputs[0]), features(shape.outputs[0]), features(shape.inputs[0])};
  float* y = floats(a.outputs[0]);
  const bool has_bias = shape.inputs.size() == 3;
  if (has_bias) {
    const Chunks chunks = Chunks::of(sizes.rows, kChunks);
    parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
      for (std::int64_t n = chunks.begin(k); n < chunks.end(k); ++n)
        std::copy_n(floats(a.inputs[2]), sizes.columns, y + n * sizes.columns);
    });
  }
  multiply(shape.device.threads, sizes, {floats(a.inputs[0]), sizes.depth}, {floats(a.inputs[1]), sizes.depth, true}, y,
           sizes.columns, has_bias);
}

void backward_data(const OpShape& shape, const KernelArguments& a) {
  const ProductSizes sizes{rows(shape.inputs[0]), features(shape.outputs[0]), features(shape.inputs[0])};
  multiply(shape.device.threads, sizes, {floats(a.inputs[0]), sizes.depth}, {floats(a.inputs[1]), sizes.columns},
           floats(a.outputs[0]), sizes.columns, false);
}

void backward_weights(const OpShape& shape, const KernelArguments& a) {
  const ProductSizes sizes{features(shape.inputs[1]), features(shape.inputs[0]), rows(shape.inputs[0])};
  multiply(shape.device.threads, sizes, {floats(a.inputs[1]), sizes.rows, true}, {floats(a.inputs[0]), sizes.columns},
           floats(a.outputs[0]), sizes.columns, adds_to_output(shape, a));
}

// Each task some outputs, over the rows in order.
void backward_bias(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t outputs = features(shape.inputs[0]), count = rows(shape.inputs[0]);
  float* db = floats(a.outputs[0]);
  if (!adds_to_output(shape, a)) std::fill_n(db, outputs, 0.0f);
  const Chunks chunks = Chunks::of(outputs, kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    const std::int64_t begin = chunks.begin(k);
    for (std::int64_t n = 0; n < count; ++n)
      add_vectors(db + begin, floats(a.inputs[0]) + n * outputs + begin, db + begin, chunks.end(k) - begin);
  });
}

OpCost cost(const OpShape& shape, const TensorType& weights, std::int64_t row_count) {
  OpCost total = bytes_moved(shape);
  total.flops = 2.0 * static_cast<double>(row_count) * static_cast<double>(element_count(weights));
  return total;
}

void gradient(GradientContext& g) {
  const TensorId dy = g.output_gradient(0);
  if (g.wants_input_gradient(1))
    g.set_input_gradient(1, g.emit("linear_backward_weights", "d_weight", {g.input(0), dy}).front());
  if (g.op().inputs.size() == 3 && g.wants_input_gradient(2))
    g.set_input_gradient(2, g.emit("linear_backward_bias", "d_bias", {dy}).front());
  if (g.wants_input_gradient(0))
    g.set_input_gradient(0, g.emit("linear_backward_data", "d_input", {dy, g.input(1)}).front());
}

TensorType with_features(TensorType type, std::int64_t count) {
  type.shape.back() = count;
  return type;
}

void register_gradients(OpRegistry& registry) {
  OpDefinition data;
  data.kind = "linear_backward_data";
  data.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_inputs("linear_backward_data", in, 2);
    expect_rows("linear_backward_data", in[0]);
    expect_rank("linear_backward_data", in[1], 2);
    if (features(in[0]) != in[1].shape[0])
      throw InvalidArgument("linear_backward_data: the gradient does not fit the weights");
    return outputs_like(with_features(in[0], in[1].shape[1]));
  };
  data.cost = [](const OpShape& s) { return cost(s, s.inputs[1], rows(s.inputs[0])); };
  data.make_kernel = [](const OpShape& s) { return function_kernel(s, backward_data); };
  registry.add(data);

  OpDefinition weights;
  weights.kind = "linear_backward_weights";
  weights.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    const std::string kind = "linear_backward_weights";
    if (in.size() < 2) expect_inputs(kind, in, 2);
    expect_rows(kind, in[0]);
    expect_same(kind, with_features(in[0], features(in[1])), in[1]);
    return weights_gradient_output(kind, in, 2, {DType::f32, {features(in[1]), features(in[0])}, false}, attributes);
  };
  weights.cost = [](const OpShape& s) { return cost(s, s.outputs[0], rows(s.inputs[0])); };
  weights.make_kernel = [](const OpShape& s) { return function_kernel(s, backward_weights); };
  weights.may_accumulate = true;
  registry.add(weights);

  OpDefinition bias;
  bias.kind = "linear_backward_bias";
  bias.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    const std::string kind = "linear_backward_bias";
    if (in.empty()) expect_inputs(kind, in, 1);
    expect_rows(kind, in[0]);
    return weights_gradient_output(kind, in, 1, {DType::f32, {features(in[0])}, false}, attributes);
  };
  bias.make_kernel = [](const OpShape& s) { return function_kernel(s, backward_bias); };
  bias.may_accumulate = true;
  registry.add(bias);
}

}  // namespace

void register_linear(OpRegistry& registry) {
  OpDefinition linear;
  linear.kind = "linear";
  linear.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    if (in.size() != 3) expect_inputs("linear", in, 2);
    expect_rows("linear", in[0]);
    expect_rank("linear", in[1], 2);
    if (in.size() == 3) expect_vector("linear", in[2], in[1].shape[0]);
    if (features(in[0]) != in[1].shape[1] || in[1].batched)
      throw InvalidArgument("linear: the input has " + std::to_string(features(in[0])) + " features, the weights " +
                            std::to_string(in[1].shape[1]));
    return outputs_like(with_features(in[0], in[1].shape[0]));
  };
  linear.gradient = gradient;
  linear.cost = [](const OpShape& s) { return cost(s, s.inputs[1], rows(s.inputs[0])); };
  linear.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  registry.add(linear);
  register_gradients(registry);
}

}  // namespace thimble
