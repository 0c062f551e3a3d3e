// SGD with momentum, optionally Nesterov's, and L2 weight decay, as torch.optim.SGD (dampening 0). Heavy-ball SGD also
// in two ops: `momentum_accumulate` adds each microbatch's gradient to the momentum, so that no sum of gradients is
// kept, and `momentum_update` moves the weight once. In one microbatch both ways give the same bits. Where the maker of
// the gradient adds it itself, `momentum_decay` is what is left of the first.
#include "formulas.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 8;

// Each output may be the storage of the input it is a new version of.
THIMBLE_CLONES void step(SgdRates rates, float learning_rate, const float* weight, const float* gradient,
                         const float* velocity, float* new_weight, float* new_velocity, std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) {
    const float w = weight[i], g = rates.decayed(gradient[i], w);
    const float v = rates.velocity(velocity[i], g);
    new_velocity[i] = v;
    new_weight[i] = moved(w, learning_rate, rates.way(g, v));
  }
}

void run(const OpShape& shape, const KernelArguments& a) {
  const SgdRates rates = SgdRates::of(shape.attributes);
  const Chunks chunks = Chunks::of(element_count(shape.inputs[0]), kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    const std::int64_t at = chunks.begin(k);
    step(rates, a.scalars->learning_rate, floats(a.inputs[0]) + at, floats(a.inputs[1]) + at, floats(a.inputs[2]) + at,
         floats(a.outputs[0]) + at, floats(a.outputs[1]) + at, chunks.end(k) - at);
  });
}

// v = momentum * v + (g + decay * w) with the first microbatch's gradient, v += g with the others'.
THIMBLE_CLONES void accumulate(AddToVelocity add, bool first, const float* gradient, const float* velocity,
                               const float* weight, float* new_velocity, std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i)
    new_velocity[i] = first ? add(gradient[i], velocity[i], weight[i]) : velocity[i] + gradient[i];
}

THIMBLE_CLONES void decay(DecayVelocity rule, const float* velocity, const float* weight, float* new_velocity,
                          std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) new_velocity[i] = rule(velocity[i], weight[i]);
}

THIMBLE_CLONES void move(float learning_rate, const float* weight, const float* velocity, float* new_weight,
                         std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) new_weight[i] = moved(weight[i], learning_rate, velocity[i]);
}

void run_accumulate(const OpShape& shape, const KernelArguments& a) {
  const AddToVelocity add{SgdRates::of(shape.attributes)};
  const Chunks chunks = Chunks::of(element_count(shape.inputs[0]), kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    const std::int64_t at = chunks.begin(k);
    accumulate(add, a.first_microbatch, floats(a.inputs[0]) + at, floats(a.inputs[1]) + at, floats(a.inputs[2]) + at,
               floats(a.outputs[0]) + at, chunks.end(k) - at);
  });
}

void run_decay(const OpShape& shape, const KernelArguments& a) {
  const DecayVelocity rule{SgdRates::of(shape.attributes)};
  const Chunks chunks = Chunks::of(element_count(shape.inputs[0]), kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    const std::int64_t at = chunks.begin(k), n = chunks.end(k) - at;
    const float* velocity = floats(a.inputs[0]) + at;
    float* result = floats(a.outputs[0]) + at;
    if (a.first_microbatch)
      decay(rule, velocity, floats(a.inputs[1]) + at, result, n);
    else if (result != velocity)
      std::copy_n(velocity, n, result);
  });
}

void run_move(const OpShape& shape, const KernelArguments& a) {
  const Chunks chunks = Chunks::of(element_count(shape.inputs[0]), kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    const std::int64_t at = chunks.begin(k);
    move(a.scalars->learning_rate, floats(a.inputs[0]) + at, floats(a.inputs[1]) + at, floats(a.outputs[0]) + at,
         chunks.end(k) - at);
  });
}

void expect_unbatched(const std::string& kind, const std::vector<TensorType>& in, std::size_t count) {
  expect_inputs(kind, in, count);
  for (const TensorType& type : in) expect_same(kind, in[0], type);
  if (in[0].dtype != DType::f32 || in[0].batched) throw InvalidArgument(kind + ": the weight is no f32 tensor");
}

void register_momentum(OpRegistry& registry) {
  OpDefinition add;
  add.kind = "momentum_accumulate";
  add.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_unbatched("momentum_accumulate", in, 3);
    real_attribute(attributes, "momentum");
    real_attribute(attributes, "weight_decay");
    return std::vector<OutputSpec>{{"", in[1], Role::optimizer, 1}};
  };
  add.make_kernel = [](const OpShape& s) { return function_kernel(s, run_accumulate); };
  add.once = true;
  add.first_part = "momentum_decay";
  registry.add(add);

  OpDefinition decay;
  decay.kind = "momentum_decay";
  decay.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_unbatched("momentum_decay", in, 2);
    real_attribute(attributes, "momentum");
    real_attribute(attributes, "weight_decay");
    return std::vector<OutputSpec>{{"", in[0], Role::optimizer, 0}};
  };
  decay.make_kernel = [](const OpShape& s) { return function_kernel(s, run_decay); };
  decay.once = true;
  registry.add(decay);

  OpDefinition update;
  update.kind = "momentum_update";
  update.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_unbatched("momentum_update", in, 2);
    return std::vector<OutputSpec>{{"weight", in[0], Role::weight, 0}};
  };
  update.make_kernel = [](const OpShape& s) { return function_kernel(s, run_move); };
  update.once = true;
  registry.add(update);
}

}  // namespace

void register_sgd_update(OpRegistry& registry) {
  register_momentum(registry);
  OpDefinition sgd;
  sgd.kind = "sgd_update";
  sgd.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_unbatched("sgd_update", in, 3);
    real_attribute(attributes, "momentum");
    real_attribute(attributes, "weight_decay");
    return std::vector<OutputSpec>{{"weight", in[0], Role::weight, 0}, {"momentum", in[2], Role::optimizer, 2}};
  };
  sgd.make_kernel = [](const OpShape& s) { return function_kernel(s, run); };
  sgd.once = true;
  registry.add(sgd);
}

}  // namespace thimble
