// Depthwise convolution along a sentence whose taps are a softmax of logits, row by row: what ops that differ in where
// the logits come from share. No window is unfolded and no band matrix built; the taps of one row exist at a time.
#pragma once

#include "random_words.h"
#include "tokens.h"

namespace thimble {

inline constexpr std::int64_t kMostTaps = kRandomWords;

/// A head has `channels / heads` channels, which share their taps. Tap k of row t reads row t + k - left.
struct TapSizes {
  std::int64_t room, channels, heads, kernel, left;
  float rate;  // of taps dropped

  /// Attributes: `heads`, `kernel`, `causal` (reads no later rows), `rate`, `stream`. x is {B, T, C}.
  static TapSizes of(const TensorType& x, const Attributes& attributes) {
    const std::int64_t taps = int_attribute(attributes, "kernel");
    return {x.shape[1],
            x.shape[2],
            int_attribute(attributes, "heads"),
            taps,
            flag(attributes, "causal") ? taps - 1 : (taps - 1) / 2,
            static_cast<float>(real_attribute(attributes, "rate"))};
  }
  std::int64_t head_channels() const { return channels / heads; }
};

/// The taps of one row: its softmax, and what is left of it after some are dropped and the others scaled.
struct RowTaps {
  float softmax[kMostTaps], dropped[kMostTaps];
  std::uint32_t words[kRandomWords];
};

/// Attribute `kernel`.
void expect_kernel(const std::string& kind, const Attributes& attributes);

/// Taps of one row: the softmax of `count` logits.
void make_softmax_taps(const float* logits, std::int64_t count, float* taps);

/// 2 FLOPs for each tap of each channel of x.
double tap_flops(const TensorType& x, const Attributes& attributes);

/// One head of one sentence. Addresses are of the sentence's first row; logits of row t begin at t * logit_stride.
struct TapHead {
  TapSizes sizes;
  std::int64_t head, length;
  const float *x, *logits;
  std::int64_t logit_stride;
  RandomSource random;

  void make_taps(std::int64_t row, RowTaps& taps) const;
  /// The head's channels of y; zero in the padding.
  void forward(float* y) const;
  /// Adds to the head's channels of dx what row `row` passes back, and sets the gradient of each of its softmax values.
  void backward(std::int64_t row, const RowTaps& taps, const float* dy, float* dx, float* softmax_gradient) const;
  /// Sets the head's channels of all rows to zero.
  void clear(float* dx) const;

 private:
  HalfOpen taps_inside(std::int64_t row) const;
};

/// What tells one kind of tap convolution from another. Takes x, its logits and the lengths; the gradient, `kind` +
/// "_backward", takes dy before them and makes the gradients of the first two.
struct TapConvolution {
  using Run = void (*)(const OpShape&, const KernelArguments&);
  std::string kind;
  TensorType (*logits)(const TensorType& x, const TapSizes& sizes);
  OutputSpec logits_gradient;  ///< suffix and role
  Run forward, backward;
  std::function<Bytes(const OpShape&)> backward_workspace{};
  std::vector<InPlacePair> backward_in_place{};
};

void register_tap_convolution(OpRegistry& registry, const TapConvolution& taps);

}  // namespace thimble
