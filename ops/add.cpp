// The sum of two tensors, and the sum of one over the microbatches of a step.
#include <cstring>

#include "registration.h"
#include "thimble/parallel.h"
#include "vector_sum.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;

void add(const OpShape& shape, const KernelArguments& a) {
  const Chunks chunks = Chunks::of(element_count(shape.inputs[0]), kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    const std::int64_t at = chunks.begin(k);
    add_vectors(floats(a.inputs[0]) + at, floats(a.inputs[1]) + at, floats(a.outputs[0]) + at, chunks.end(k) - at);
  });
}

void accumulate(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]);
  if (a.first_microbatch)
    std::memcpy(a.outputs[0], a.inputs[0], static_cast<std::size_t>(4 * n));
  else
    add_vectors(floats(a.outputs[0]), floats(a.inputs[0]), floats(a.outputs[0]), n);
}

}  // namespace

void register_add(OpRegistry& registry) {
  OpDefinition sum;
  sum.kind = "add";
  sum.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_inputs("add", in, 2);
    expect_same("add", in[0], in[1]);
    if (in[0].dtype != DType::f32) throw InvalidArgument("add: its inputs are not f32");
    return outputs_like(in[0]);
  };
  sum.gradient = [](GradientContext& g) {
    g.set_input_gradient(0, g.output_gradient(0));
    g.set_input_gradient(1, g.output_gradient(0));
  };
  sum.make_kernel = [](const OpShape& s) { return function_kernel(s, add); };
  sum.in_place = {{0, 0}, {1, 0}};
  registry.add(sum);

  OpDefinition over_microbatches;
  over_microbatches.kind = kAccumulateKind;
  over_microbatches.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_inputs(kAccumulateKind, in, 1);
    if (in[0].dtype != DType::f32 || in[0].batched)
      throw InvalidArgument("accumulate: its input is batched or not f32; sums are over microbatches");
    return outputs_like(in[0]);
  };
  over_microbatches.make_kernel = [](const OpShape& s) { return function_kernel(s, accumulate); };
  over_microbatches.accumulates = true;
  registry.add(over_microbatches);
}

}  // namespace thimble
