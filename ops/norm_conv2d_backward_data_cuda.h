// What both CUDA kernels of norm_conv2d_backward_data, and of its pair, are made of: the gradient of the normalised
// values of some samples and channels, and the normalisation's own that takes it.
#pragma once

#include "convolution_cuda.h"
#include "norm_conv_inputs.h"
#include "normalization_cuda.h"

namespace thimble::norm_conv_data {

struct SampleChannels {
  HalfOpen samples, channels;
};
SampleChannels all_of(const OpShape& shape);

/// Of the convolution, or of both.
double flops_of(const OpShape& shape);

/// The gradient of the normalised values, that of a second convolution added: rows of as many channels. One launch, or
/// two.
void launch_data_gradient(const OpShape& shape, const KernelArguments& a, const SampleChannels& part, float* to);
std::int64_t launches_of_data_gradient(const OpShape& shape);

NormRows rows_of(const OpShape& shape, const SampleChannels& part);

/// Takes that from `dy`.
NormGradientCuda norm_gradient(const OpShape& shape, const KernelArguments& a, const SampleChannels& part,
                               const float* dy);

/// Where every sample has statistics of its own.
Bytes group_norm_workspace_cuda(const OpShape& shape);
void run_group_norm_cuda(const OpShape& shape, const KernelArguments& a);
std::int64_t group_norm_launches(const OpShape& shape);

}  // namespace thimble::norm_conv_data
