// Normalisation of every row by its own mean and variance (Ba et al. 2016), and its gradient, which computes the
// moments again: a row lies in the nearest cache.
#include <cmath>

#include "registration.h"
#include "thimble/parallel.h"
#include "vector_sum.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;
constexpr int kLanes = 16;  // partial sums, added in a fixed order, so that loops can use vectors

struct Moments {
  float mean, scale;  // scale: one over the deviation
};

float sum_of(const float* lanes) {
  float sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += lanes[l];
  return sum;
}

THIMBLE_CLONES Moments moments_of(const float* __restrict x, std::int64_t n, float epsilon) {
  float sums[kLanes] = {}, squares[kLanes] = {};
  const std::int64_t even = n / kLanes * kLanes;
  for (std::int64_t i = 0; i < even; i += kLanes)
    for (int l = 0; l < kLanes; ++l) sums[l] += x[i + l];
  for (std::int64_t i = even; i < n; ++i) sums[i - even] += x[i];
  const float mean = sum_of(sums) / static_cast<float>(n);
  for (std::int64_t i = 0; i < even; i += kLanes)
    for (int l = 0; l < kLanes; ++l) squares[l] += (x[i + l] - mean) * (x[i + l] - mean);
  for (std::int64_t i = even; i < n; ++i) squares[i - even] += (x[i] - mean) * (x[i] - mean);
  return {mean, 1.0f / std::sqrt(sum_of(squares) / static_cast<float>(n) + epsilon)};
}

THIMBLE_CLONES void normalize(const float* x, const Moments& m, const float* __restrict gamma,
                              const float* __restrict beta, float* y, std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) y[i] = (x[i] - m.mean) * m.scale * gamma[i] + beta[i];
}

struct Means {
  float gradient, product;  // of dy * gamma, and of that times the normalised value
};

THIMBLE_CLONES Means sum_gradients(const float* __restrict dy, const float* __restrict x, const Moments& m,
                                   const float* __restrict gamma, float* __restrict dgamma, float* __restrict dbeta,
                                   std::int64_t n) {
  float gradients[kLanes] = {}, products[kLanes] = {};
  const std::int64_t even = n / kLanes * kLanes;
  for (std::int64_t i = 0; i < even; i += kLanes)
    for (int l = 0; l < kLanes; ++l) {
      const float normal = (x[i + l] - m.mean) * m.scale, g = dy[i + l] * gamma[i + l];
      gradients[l] += g;
      products[l] += g * normal;
      dgamma[i + l] += dy[i + l] * normal;
      dbeta[i + l] += dy[i + l];
    }
  for (std::int64_t i = even; i < n; ++i) {
    const float normal = (x[i] - m.mean) * m.scale, g = dy[i] * gamma[i];
    gradients[i - even] += g;
    products[i - even] += g * normal;
    dgamma[i] += dy[i] * normal;
    dbeta[i] += dy[i];
  }
  return {sum_of(gradients) / static_cast<float>(n), sum_of(products) / static_cast<float>(n)};
}

// dx may be dy or x.
THIMBLE_CLONES void pass_gradient(const float* dy, const float* x, const Moments& m, const float* __restrict gamma,
                                  const Means& means, float* dx, std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) {
    const float normal = (x[i] - m.mean) * m.scale;
    dx[i] = m.scale * (dy[i] * gamma[i] - means.gradient - normal * means.product);
  }
}

Chunks row_chunks(const TensorType& type) { return Chunks::of(rows(type), kChunks); }

void forward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = features(shape.inputs[0]);
  const auto epsilon = static_cast<float>(real_attribute(shape.attributes, "epsilon"));
  const Chunks chunks = row_chunks(shape.inputs[0]);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    for (std::int64_t row = chunks.begin(k); row < chunks.end(k); ++row) {
      const float* x = floats(a.inputs[0]) + row * n;
      normalize(x, moments_of(x, n, epsilon), floats(a.inputs[1]), floats(a.inputs[2]), floats(a.outputs[0]) + row * n,
                n);
    }
  });
}

// Each chunk of rows sums into two vectors of the workspace, which are added in order.
void backward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = features(shape.inputs[0]);
  const auto epsilon = static_cast<float>(real_attribute(shape.attributes, "epsilon"));
  const Chunks chunks = row_chunks(shape.inputs[0]);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    float* sums = floats(a.workspace) + 2 * k * n;
    std::fill_n(sums, 2 * n, 0.0f);
    for (std::int64_t row = chunks.begin(k); row < chunks.end(k); ++row) {
      const float *dy = floats(a.inputs[0]) + row * n, *x = floats(a.inputs[1]) + row * n;
      const float* gamma = floats(a.inputs[2]);
      const Moments m = moments_of(x, n, epsilon);
      const Means means = sum_gradients(dy, x, m, gamma, sums, sums + n, n);
      pass_gradient(dy, x, m, gamma, means, floats(a.outputs[0]) + row * n, n);
    }
  });
  for (int which = 0; which < 2; ++which) {
    float* sum = floats(a.outputs[static_cast<std::size_t>(1 + which)]);
    std::copy_n(floats(a.workspace) + which * n, n, sum);
    for (std::int64_t k = 1; k < chunks.count; ++k) add_vectors(sum, floats(a.workspace) + (2 * k + which) * n, sum, n);
  }
}

}  // namespace

void register_layer_norm(OpRegistry& registry) {
  OpDefinition norm;
  norm.kind = "layer_norm";
  norm.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("layer_norm", in, 3);
    expect_rows("layer_norm", in[0]);
    for (std::size_t i : {1, 2}) expect_vector("layer_norm", in[i], features(in[0]));
    real_attribute(attributes, "epsilon");
    return outputs_like(in[0]);
  };
  norm.gradient = [](GradientContext& g) {
    const auto made = g.emit("layer_norm_backward", "backward", {g.output_gradient(0), g.input(0), g.input(1)},
                             {{"epsilon", g.op().attributes.at("epsilon")}});
    for (int i = 0; i < 3; ++i) g.set_input_gradient(i, made[static_cast<std::size_t>(i)]);
  };
  norm.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  norm.in_place = {{0, 0}};
  registry.add(norm);

  OpDefinition back;
  back.kind = "layer_norm_backward";
  back.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    const std::string kind = "layer_norm_backward";
    expect_inputs(kind, in, 3);
    expect_rows(kind, in[0]);
    expect_same(kind, in[0], in[1]);
    expect_vector(kind, in[2], features(in[0]));
    real_attribute(attributes, "epsilon");
    return std::vector<OutputSpec>{{"", in[0]}, {"gamma", in[2], Role::gradient}, {"beta", in[2], Role::gradient}};
  };
  back.workspace = [](const OpShape& s) { return Bytes{8 * row_chunks(s.inputs[0]).count * features(s.inputs[0])}; };
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.in_place = {{0, 0}, {1, 0}};
  registry.add(back);
}

}  // namespace thimble
