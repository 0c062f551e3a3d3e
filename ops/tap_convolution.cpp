#include "tap_convolution.h"

#include <algorithm>

#include "softmax_row.h"

namespace thimble {
namespace {

constexpr int kWide = 32;  // channels summed at once, in registers
constexpr int kLanes = 16;

// y = sum over taps of w[k] * row k of x.
THIMBLE_CLONES void weigh_rows(const float* __restrict x, std::int64_t stride, const float* __restrict w,
                               std::int64_t taps, float* __restrict y, std::int64_t n) {
  const std::int64_t even = n / kWide * kWide;
  for (std::int64_t i = 0; i < even; i += kWide) {
    float sums[kWide] = {};
    for (std::int64_t k = 0; k < taps; ++k)
      for (int l = 0; l < kWide; ++l) sums[l] += w[k] * x[k * stride + i + l];
    for (int l = 0; l < kWide; ++l) y[i + l] = sums[l];
  }
  for (std::int64_t i = even; i < n; ++i) {
    float sum = 0;
    for (std::int64_t k = 0; k < taps; ++k) sum += w[k] * x[k * stride + i];
    y[i] = sum;
  }
}

// g[k] = dy . row k of x, and row k of dx += w[k] * dy.
THIMBLE_CLONES void pass_rows(const float* __restrict dy, const float* __restrict x, std::int64_t stride,
                              const float* __restrict w, std::int64_t taps, float* __restrict dx, float* __restrict g,
                              std::int64_t n) {
  const std::int64_t even = n / kLanes * kLanes;
  for (std::int64_t k = 0; k < taps; ++k) {
    const float* row = x + k * stride;
    float* sum = dx + k * stride;
    float lanes[kLanes] = {};
    for (std::int64_t i = 0; i < even; i += kLanes)
      for (int l = 0; l < kLanes; ++l) {
        lanes[l] += dy[i + l] * row[i + l];
        sum[i + l] += w[k] * dy[i + l];
      }
    for (std::int64_t i = even; i < n; ++i) {
      lanes[i - even] += dy[i] * row[i];
      sum[i] += w[k] * dy[i];
    }
    g[k] = 0;
    for (int l = 0; l < kLanes; ++l) g[k] += lanes[l];
  }
}

// x, logits and lengths, from input `first` on.
void expect_taps(const std::string& kind, const std::vector<TensorType>& in, std::size_t first,
                 TensorType (*logits)(const TensorType&, const TapSizes&), const Attributes& attributes) {
  const TensorType& x = in[first];
  expect_tokens(kind, x);
  expect_heads(kind, x, attributes);
  expect_drop(kind, attributes);
  expect_kernel(kind, attributes);
  expect_same(kind, in[first + 1], logits(x, TapSizes::of(x, attributes)));
  expect_lengths(kind, in[first + 2], x.shape[0]);
}

OpCost tap_cost(const OpShape& shape, double passes) {
  OpCost total = bytes_moved(shape);
  total.flops = passes * tap_flops(shape.inputs[0], shape.attributes);
  return total;
}

}  // namespace

void expect_kernel(const std::string& kind, const Attributes& attributes) {
  if (const std::int64_t kernel = int_attribute(attributes, "kernel"); kernel < 1 || kernel > kMostTaps)
    throw InvalidArgument(kind + ": a kernel of " + std::to_string(kernel) + "; it has from 1 to " +
                          std::to_string(kMostTaps) + " taps");
}

void make_softmax_taps(const float* logits, std::int64_t count, float* taps) {
  const SoftmaxRow softmax = exponentials(logits, 1, taps, count);
  scale_row(taps, 1 / softmax.sum, count);
}

double tap_flops(const TensorType& x, const Attributes& attributes) {
  return 2 * static_cast<double>(element_count(x)) * static_cast<double>(int_attribute(attributes, "kernel"));
}

// Row t of head h takes the words of blocks (t * heads + h) * kRandomBlocks and on.
void TapHead::make_taps(std::int64_t row, RowTaps& taps) const {
  make_softmax_taps(logits + row * logit_stride, sizes.kernel, taps.softmax);
  if (sizes.rate == 0) {
    std::copy_n(taps.softmax, sizes.kernel, taps.dropped);
    return;
  }
  make_random_words(random, static_cast<std::uint32_t>((row * sizes.heads + head) * kRandomBlocks), taps.words);
  drop_values(taps.softmax, taps.words, sizes.rate, taps.dropped, sizes.kernel);
}

HalfOpen TapHead::taps_inside(std::int64_t row) const {
  return {std::max<std::int64_t>(0, sizes.left - row), std::min(sizes.kernel, length - row + sizes.left)};
}

void TapHead::forward(float* y) const {
  const std::int64_t n = sizes.head_channels(), first = head * n;
  RowTaps taps;
  for (std::int64_t t = 0; t < length; ++t) {
    make_taps(t, taps);
    const HalfOpen inside = taps_inside(t);
    weigh_rows(x + (t + inside.begin - sizes.left) * sizes.channels + first, sizes.channels,
               taps.dropped + inside.begin, inside.size(), y + t * sizes.channels + first, n);
  }
  for (std::int64_t t = length; t < sizes.room; ++t) std::fill_n(y + t * sizes.channels + first, n, 0.0f);
}

void TapHead::clear(float* dx) const {
  for (std::int64_t t = 0; t < sizes.room; ++t)
    std::fill_n(dx + t * sizes.channels + head * sizes.head_channels(), sizes.head_channels(), 0.0f);
}

void TapHead::backward(std::int64_t row, const RowTaps& taps, const float* dy, float* dx,
                       float* softmax_gradient) const {
  const std::int64_t n = sizes.head_channels(), first = head * n;
  const HalfOpen inside = taps_inside(row);
  const std::int64_t at = (row + inside.begin - sizes.left) * sizes.channels + first;
  std::fill_n(softmax_gradient, sizes.kernel, 0.0f);
  pass_rows(dy + row * sizes.channels + first, x + at, sizes.channels, taps.dropped + inside.begin, inside.size(),
            dx + at, softmax_gradient + inside.begin, n);
  if (sizes.rate != 0) drop_values(softmax_gradient, taps.words, sizes.rate, softmax_gradient, sizes.kernel);
}

void register_tap_convolution(OpRegistry& registry, const TapConvolution& taps) {
  const std::string back_kind = taps.kind + "_backward";
  OpDefinition conv;
  conv.kind = taps.kind;
  conv.infer = [taps](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs(taps.kind, in, 3);
    expect_taps(taps.kind, in, 0, taps.logits, attributes);
    return outputs_like(in[0]);
  };
  conv.gradient = [back_kind](GradientContext& g) {
    const auto made =
        g.emit(back_kind, "backward", {g.output_gradient(0), g.input(0), g.input(1), g.input(2)}, g.op().attributes);
    g.set_input_gradient(0, made[0]);
    g.set_input_gradient(1, made[1]);
  };
  conv.cost = [](const OpShape& s) { return tap_cost(s, 1); };
  conv.make_kernel = [run = taps.forward](const OpShape& s) { return function_kernel(s, run); };
  conv.fullest = full_sentences(2, {0});
  registry.add(conv);

  OpDefinition back;
  back.kind = back_kind;
  back.infer = [taps, back_kind](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs(back_kind, in, 4);
    expect_same(back_kind, in[0], in[1]);
    expect_taps(back_kind, in, 1, taps.logits, attributes);
    OutputSpec of_logits = taps.logits_gradient;
    of_logits.type = in[2];
    return std::vector<OutputSpec>{{"", in[1]}, of_logits};
  };
  back.cost = [](const OpShape& s) { return tap_cost(s, 2); };
  back.workspace = taps.backward_workspace;
  back.make_kernel = [run = taps.backward](const OpShape& s) { return function_kernel(s, run); };
  back.in_place = taps.backward_in_place;
  back.fullest = full_sentences(3, {1});
  registry.add(back);
}

}  // namespace thimble
