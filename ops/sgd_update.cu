// SGD with momentum on CUDA, whole or in two ops: as sgd_update.cpp, to the bit. The learning rate is read from the
// step's scalars in device memory. Each output may be the storage of the input it is a new version of.
#include "element_wise_cuda.h"
#include "formulas.h"

namespace thimble {
namespace {

struct Moved {
  float weight, velocity;
};

__device__ inline Moved step(const SgdRates& rates, float learning_rate, float w, float gradient, float velocity) {
  const float g = rates.decayed(gradient, w), v = rates.velocity(velocity, g);
  return {moved(w, learning_rate, rates.way(g, v)), v};
}

__global__ void sgd_update_kernel(SgdRates rates, const StepScalars* scalars, QuadCut cut, const float* weight,
                                  const float* gradient, const float* velocity, float* new_weight,
                                  float* new_velocity) {
  const std::int64_t thread = global_thread();
  if (thread >= cut.threads) return;
  const float learning_rate = scalars->learning_rate;
  const std::int64_t at = cut.first(thread);
  if (!cut.is_quad(thread)) {
    const Moved moved = step(rates, learning_rate, weight[at], gradient[at], velocity[at]);
    new_weight[at] = moved.weight;
    new_velocity[at] = moved.velocity;
    return;
  }
  const float4 w = simt::load4(weight + at), g = simt::load4(gradient + at), v = simt::load4(velocity + at);
  const Moved a = step(rates, learning_rate, w.x, g.x, v.x), b = step(rates, learning_rate, w.y, g.y, v.y);
  const Moved c = step(rates, learning_rate, w.z, g.z, v.z), d = step(rates, learning_rate, w.w, g.w, v.w);
  simt::store4(new_weight + at, make_float4(a.weight, b.weight, c.weight, d.weight));
  simt::store4(new_velocity + at, make_float4(a.velocity, b.velocity, c.velocity, d.velocity));
}

void run(const OpShape& shape, const KernelArguments& a) {
  const QuadCut cut =
      QuadCut::of(element_count(shape.inputs[0]), {a.inputs[0], a.inputs[1], a.inputs[2], a.outputs[0], a.outputs[1]});
  simt::launch(sgd_update_kernel, blocks_for(cut.threads), kBlock, 0, stream_of(a), SgdRates::of(shape.attributes),
               a.scalars, cut, floats(a.inputs[0]), floats(a.inputs[1]), floats(a.inputs[2]), floats(a.outputs[0]),
               floats(a.outputs[1]));
}

struct Move {
  const StepScalars* scalars;
  __device__ float operator()(float weight, float velocity) const {
    return moved(weight, scalars->learning_rate, velocity);
  }
};

void run_accumulate(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]);
  if (a.first_microbatch)
    launch_element_wise(AddToVelocity{SgdRates::of(shape.attributes)}, n, stream_of(a), floats(a.outputs[0]),
                        floats(a.inputs[0]), floats(a.inputs[1]), floats(a.inputs[2]));
  else
    launch_element_wise(Sum{}, n, stream_of(a), floats(a.outputs[0]), floats(a.inputs[1]), floats(a.inputs[0]));
}

void run_decay(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]);
  if (a.first_microbatch)
    launch_element_wise(DecayVelocity{SgdRates::of(shape.attributes)}, n, stream_of(a), floats(a.outputs[0]),
                        floats(a.inputs[0]), floats(a.inputs[1]));
  else if (a.outputs[0] != a.inputs[0])
    launch_element_wise(Copy{}, n, stream_of(a), floats(a.outputs[0]), floats(a.inputs[0]));
}

void run_move(const OpShape& shape, const KernelArguments& a) {
  launch_element_wise(Move{a.scalars}, element_count(shape.inputs[0]), stream_of(a), floats(a.outputs[0]),
                      floats(a.inputs[0]), floats(a.inputs[1]));
}

}  // namespace

void register_sgd_update_cuda(OpRegistry& registry) {
  const auto add = [&](const char* kind, void (*function)(const OpShape&, const KernelArguments&)) {
    registry.add_kernels(kind, kCudaBackend, {.workspace = {}, .make_kernel = [function](const OpShape& s) {
                                                return function_kernel(s, function);
                                              }});
  };
  add("sgd_update", run);
  add("momentum_accumulate", run_accumulate);
  add("momentum_decay", run_decay);
  add("momentum_update", run_move);
}

}  // namespace thimble
