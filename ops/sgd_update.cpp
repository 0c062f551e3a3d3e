// SGD with momentum, optionally Nesterov's, and L2 weight decay, as torch.optim.SGD (dampening 0).
#include "registration.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 8;

struct Rates {
  float learning_rate, momentum, weight_decay;
  bool nesterov;
};

// Each output may be the storage of the input it is a new version of.
THIMBLE_CLONES void step(const Rates& rates, const float* weight, const float* gradient, const float* velocity,
                         float* new_weight, float* new_velocity, std::int64_t n) {
  const float momentum = rates.momentum, decay = rates.weight_decay, learning_rate = rates.learning_rate;
  const bool nesterov = rates.nesterov;
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) {
    const float w = weight[i], g = gradient[i] + decay * w;
    const float v = momentum * velocity[i] + g;
    new_velocity[i] = v;
    new_weight[i] = w - learning_rate * (nesterov ? g + momentum * v : v);
  }
}

void run(const OpShape& shape, const KernelArguments& a) {
  const Rates rates{a.scalars->learning_rate, static_cast<float>(real_attribute(shape.attributes, "momentum")),
                    static_cast<float>(real_attribute(shape.attributes, "weight_decay")),
                    flag(shape.attributes, "nesterov")};
  const Chunks chunks = Chunks::of(element_count(shape.inputs[0]), kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    const std::int64_t at = chunks.begin(k);
    step(rates, floats(a.inputs[0]) + at, floats(a.inputs[1]) + at, floats(a.inputs[2]) + at, floats(a.outputs[0]) + at,
         floats(a.outputs[1]) + at, chunks.end(k) - at);
  });
}

}  // namespace

void register_sgd_update(OpRegistry& registry) {
  OpDefinition sgd;
  sgd.kind = "sgd_update";
  sgd.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("sgd_update", in, 3);
    expect_same("sgd_update", in[0], in[1]);
    expect_same("sgd_update", in[0], in[2]);
    if (in[0].dtype != DType::f32 || in[0].batched) throw InvalidArgument("sgd_update: the weight is no f32 tensor");
    real_attribute(attributes, "momentum");
    real_attribute(attributes, "weight_decay");
    return std::vector<OutputSpec>{{"weight", in[0], Role::weight, 0}, {"momentum", in[2], Role::optimizer, 2}};
  };
  sgd.make_kernel = [](const OpShape& s) { return function_kernel(s, run); };
  sgd.once = true;
  registry.add(sgd);
}

}  // namespace thimble
