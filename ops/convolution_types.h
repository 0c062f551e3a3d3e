// Which tensors a convolution takes and makes, for every op that convolves.
#pragma once

#include <string>

#include "convolution_engine.h"
#include "thimble/op_registry.h"

namespace thimble {

/// x, w and y are the types of the convolution's input, weights and output, wherever they stand in the op at hand.
ConvolutionSizes convolution_sizes(const TensorType& x, const TensorType& w, const TensorType& y,
                                   const Attributes& attributes);

/// The same for some of the input channels; weights stay where all of theirs lie.
ConvolutionSizes slice_of(ConvolutionSizes sizes, std::int64_t channels);

/// The type of y. Throws InvalidArgument, naming the kind, where the attributes are no window or nothing fits.
TensorType convolution_output(const std::string& kind, const TensorType& x, const TensorType& w,
                              const Attributes& attributes);

/// The type of w, whose window the attributes `kernel_height` and `kernel_width` say. Throws InvalidArgument likewise.
TensorType convolution_weights(const std::string& kind, const TensorType& x, const TensorType& y,
                               const Attributes& attributes);

/// Two FLOPs per product.
OpCost convolution_cost(const ConvolutionSizes& sizes, const OpShape& shape);

}  // namespace thimble
