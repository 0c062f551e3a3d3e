// Adam (Kingma and Ba 2015) with decoupled weight decay, rounding as fairseq's: the first step is step 1, epsilon is
// added to the uncorrected root.
#include <cmath>

#include "formulas.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;

// Each output may be the storage of the input it is a new version of.
THIMBLE_CLONES void step(AdamRates rates, const float* weight, const float* gradient, const float* first,
                         const float* second, float* new_weight, float* new_first, float* new_second, std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = gradient[i];
    const float m = rates.first(first[i], g), v = rates.second(second[i], g);
    new_first[i] = m;
    new_second[i] = v;
    new_weight[i] = rates.weight(weight[i], m, std::sqrt(v));
  }
}

AdamRates rates_of(const OpShape& shape, const StepScalars& scalars) {
  const double beta1 = real_attribute(shape.attributes, "beta1"), beta2 = real_attribute(shape.attributes, "beta2");
  const auto steps = static_cast<double>(scalars.step + 1), rate = static_cast<double>(scalars.learning_rate);
  const double size = rate * std::sqrt(1 - std::pow(beta2, steps)) / (1 - std::pow(beta1, steps));
  return {static_cast<float>(beta1), static_cast<float>(beta2),
          static_cast<float>(real_attribute(shape.attributes, "epsilon")), static_cast<float>(size),
          static_cast<float>(rate * real_attribute(shape.attributes, "weight_decay"))};
}

void run(const OpShape& shape, const KernelArguments& a) {
  const AdamRates rates = rates_of(shape, *a.scalars);
  const Chunks chunks = Chunks::of(element_count(shape.inputs[0]), kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    const std::int64_t at = chunks.begin(k);
    step(rates, floats(a.inputs[0]) + at, floats(a.inputs[1]) + at, floats(a.inputs[2]) + at, floats(a.inputs[3]) + at,
         floats(a.outputs[0]) + at, floats(a.outputs[1]) + at, floats(a.outputs[2]) + at, chunks.end(k) - at);
  });
}

}  // namespace

void register_adam_update(OpRegistry& registry) {
  OpDefinition adam;
  adam.kind = "adam_update";
  adam.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("adam_update", in, 4);
    for (const TensorType& type : in) expect_same("adam_update", in[0], type);
    for (const char* name : {"beta1", "beta2"})
      if (const double beta = real_attribute(attributes, name); !(beta >= 0 && beta < 1))
        throw InvalidArgument("adam_update: " + std::string(name) + " is " + std::to_string(beta) + ", not in [0, 1)");
    real_attribute(attributes, "epsilon");
    real_attribute(attributes, "weight_decay");
    if (in[0].dtype != DType::f32 || in[0].batched) throw InvalidArgument("adam_update: the weight is no f32 tensor");
    return std::vector<OutputSpec>{{"weight", in[0], Role::weight, 0},
                                   {"exp_avg", in[2], Role::optimizer, 2},
                                   {"exp_avg_sq", in[3], Role::optimizer, 3}};
  };
  adam.make_kernel = [](const OpShape& s) { return function_kernel(s, run); };
  adam.once = true;
  registry.add(adam);
}

}  // namespace thimble
