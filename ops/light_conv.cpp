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

TensorType logits(const TensorType&, const TapSizes& sizes) { return {DType::f32, {sizes.heads, sizes.kernel}, false}; }

Bytes backward_workspace(const OpShape& shape) {
  return Bytes{4 * Chunks::of(shape.inputs[0].shape[0], kChunks).count * element_count(shape.inputs[2])};
}

}  // namespace

void register_light_conv(OpRegistry& registry) {
  register_tap_convolution(registry, {.kind = "light_conv",
                                      .logits = logits,
                                      .logits_gradient = {"weight", {}, Role::gradient},
                                      .forward = forward,
                                      .backward = backward,
                                      .backward_workspace = backward_workspace});
}

}  // namespace thimble
