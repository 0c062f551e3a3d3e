// ReLU. Backward takes the sign from the output where that is kept anyway, else from a mask of one bit per element.
#include "bit_mask.h"
#include "formulas.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;

THIMBLE_CLONES void rectify(const float* x, float* y, std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) y[i] = Rectify{}(x[i]);
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t elements = elements_per_sample(shape.inputs[0]);
  const Chunks chunks = Chunks::of(shape.inputs[0].shape[0], kChunks);
  const bool mask = flag(shape.attributes, "mask");
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = chunks.begin(k); n < chunks.end(k); ++n) {
      float* y = floats(a.outputs[0]) + n * elements;
      rectify(floats(a.inputs[0]) + n * elements, y, elements);
      if (mask) write_mask(y, elements, reinterpret_cast<std::uint32_t*>(a.outputs[1]) + n * mask_words(elements));
    }
  });
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t elements = elements_per_sample(shape.inputs[0]);
  const Chunks chunks = Chunks::of(shape.inputs[0].shape[0], kChunks);
  const bool use_mask = flag(shape.attributes, "use_mask");
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = chunks.begin(k); n < chunks.end(k); ++n) {
      const float* dy = floats(a.inputs[0]) + n * elements;
      float* dx = floats(a.outputs[0]) + n * elements;
      if (use_mask)
        keep_masked(dy, reinterpret_cast<const std::uint32_t*>(a.inputs[1]) + n * mask_words(elements), 0, elements,
                    dx);
      else
        keep_positive(dy, floats(a.inputs[1]) + n * elements, elements, dx);
    }
  });
}

void expect_batched(const std::string& kind, const TensorType& type) {
  if (type.dtype != DType::f32 || !type.batched) throw InvalidArgument(kind + ": its input is no batched f32 tensor");
}

void gradient(GradientContext& g) {
  const bool use_mask = !g.is_kept(g.output(0));
  if (use_mask) g.change_forward("mask", std::int64_t{1});
  g.set_input_gradient(0, g.emit("relu_backward", "d_input", {g.output_gradient(0), g.output(use_mask ? 1 : 0)},
                                 {{"use_mask", std::int64_t{use_mask}}})
                              .front());
}

}  // namespace

void register_relu(OpRegistry& registry) {
  OpDefinition relu;
  relu.kind = "relu";
  relu.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("relu", in, 1);
    expect_batched("relu", in[0]);
    std::vector<OutputSpec> specs = outputs_like(in[0]);
    if (flag(attributes, "mask")) specs.push_back({"mask", {DType::bit, in[0].shape, true}});
    return specs;
  };
  relu.gradient = gradient;
  relu.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  relu.in_place = {{0, 0}};
  registry.add(relu);

  OpDefinition back;
  back.kind = "relu_backward";
  back.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("relu_backward", in, 2);
    expect_batched("relu_backward", in[0]);
    expect_same("relu_backward", in[1], {flag(attributes, "use_mask") ? DType::bit : DType::f32, in[0].shape, true});
    return outputs_like(in[0]);
  };
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.in_place = {{0, 0}};
  registry.add(back);
}

}  // namespace thimble
