// conv2d and its data gradient by cuDNN, for tf32: engines that a plan may choose where it has room for packed weights.
#pragma once

#include "convolution_cuda.h"
#include "cudnn_convolution.h"

namespace thimble {

/// The attribute of an op that names cuDNN's version and engine ("9.19.0/67:2=4,..."); absent: our own kernels.
inline constexpr const char* kCudnnEngine = "cudnn_engine";

bool uses_cudnn(const OpShape& shape);

/// Other attributes of the op, for OpKernels::faster: cuDNN's first engine whose bytes are the same with and without
/// the device. None for fp32, for channels that are no multiple of 4, and where cuDNN is not there.
std::vector<Attributes> cudnn_choices(CudnnPass pass, const ConvolutionGeometry& geometry, const OpShape& shape);

/// Packed weights and what such an engine may ask for.
Bytes cudnn_workspace(const ConvolutionGeometry& geometry);

/// `pass` is forward or backward_data. Throws EnvironmentError where cuDNN is of another version, or its engine needs
/// more than was booked.
/// Emulated, our own kernel runs instead: `own`.
std::unique_ptr<Kernel> cudnn_kernel(CudnnPass pass, const ConvolutionGeometry& geometry, const OpShape& shape,
                                     std::unique_ptr<Kernel> own);

/// cuDNN with the device's handle; null where kernels are emulated.
Cudnn* cudnn_here();

}  // namespace thimble
