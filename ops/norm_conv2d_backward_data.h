// What the kernels of norm_conv2d_backward_data and its pair share: which input is where, and the two convolutions.
#pragma once

#include "convolution_types.h"

namespace thimble::norm_conv_data {

enum Input : std::size_t { kDy, kW, kX, kMean, kVariance, kGamma, kBeta, kInputs };
inline constexpr std::size_t kAdded = 7;                   // with the attribute `add`: what is added to dx
inline constexpr std::size_t kSecondDy = 7, kSecondW = 8;  // of a pair

inline Attributes second_window(const Attributes& attributes) {
  return {{"stride", int_attribute(attributes, "second_stride")},
          {"padding", int_attribute(attributes, "second_padding")}};
}

inline ConvolutionSizes sizes_of(const OpShape& shape) {
  return convolution_sizes(shape.inputs[kX], shape.inputs[kW], shape.inputs[kDy], shape.attributes);
}

inline ConvolutionSizes second_sizes_of(const OpShape& shape) {
  return convolution_sizes(shape.inputs[kX], shape.inputs[kSecondW], shape.inputs[kSecondDy],
                           second_window(shape.attributes));
}

/// Where every sample has statistics of its own.
Bytes group_norm_workspace(const OpShape& shape, bool is_pair);
std::unique_ptr<Kernel> make_group_norm_kernel(const OpShape& shape, bool is_pair);

}  // namespace thimble::norm_conv_data
