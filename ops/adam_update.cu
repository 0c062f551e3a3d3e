// Adam on CUDA, element by element as on the CPU. What all elements share comes from the step's scalars in device
// memory, so the first thread of every block makes it while the others wait for their values.
#include "element_wise_cuda.h"
#include "formulas.h"
#include "quads.h"

namespace thimble {
namespace {

struct Given {
  double beta1, beta2, epsilon, weight_decay;
};

// base^exponent by squaring, which is exact enough for what is rounded to a float.
__device__ double power(double base, std::int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent /= 2, base *= base)
    if (exponent % 2 != 0) result *= base;
  return result;
}

__device__ AdamRates rates_of(const Given& given, const StepScalars& scalars) {
  const std::int64_t steps = scalars.step + 1;
  const double rate = static_cast<double>(scalars.learning_rate);
  const double size = rate * sqrt(1 - power(given.beta2, steps)) / (1 - power(given.beta1, steps));
  return {static_cast<float>(given.beta1), static_cast<float>(given.beta2), static_cast<float>(given.epsilon),
          static_cast<float>(size), static_cast<float>(rate * given.weight_decay)};
}

__device__ float4 load(const float* from, std::int64_t at, bool is_quad) {
  return is_quad ? simt::load4(from + at) : float4{from[at], 0, 0, 0};
}
__device__ void store(float* to, std::int64_t at, bool is_quad, float4 values) {
  if (is_quad)
    simt::store4(to + at, values);
  else
    to[at] = values.x;
}

// Each output may be the storage of the input it is a new version of.
__global__ void adam_update_kernel(Given given, const StepScalars* scalars, QuadCut cut, const float* weight,
                                   const float* gradient, const float* first, const float* second, float* new_weight,
                                   float* new_first, float* new_second) {
  SIMT_SHARED(AdamRates, shared, [1]);
  const std::int64_t thread = global_thread(), at = cut.first(thread);
  const bool is_there = thread < cut.threads, is_quad = cut.is_quad(thread);
  float4 w{}, g{}, m{}, v{};
  if (is_there) {
    w = load(weight, at, is_quad);
    g = load(gradient, at, is_quad);
    m = load(first, at, is_quad);
    v = load(second, at, is_quad);
  }
  if (threadIdx.x == 0) shared[0] = rates_of(given, *scalars);
  __syncthreads();
  if (!is_there) return;
  const AdamRates r = shared[0];
  m = map_quad([&](float m1, float g1) { return r.first(m1, g1); }, m, g);
  v = map_quad([&](float v1, float g1) { return r.second(v1, g1); }, v, g);
  const auto step = [&](float w1, float m1, float v1) { return r.weight(w1, m1, sqrtf(v1)); };
  store(new_first, at, is_quad, m);
  store(new_second, at, is_quad, v);
  store(new_weight, at, is_quad, map_quad(step, w, m, v));
}

void run(const OpShape& shape, const KernelArguments& a) {
  const Given given{real_attribute(shape.attributes, "beta1"), real_attribute(shape.attributes, "beta2"),
                    real_attribute(shape.attributes, "epsilon"), real_attribute(shape.attributes, "weight_decay")};
  const QuadCut cut = QuadCut::of(element_count(shape.inputs[0]), {a.inputs[0], a.inputs[1], a.inputs[2], a.inputs[3],
                                                                   a.outputs[0], a.outputs[1], a.outputs[2]});
  simt::launch(adam_update_kernel, blocks_for(cut.threads), kBlock, 0, stream_of(a), given, a.scalars, cut,
               floats(a.inputs[0]), floats(a.inputs[1]), floats(a.inputs[2]), floats(a.inputs[3]), floats(a.outputs[0]),
               floats(a.outputs[1]), floats(a.outputs[2]));
}

}  // namespace

void register_adam_update_cuda(OpRegistry& registry) {
  registry.add_kernels("adam_update", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, run); }});
}

}  // namespace thimble
