// The convolutions of every op that convolves on CUDA: three passes over NHWC activations and OIHW weights, enqueued on
// a stream. Forward and data gradient take no workspace; the weights' gradient takes partial sums if it is asked to
// cut the samples into splits. What is read can be normalised and rectified while it is read, what is written can be
// added to something, and the passes over input channels can be given some of them.
//
//   const ConvolutionGeometry g = geometry_of(shape.inputs[0], shape.inputs[1], shape.outputs[0], shape.attributes);
//   ForwardConvolution call{.geometry = g, .x = x, .w = w, .y = y, .math = math_of(shape)};
//   call.prologue = {.scale = scale, .shift = shift};  // y = conv(relu(x * scale + shift), w)
//   call.added = shortcut;                             // + shortcut
//   convolve_forward(call, stream_of(a));
//
// A range of samples is a geometry with fewer of them and pointers to the first. The order of all sums depends on the
// geometry (of the whole batch, where that is said), the channel range, the math and the splits, on nothing else: no
// atomics.
#pragma once

#include "cuda_ops.h"
#include "thimble/units.h"

namespace thimble {

/// One convolution, all of its channels.
struct ConvolutionGeometry {
  int n, h, w, c;    ///< x is {n, h, w, c}
  int k, r, s;       ///< w is {k, c, r, s}: k outputs, a window of r rows and s columns
  int stride, pad;   ///< both directions alike
  int out_h, out_w;  ///< y is {n, out_h, out_w, k}
  bool operator==(const ConvolutionGeometry&) const = default;
};

/// x, w and y are the types of the convolution's input, weights and output, wherever they stand in the op at hand;
/// `stride` and `padding` are read from the attributes. Throws InvalidArgument where a sample has 2^31 values or more.
ConvolutionGeometry geometry_of(const TensorType& x, const TensorType& w, const TensorType& y,
                                const Attributes& attributes);

double convolution_flops(const ConvolutionGeometry& geometry);

/// What products are made of: floats, or tf32 on tensor cores (sums are floats).
enum class ConvolutionMath { fp32, tf32 };
ConvolutionMath math_of(const OpShape& shape);  // device.math

/// x is read as max(0, x * scale + shift) (a product rounded, then a sum, as in normalization.cpp: a gate made from the
/// same expression has the same sign); zeros around the picture stay zeros. No transformation where scale is null.
struct ConvolutionPrologue {
  const float* scale = nullptr;  ///< of channel 0 of x, then one a channel
  const float* shift = nullptr;
  std::int64_t sample_pitch = 0;  ///< from one sample's scales to the next's; 0: all samples share them
};

/// How slow a pass is, as an H200 had it over the convolutions of WRN-28-2 in batches of 10 to 100 (tests/gpu/reports).
struct ConvolutionPace {
  double idle;      ///< what the device would do of matrix products meanwhile, as a share of the convolution's FLOPs
  double launches;  ///< as OpCost has them
  void add_to(OpCost& cost) const {
    cost.idle_flops += (cost.flops + cost.idle_flops) * idle;
    cost.launches = launches;
  }
};
struct ConvolutionPaces {
  ConvolutionPace forward, backward_data, backward_weights;
};
/// Of our own kernels. A prologue has a launch of its own.
ConvolutionPaces convolution_paces(ConvolutionMath math, bool has_prologue = false);

/// How many kinds of tiles there are, for tests and measurements.
int convolution_variants(ConvolutionMath math);

/// y = conv(x, w) [+ added]. `added` has y's layout and may be y itself. y may not overlap x.
struct ForwardConvolution {
  ConvolutionGeometry geometry;
  int whole_samples = 0;  ///< where these are some samples of a batch: all of them, so that bits are those of one call
  const float* x = nullptr;
  const float* w = nullptr;
  float* y = nullptr;
  const float* added = nullptr;
  ConvolutionPrologue prologue = {};
  ConvolutionMath math = ConvolutionMath::fp32;
  int variant = -1;  ///< which tiles, of `convolution_variants`; -1: what suits the geometry
};
void convolve_forward(const ForwardConvolution& call, cudaStream_t stream);

/// dx[..., c_begin to c_end) = gradient of x [+ added]: all of dx is written, also pixels no window reaches.
struct BackwardDataConvolution {
  ConvolutionGeometry geometry;
  int whole_samples = 0;  ///< as above
  const float* dy = nullptr;
  const float* w = nullptr;      ///< all of the weights
  float* dx = nullptr;           ///< of channel c_begin
  int c_begin = 0;               ///< of x's channels
  int c_end = 0;                 ///< 0: all
  int dx_pitch = 0;              ///< floats from pixel to pixel of dx; 0: as many as channels are made
  const float* added = nullptr;  ///< of channel c_begin, the same pitch; may be dx itself
  ConvolutionMath math = ConvolutionMath::fp32;
  int variant = -1;
};
void convolve_backward_data(const BackwardDataConvolution& call, cudaStream_t stream);

/// dw[:, c_begin to c_end) = gradient of w [+ added].
struct BackwardWeightsConvolution {
  ConvolutionGeometry geometry;
  const float* x = nullptr;  ///< all channels
  const float* dy = nullptr;
  float* dw = nullptr;  ///< all of the weights; other channels than those of the range are left alone
  int c_begin = 0;
  int c_end = 0;                 ///< 0: all
  const float* added = nullptr;  ///< laid out as dw is; may be dw itself
  ConvolutionPrologue prologue = {};
  int splits = 1;                  ///< partial sums of the samples, summed in order; as many as `most_splits` at most
  std::byte* workspace = nullptr;  ///< `backward_weights_workspace`
  ConvolutionMath math = ConvolutionMath::fp32;
};
void convolve_backward_weights(const BackwardWeightsConvolution& call, cudaStream_t stream);

/// What an op whose output 0 is a gradient of weights adds it to, as `adds_to_output` has it on the CPU; null: nothing.
const float* added_to_gradient(const OpShape& shape, const KernelArguments& arguments);

/// Splits that keep the partial sums within about a megabyte (1: none), and those that keep the device busy (no fewer):
/// more are no faster. `channels`: c_end - c_begin.
int default_splits(const ConvolutionGeometry& geometry, int channels, ConvolutionMath math = ConvolutionMath::fp32);
int most_splits(const ConvolutionGeometry& geometry, int channels, ConvolutionMath math = ConvolutionMath::fp32);
Bytes backward_weights_workspace(const ConvolutionGeometry& geometry, int channels, int splits);  // none for 1

/// The attribute of an op that says its splits; `default_splits` where it is absent.
inline constexpr const char* kSplits = "splits";
int splits_of(const OpShape& shape, const ConvolutionGeometry& geometry, int channels);
/// Other attributes of the op: doubled splits up to the most. For OpKernels::faster.
std::vector<Attributes> more_splits(const OpShape& shape, const ConvolutionGeometry& geometry, int channels);
/// The share of the device that these splits leave idle, as OpCost::idle_flops is of OpCost::flops.
double idle_share_of_splits(const ConvolutionGeometry& geometry, int channels, int splits,
                            ConvolutionMath math = ConvolutionMath::fp32);

}  // namespace thimble
