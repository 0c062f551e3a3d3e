// Which input is where in the ops that convolve normalised, rectified values, and in their gradients.
#pragma once

#include <cstddef>

#include "thimble/graph.h"

namespace thimble {

/// What every op reads first that works on normalised values.
enum NormalizedInput : std::size_t { kNormX, kNormMean, kNormVariance, kNormGamma, kNormBeta, kNormInputs };

namespace norm_conv_forward {
inline constexpr std::size_t kWeights = kNormInputs, kAdded = kNormInputs + 1;  // the latter with the attribute `add`
}

namespace norm_conv_data {

enum Input : std::size_t { kDy, kW, kX, kMean, kVariance, kGamma, kBeta, kInputs };
inline constexpr std::size_t kAdded = 7;                   // with the attribute `add`: what is added to dx
inline constexpr std::size_t kSecondDy = 7, kSecondW = 8;  // of a pair

inline constexpr const char* kKind = "norm_conv2d_backward_data";
inline constexpr const char* kPairKind = "norm_conv2d_pair_backward_data";

inline Attributes second_window(const Attributes& attributes) {
  return {{"stride", int_attribute(attributes, "second_stride")},
          {"padding", int_attribute(attributes, "second_padding")}};
}

}  // namespace norm_conv_data

}  // namespace thimble
