// Lightweight convolution (Wu et al. 2019): depthwise, its taps a softmax of weights {heads, kernel} that all positions
// share; each position drops taps of its own.
#include "softmax_row.h"
#include "tap_convolution.h"
#include "thimble/parallel.h"
#include "vector_sum.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 8;

TapHead head_of(const TapSizes& sizes, std::int64_t sentence, std::int64_t head, std::int64_t length,
                const std::byte* x, const std::byte* weights, const RandomSource& random) {
  return {
      sizes, head,  length, floats(x) + sentence * sizes.room * sizes.channels, floats(weights) + head * sizes.kernel,
      0,     random};
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const TapSizes sizes = TapSizes::of(shape.inputs[0], shape.attributes);
  parallel_chunks(shape.device.threads, shape.inputs[0].shape[0] * sizes.heads, [&](std::int64_t task) {
    const std::int64_t sentence = task / sizes.heads;
    const std::int64_t length = length_of("light_conv", a.inputs[2], sentence, sizes.room);
    head_of(sizes, sentence, task % sizes.heads, length, a.inputs[0], a.inputs[1], random_source(a, shape, sentence))
        .forward(floats(a.outputs[0]) + sentence * sizes.room * sizes.channels);
  });
}

// A task is one head of some sentences, and sums the gradient of the softmax over them; these sums are added in order.
void backward(const OpShape& shape, const KernelArguments& a) {
  const TapSizes sizes = TapSizes::of(shape.inputs[0], shape.attributes);
  const std::int64_t weights = sizes.heads * sizes.kernel;
  const Chunks chunks = Chunks::of(shape.inputs[0].shape[0], kChunks);
  parallel_chunks(shape.device.threads, chunks.count * sizes.heads, [&](std::int64_t task) {
    const std::int64_t chunk = task / sizes.heads, head = task % sizes.heads;
    float* sums = floats(a.workspace) + chunk * weights + head * sizes.kernel;
    std::fill_n(sums, sizes.kernel, 0.0f);
    RowTaps taps;
    float gradient[kMostTaps];
    for (std::int64_t sentence = chunks.begin(chunk); sentence < chunks.end(chunk); ++sentence) {
      const std::int64_t at = sentence * sizes.room * sizes.channels;
      const std::int64_t length = length_of("light_conv_backward", a.inputs[3], sentence, sizes.room);
      const TapHead one =
          head_of(sizes, sentence, head, length, a.inputs[1], a.inputs[2], random_source(a, shape, sentence));
      one.clear(floats(a.outputs[0]) + at);
      for (std::int64_t t = 0; t < length; ++t) {
        one.make_taps(t, taps);
        one.backward(t, taps, floats(a.inputs[0]) + at, floats(a.outputs[0]) + at, gradient);
        add_vectors(sums, gradient, sums, sizes.kernel);
      }
    }
  });
  float* dw = floats(a.outputs[1]);
  std::copy_n(floats(a.workspace), weights, dw);
  for (std::int64_t k = 1; k < chunks.count; ++k) add_vectors(dw, floats(a.workspace) + k * weights, dw, weights);
  for (std::int64_t head = 0; head < sizes.heads; ++head) {
    TapHead one = head_of(sizes, 0, head, 1, a.inputs[1], a.inputs[2], {});
    one.sizes.rate = 0;
    RowTaps taps;
    one.make_taps(0, taps);
    pass_softmax(taps.softmax, dw + head * sizes.kernel, sizes.kernel);
  }
}

void expect_weights(const std::string& kind, const TensorType& x, const TensorType& w, const Attributes& attributes) {
  expect_taps(kind, x, attributes);
  const TapSizes sizes = TapSizes::of(x, attributes);
  expect_same(kind, w, {DType::f32, {sizes.heads, sizes.kernel}, false});
}

}  // namespace

void register_light_conv(OpRegistry& registry) {
  OpDefinition conv;
  conv.kind = "light_conv";
  conv.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("light_conv", in, 3);
    expect_weights("light_conv", in[0], in[1], attributes);
    expect_lengths("light_conv", in[2], in[0].shape[0]);
    return outputs_like(in[0]);
  };
  conv.gradient = [](GradientContext& g) {
    const auto made = g.emit("light_conv_backward", "backward",
                             {g.output_gradient(0), g.input(0), g.input(1), g.input(2)}, g.op().attributes);
    g.set_input_gradient(0, made[0]);
    g.set_input_gradient(1, made[1]);
  };
  conv.cost = [](const OpShape& s) { return tap_cost(s, 1); };
  conv.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  registry.add(conv);

  OpDefinition back;
  back.kind = "light_conv_backward";
  back.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    const std::string kind = "light_conv_backward";
    expect_inputs(kind, in, 4);
    expect_same(kind, in[0], in[1]);
    expect_weights(kind, in[1], in[2], attributes);
    expect_lengths(kind, in[3], in[0].shape[0]);
    return std::vector<OutputSpec>{{"", in[1]}, {"weight", in[2], Role::gradient}};
  };
  back.cost = [](const OpShape& s) { return tap_cost(s, 2); };
  back.workspace = [](const OpShape& s) {
    return Bytes{4 * Chunks::of(s.inputs[0].shape[0], kChunks).count * element_count(s.inputs[2])};
  };
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  registry.add(back);
}

}  // namespace thimble
