// Dynamic convolution (Wu et al. 2019): every position predicts the taps of its own depthwise convolution, shared by
// the channels of a head: softmax of logits {B, T, heads * kernel}, some of them dropped (DropConnect). The gradient
// computes the taps again: they are a hundredth of the work.
#include "softmax_row.h"
#include "tap_convolution.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

TapHead head_of(const TapSizes& sizes, std::int64_t task, std::int64_t length, const std::byte* x,
                const std::byte* logits, const RandomSource& random) {
  const std::int64_t sentence = task / sizes.heads, head = task % sizes.heads, stride = sizes.heads * sizes.kernel;
  return {sizes,
          head,
          length,
          floats(x) + sentence * sizes.room * sizes.channels,
          floats(logits) + sentence * sizes.room * stride + head * sizes.kernel,
          stride,
          random};
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const TapSizes sizes = TapSizes::of(shape.inputs[0], shape.attributes);
  parallel_chunks(shape.device.threads, shape.inputs[0].shape[0] * sizes.heads, [&](std::int64_t task) {
    const std::int64_t sentence = task / sizes.heads;
    const std::int64_t length = length_of("dynamic_conv", a.inputs[2], sentence, sizes.room);
    head_of(sizes, task, length, a.inputs[0], a.inputs[1], random_source(a, shape, sentence))
        .forward(floats(a.outputs[0]) + sentence * sizes.room * sizes.channels);
  });
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const TapSizes sizes = TapSizes::of(shape.inputs[0], shape.attributes);
  parallel_chunks(shape.device.threads, shape.inputs[0].shape[0] * sizes.heads, [&](std::int64_t task) {
    const std::int64_t sentence = task / sizes.heads, at = sentence * sizes.room * sizes.channels;
    const std::int64_t length = length_of("dynamic_conv_backward", a.inputs[3], sentence, sizes.room);
    const TapHead head = head_of(sizes, task, length, a.inputs[1], a.inputs[2], random_source(a, shape, sentence));
    const std::int64_t first_logit = (sentence * sizes.room * sizes.heads + head.head) * sizes.kernel;
    float *dx = floats(a.outputs[0]) + at, *dlogits = floats(a.outputs[1]) + first_logit;
    head.clear(dx);
    RowTaps taps;
    float gradient[kMostTaps];
    for (std::int64_t t = 0; t < sizes.room; ++t) {
      std::fill_n(gradient, sizes.kernel, 0.0f);
      if (t < length) {
        head.make_taps(t, taps);
        head.backward(t, taps, floats(a.inputs[0]) + at, dx, gradient);
        pass_softmax(taps.softmax, gradient, sizes.kernel);
      }
      std::copy_n(gradient, sizes.kernel, dlogits + t * head.logit_stride);
    }
  });
}

TensorType logits(const TensorType& x, const TapSizes& sizes) {
  return {DType::f32, {x.shape[0], x.shape[1], sizes.heads * sizes.kernel}, true};
}

}  // namespace

void register_dynamic_conv(OpRegistry& registry) {
  register_tap_convolution(registry, {.kind = "dynamic_conv",
                                      .logits = logits,
                                      .logits_gradient = {"logits", {}},
                                      .forward = forward,
                                      .backward = backward,
                                      .backward_in_place = {{2, 1}}});
}

}  // namespace thimble
