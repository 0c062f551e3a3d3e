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

}  // namespace

TapSizes TapSizes::of(const TensorType& x, const Attributes& attributes) {
  const std::int64_t kernel = int_attribute(attributes, "kernel");
  return {x.shape[1],
          x.shape[2],
          int_attribute(attributes, "heads"),
          kernel,
          flag(attributes, "causal") ? kernel - 1 : (kernel - 1) / 2,
          static_cast<float>(real_attribute(attributes, "rate"))};
}

void expect_taps(const std::string& kind, const TensorType& x, const Attributes& attributes) {
  expect_tokens(kind, x);
  const std::int64_t heads = int_attribute(attributes, "heads"), kernel = int_attribute(attributes, "kernel");
  const double rate = real_attribute(attributes, "rate");
  int_attribute(attributes, "stream");
  if (heads < 1 || x.shape[2] % heads != 0)
    throw InvalidArgument(kind + ": " + std::to_string(heads) + " heads do not divide " + std::to_string(x.shape[2]) +
                          " channels");
  if (kernel < 1 || kernel > kMostTaps)
    throw InvalidArgument(kind + ": a kernel of " + std::to_string(kernel) + "; it has from 1 to " +
                          std::to_string(kMostTaps) + " taps");
  if (!(rate >= 0 && rate < 1))
    throw InvalidArgument(kind + ": a rate of " + std::to_string(rate) + "; it is from 0 to below 1");
}

// Row t of head h takes the words of blocks (t * heads + h) * kRandomBlocks and on.
void TapHead::make_taps(std::int64_t row, RowTaps& taps) const {
  const SoftmaxRow softmax = exponentials(logits + row * logit_stride, 1, taps.softmax, sizes.kernel);
  scale_row(taps.softmax, 1 / softmax.sum, sizes.kernel);
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

OpCost tap_cost(const OpShape& shape, double passes) {
  OpCost total = bytes_moved(shape);
  const auto kernel = static_cast<double>(int_attribute(shape.attributes, "kernel"));
  total.flops = passes * 2 * static_cast<double>(element_count(shape.inputs[0])) * kernel;
  return total;
}

}  // namespace thimble
