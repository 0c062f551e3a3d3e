// What the kernels of norm_conv2d_backward_data and its pair share: the two convolutions.
#pragma once

#include "convolution_types.h"
#include "norm_conv_inputs.h"

namespace thimble::norm_conv_data {

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
