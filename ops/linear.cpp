// y = x w^T + b for x {N, I}, w {O, I}, b {O}. Plain loops: in these models it is a classifier of ten rows.
#include "registration.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 8;

THIMBLE_CLONES void add_scaled(const float* __restrict x, float scale, float* __restrict sum, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += scale * x[i];
}

// Sixteen partial sums, added in a fixed order, so that the loop can use vectors.
THIMBLE_CLONES float dot(const float* __restrict a, const float* __restrict b, std::int64_t n) {
  float lanes[16] = {};
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int l = 0; l < 16; ++l) lanes[l] += a[i + l] * b[i + l];
  for (; i < n; ++i) lanes[i % 16] += a[i] * b[i];
  float sum = 0;
  for (float lane : lanes) sum += lane;
  return sum;
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t inputs = shape.inputs[0].shape[1], outputs = shape.inputs[1].shape[0];
  const Chunks chunks = Chunks::of(shape.inputs[0].shape[0], kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = chunks.begin(k); n < chunks.end(k); ++n)
      for (std::int64_t o = 0; o < outputs; ++o)
        floats(a.outputs[0])[n * outputs + o] =
            dot(floats(a.inputs[0]) + n * inputs, floats(a.inputs[1]) + o * inputs, inputs) + floats(a.inputs[2])[o];
  });
}

void backward_data(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t outputs = shape.inputs[0].shape[1], inputs = shape.inputs[1].shape[1];
  const Chunks chunks = Chunks::of(shape.inputs[0].shape[0], kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = chunks.begin(k); n < chunks.end(k); ++n) {
      float* dx = floats(a.outputs[0]) + n * inputs;
      std::fill_n(dx, inputs, 0.0f);
      for (std::int64_t o = 0; o < outputs; ++o)
        add_scaled(floats(a.inputs[1]) + o * inputs, floats(a.inputs[0])[n * outputs + o], dx, inputs);
    }
  });
}

// Each output row is one task's, summed over the samples in order.
void backward_weights(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t samples = shape.inputs[0].shape[0], inputs = shape.inputs[0].shape[1];
  const std::int64_t outputs = shape.inputs[1].shape[1];
  parallel_chunks(shape.device.threads, outputs, [&](std::int64_t o) {
    float* dw = floats(a.outputs[0]) + o * inputs;
    float bias = 0;
    std::fill_n(dw, inputs, 0.0f);
    for (std::int64_t n = 0; n < samples; ++n) {
      const float dy = floats(a.inputs[1])[n * outputs + o];
      add_scaled(floats(a.inputs[0]) + n * inputs, dy, dw, inputs);
      bias += dy;
    }
    floats(a.outputs[1])[o] = bias;
  });
}

// The weights of an op on {N, I} and {N, O} have I * O elements wherever they stand.
OpCost cost(const OpShape& shape, const TensorType& weights) {
  OpCost total = bytes_moved(shape);
  total.flops = 2.0 * static_cast<double>(shape.inputs[0].shape[0]) * static_cast<double>(element_count(weights));
  return total;
}

void gradient(GradientContext& g) {
  const TensorId dy = g.output_gradient(0);
  const auto made = g.emit("linear_backward_weights", "d_weight", {g.input(0), dy});
  g.set_input_gradient(1, made[0]);
  g.set_input_gradient(2, made[1]);
  if (g.wants_input_gradient(0))
    g.set_input_gradient(0, g.emit("linear_backward_data", "d_input", {dy, g.input(1)}).front());
}

}  // namespace

void register_linear(OpRegistry& registry) {
  OpDefinition linear;
  linear.kind = "linear";
  linear.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_inputs("linear", in, 3);
    expect_rank("linear", in[0], 2);
    expect_rank("linear", in[1], 2);
    expect_vector("linear", in[2], in[1].shape[0]);
    if (in[0].shape[1] != in[1].shape[1] || !in[0].batched)
      throw InvalidArgument("linear: the input has " + std::to_string(in[0].shape[1]) + " features, the weights " +
                            std::to_string(in[1].shape[1]));
    return outputs_like({DType::f32, {in[0].shape[0], in[1].shape[0]}, true});
  };
  linear.gradient = gradient;
  linear.cost = [](const OpShape& s) { return cost(s, s.inputs[1]); };
  linear.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  registry.add(linear);

  OpDefinition data;
  data.kind = "linear_backward_data";
  data.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_inputs("linear_backward_data", in, 2);
    expect_rank("linear_backward_data", in[0], 2);
    expect_rank("linear_backward_data", in[1], 2);
    if (in[0].shape[1] != in[1].shape[0] || !in[0].batched)
      throw InvalidArgument("linear_backward_data: the gradient does not fit the weights");
    return outputs_like({DType::f32, {in[0].shape[0], in[1].shape[1]}, true});
  };
  data.cost = [](const OpShape& s) { return cost(s, s.inputs[1]); };
  data.make_kernel = [](const OpShape& s) { return function_kernel(s, backward_data); };
  registry.add(data);

  OpDefinition weights;
  weights.kind = "linear_backward_weights";
  weights.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_inputs("linear_backward_weights", in, 2);
    expect_rank("linear_backward_weights", in[0], 2);
    expect_rank("linear_backward_weights", in[1], 2);
    if (in[0].shape[0] != in[1].shape[0] || !in[0].batched || !in[1].batched)
      throw InvalidArgument("linear_backward_weights: its inputs are of different batches");
    return std::vector<OutputSpec>{{"", {DType::f32, {in[1].shape[1], in[0].shape[1]}, false}, Role::gradient},
                                   {"bias", {DType::f32, {in[1].shape[1]}, false}, Role::gradient}};
  };
  weights.cost = [](const OpShape& s) { return cost(s, s.outputs[0]); };
  weights.make_kernel = [](const OpShape& s) { return function_kernel(s, backward_weights); };
  registry.add(weights);
}

}  // namespace thimble
