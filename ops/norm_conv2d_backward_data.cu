// The gradient of x where y = conv2d(relu(batch_norm(x)), w), on CUDA: by slices of channels, as on the CPU, so that
// the gradient of the normalised values never exists as a whole and what it is added to, or x, may become the result. A
// slice takes three launches, or four where two convolutions read the same values.
#include "norm_conv2d_backward_data_cuda.h"

#include "normalized_input_cuda.h"

namespace thimble {
namespace norm_conv_data {
namespace {

ConvolutionGeometry geometry_of(const OpShape& s) {
  return thimble::geometry_of(s.inputs[kX], s.inputs[kW], s.inputs[kDy], s.attributes);
}

ConvolutionGeometry second_geometry_of(const OpShape& s) {
  return thimble::geometry_of(s.inputs[kX], s.inputs[kSecondW], s.inputs[kSecondDy], second_window(s.attributes));
}

bool is_pair(const OpShape& shape) { return shape.inputs.size() == kInputs + 2; }

bool has_slices(const OpShape& shape) { return groups_per_sample(shape.inputs[kMean]) == 0; }

std::int64_t samples_of(const OpShape& shape) { return shape.inputs[kX].shape[0]; }
std::int64_t channels_of(const OpShape& shape) { return shape.inputs[kX].shape[3]; }

std::int64_t channels_at_once(const OpShape& shape) {
  return std::min(int_attribute(shape.attributes, "channels"), channels_of(shape));
}

SampleChannels slice_at(const OpShape& shape, std::int64_t channel) {
  const std::int64_t all = channels_of(shape);
  return {{0, samples_of(shape)}, {channel, std::min(all, channel + channels_at_once(shape))}};
}

// The gradient of the slice's normalised values, then the normalisation's sums: the last slice may be narrower and have
// more parts.
Bytes gradient_bytes(const OpShape& shape) {
  const TensorType& x = shape.inputs[kX];
  return align_up(Bytes{4 * x.shape[0] * x.shape[1] * x.shape[2] * channels_at_once(shape)}, kAlignment);
}

Bytes slices_workspace(const OpShape& shape) {
  const std::int64_t width = channels_at_once(shape), rest = channels_of(shape) % width;
  Bytes sums = norm_gradient_workspace_cuda(rows_of(shape, slice_at(shape, 0)));
  if (rest != 0)
    sums = std::max(sums, norm_gradient_workspace_cuda(rows_of(shape, slice_at(shape, channels_of(shape) - rest))));
  return gradient_bytes(shape) + sums;
}

void run_slices(const OpShape& shape, const KernelArguments& a) {
  for (std::int64_t c = 0; c < channels_of(shape); c += channels_at_once(shape)) {
    const SampleChannels slice = slice_at(shape, c);
    launch_data_gradient(shape, a, slice, floats(a.workspace));
    launch_norm_gradient(norm_gradient(shape, a, slice, floats(a.workspace)), a.workspace + gradient_bytes(shape).value,
                         stream_of(a));
  }
}

std::vector<Attributes> wider_slices(const OpShape& shape) {
  std::vector<Attributes> wider;
  const std::int64_t all = channels_of(shape);
  for (std::int64_t channels = channels_at_once(shape); channels < all;) {
    channels = std::min(2 * channels, all);
    wider.push_back(shape.attributes);
    wider.back()["channels"] = channels;
  }
  return wider;
}

// What narrow slices leave idle, by how well the convolution's tiles of so few channels do: 4 of 32 take 1.7 times as
// long as all at once. An estimate.
double idle_share(const OpShape& shape) {
  constexpr double kIdleChannels = 3;
  return kIdleChannels / static_cast<double>(channels_at_once(shape)) -
         kIdleChannels / static_cast<double>(channels_of(shape));
}

// First a convolution makes the gradient of the normalised values, then this and x are read twice, and dx is written.
OpCost cost(const OpShape& shape) {
  constexpr double kPasses = 5, kOfLaunch = 7;  // the latter as OpCost has them, on an H200
  OpCost total = bytes_moved(shape);
  total.flops = flops_of(shape);
  std::int64_t launches = 0;
  if (has_slices(shape)) {
    const std::int64_t width = channels_at_once(shape), slices = (channels_of(shape) + width - 1) / width;
    launches = slices * (launches_of_data_gradient(shape) + 2);
    total.idle_flops = idle_share(shape) * total.flops;
  } else {
    launches = group_norm_launches(shape);
  }
  convolution_paces(math_of(shape), true).backward_data.add_to(total);
  total.idle_flops += kPasses * static_cast<double>(bytes_of(shape.inputs[kX]).value) * shape.device.flops_per_second /
                      shape.device.bytes_per_second;
  total.launches = kOfLaunch * static_cast<double>(launches);
  return total;
}

OpKernels kernels() {
  return {
      .workspace = [](const OpShape& s) { return has_slices(s) ? slices_workspace(s) : group_norm_workspace_cuda(s); },
      .make_kernel =
          [](const OpShape& s) { return function_kernel(s, has_slices(s) ? run_slices : run_group_norm_cuda); },
      .faster = [](const OpShape& s) { return has_slices(s) ? wider_slices(s) : larger_groups(s, samples_of(s)); },
      .cost = cost};
}

}  // namespace

SampleChannels all_of(const OpShape& shape) { return {{0, samples_of(shape)}, {0, channels_of(shape)}}; }

double flops_of(const OpShape& shape) {
  return convolution_flops(geometry_of(shape)) + (is_pair(shape) ? convolution_flops(second_geometry_of(shape)) : 0);
}

void launch_data_gradient(const OpShape& shape, const KernelArguments& a, const SampleChannels& part, float* to) {
  const auto from = [&](Input input) {
    return floats(a.inputs[input]) + part.samples.begin * elements_per_sample(shape.inputs[input]);
  };
  BackwardDataConvolution call{.geometry = geometry_of(shape),
                               .dy = from(kDy),
                               .w = floats(a.inputs[kW]),
                               .dx = to,
                               .c_begin = static_cast<int>(part.channels.begin),
                               .c_end = static_cast<int>(part.channels.end),
                               .math = math_of(shape)};
  call.whole_samples = call.geometry.n;
  call.geometry.n = static_cast<int>(part.samples.size());
  convolve_backward_data(call, stream_of(a));
  if (!is_pair(shape)) return;
  call.geometry = second_geometry_of(shape);
  call.geometry.n = static_cast<int>(part.samples.size());
  call.dy = from(static_cast<Input>(kSecondDy));
  call.w = floats(a.inputs[kSecondW]);
  call.added = to;
  convolve_backward_data(call, stream_of(a));
}

std::int64_t launches_of_data_gradient(const OpShape& shape) { return is_pair(shape) ? 2 : 1; }

NormRows rows_of(const OpShape& shape, const SampleChannels& part) {
  NormRows rows = NormRows::of(shape.inputs[kX], !has_slices(shape));
  rows.samples = part.samples.size();
  rows.channels = part.channels.size();
  return rows;
}

NormGradientCuda norm_gradient(const OpShape& shape, const KernelArguments& a, const SampleChannels& part,
                               const float* dy) {
  const NormRows rows = rows_of(shape, part);
  const std::int64_t c = part.channels.begin, at = part.samples.begin * rows.rows_per_sample * rows.stride + c;
  const std::int64_t groups = has_slices(shape) ? rows.channels : groups_per_sample(shape.inputs[kMean]);
  const std::int64_t moments = has_slices(shape) ? c : part.samples.begin * groups;
  return {.rows = rows,
          .groups = groups,
          .epsilon = real_attribute(shape.attributes, "epsilon"),
          .dy = dy,
          .x = floats(a.inputs[kX]) + at,
          .gamma = floats(a.inputs[kGamma]) + c,
          .mean = floats(a.inputs[kMean]) + moments,
          .variance = floats(a.inputs[kVariance]) + moments,
          .gate = ReluGate::input,
          .beta = floats(a.inputs[kBeta]) + c,
          .after = flag(shape.attributes, "add") ? floats(a.inputs[kAdded]) + at : nullptr,
          .dx = floats(a.outputs[0]) + at,
          .dgamma = floats(a.outputs[1]) + c,
          .dbeta = floats(a.outputs[2]) + c};
}

}  // namespace norm_conv_data

void register_norm_conv2d_backward_data_cuda(OpRegistry& registry) {
  for (const char* kind : {norm_conv_data::kKind, norm_conv_data::kPairKind})
    registry.add_kernels(kind, kCudaBackend, norm_conv_data::kernels());
}

}  // namespace thimble
