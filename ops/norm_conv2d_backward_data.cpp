// The gradient of x where y = conv2d(relu(batch_norm(x)), w): batch_norm_backward of conv2d_backward_data, some input
// channels at a time, because a normalisation's gradient needs all samples of a channel, but one channel only. So the
// gradient of the normalised values never exists as a whole, and what it is added to, or x, may become the result.
// Where two convolutions read the same normalised values, their gradients are summed here: a kind of its own. Where
// every sample has statistics of its own there are no slices: norm_conv2d_group_backward_data.cpp.
#include "norm_conv2d_backward_data.h"

#include "norm_conv2d.h"
#include "norm_gradient.h"
#include "normalized_input.h"
#include "registration.h"
#include "remembered.h"
#include "vector_sum.h"

namespace thimble {
namespace {

using namespace norm_conv_data;

constexpr std::int64_t kSmallest = 4, kSlices = 8;  // as thin as they get; a plan widens what is not at its peak

constexpr Bytes kGroup{128 * 1024};  // of the second convolution's gradient exist at a time in a task

// The data gradient of one convolution for a slice of its input channels: into the slice, or added to it.
class SliceGradient {
 public:
  SliceGradient(const ConvolutionSizes& sizes, std::int64_t channels, bool adds, int threads)
      : sizes_(sizes),
        elements_per_sample_(sizes.height * sizes.width * channels),
        engine_(ConvolutionPass::backward_data, slice_of(sizes, channels),
                adds ? std::max<std::int64_t>(1, kGroup.value / (4 * elements_per_sample_)) : 0),
        group_bytes_(adds ? align_up(Bytes{4 * engine_.group() * elements_per_sample_}, kAlignment) : Bytes{}),
        threads_(threads) {}

  Bytes workspace() const { return engine_.workspace(threads_) + group_bytes_ * engine_.slots(threads_); }

  void run(const std::byte* dy, const std::byte* w, std::int64_t first_channel, std::byte* slice,
           std::byte* workspace) {
    w += 4 * first_channel * sizes_.kernel_height * sizes_.kernel_width;
    if (group_bytes_ == Bytes{}) return engine_.run(dy, w, slice, workspace, threads_);
    const Sum sum{this, slice, workspace + engine_.workspace(threads_).value};
    const SampleAdder adder{&sum, Sum::scratch, Sum::add};
    engine_.run(dy, w, slice, workspace, threads_, &adder);
  }

 private:
  struct Sum {
    const SliceGradient* self;
    std::byte *slice, *groups;

    static std::byte* scratch(const void* context, std::int64_t slot) {
      const auto* sum = static_cast<const Sum*>(context);
      return sum->groups + slot * sum->self->group_bytes_.value;
    }
    static void add(const void* context, HalfOpen samples, std::int64_t slot) {
      const auto* sum = static_cast<const Sum*>(context);
      const std::int64_t elements = sum->self->elements_per_sample_;
      float* slice = floats(sum->slice) + samples.begin * elements;
      add_vectors(slice, floats(scratch(context, slot)), slice, samples.size() * elements);
    }
  };

  ConvolutionSizes sizes_;
  std::int64_t elements_per_sample_;
  ConvolutionEngine engine_;
  Bytes group_bytes_;
  int threads_;
};

// Workspace: the gradient of the slice's normalised values, then what the convolutions and the normalisation use in
// turn.
class NormConvolutionData final : public Kernel {
 public:
  NormConvolutionData(const OpShape& shape, bool is_pair)
      : shape_(shape),
        x_(NormSizes::of(shape.inputs[kX])),
        width_(std::min(int_attribute(shape.attributes, "channels"), x_.channels)),
        epsilon_(real_attribute(shape.attributes, "epsilon")) {
    const auto make = [&](std::int64_t channels) {
      Slice slice{channels, SliceGradient(sizes_of(shape), channels, false, threads()), {}};
      if (is_pair) slice.second.emplace(second_sizes_of(shape), channels, true, threads());
      slices_.push_back(std::move(slice));
    };
    make(width_);
    if (const std::int64_t rest = x_.channels % width_; rest != 0) make(rest);
  }

  Bytes workspace() const {
    Bytes turns = norm_gradient_workspace(norm_sizes(width_), width_, ReluGate::input);
    for (const Slice& slice : slices_) {
      turns = std::max(turns, slice.first.workspace());
      if (slice.second) turns = std::max(turns, slice.second->workspace());
    }
    return gradient_bytes() + turns;
  }

  void run(const KernelArguments& a) override {
    for (std::int64_t c = 0; c < x_.channels; c += width_)
      run_slice(a, c, x_.channels - c < width_ ? slices_.back() : slices_.front());
  }

 private:
  struct Slice {
    std::int64_t channels;
    SliceGradient first;
    std::optional<SliceGradient> second;
  };

  int threads() const { return shape_.device.threads; }
  Bytes gradient_bytes() const { return align_up(Bytes{4 * x_.samples * x_.rows_per_sample * width_}, kAlignment); }
  NormSizes norm_sizes(std::int64_t channels) const {
    NormSizes sizes = x_;
    sizes.channels = channels;
    return sizes;
  }

  void run_slice(const KernelArguments& a, std::int64_t c, Slice& slice) {
    std::byte* turns = a.workspace + gradient_bytes().value;
    slice.first.run(a.inputs[kDy], a.inputs[kW], c, a.workspace, turns);
    if (slice.second) slice.second->run(a.inputs[kSecondDy], a.inputs[kSecondW], c, a.workspace, turns);
    const NormGradient gradient{
        .sizes = norm_sizes(slice.channels),
        .stride = x_.channels,
        .epsilon = epsilon_,
        .dy = floats(a.workspace),
        .x = floats(a.inputs[kX]) + c,
        .gamma = floats(a.inputs[kGamma]) + c,
        .moments = {floats(a.inputs[kMean]) + c, floats(a.inputs[kVariance]) + c, slice.channels},
        .gate = ReluGate::input,
        .beta = floats(a.inputs[kBeta]) + c,
        .after = flag(shape_.attributes, "add") ? floats(a.inputs[kAdded]) + c : nullptr,
        .dx = floats(a.outputs[0]) + c,
        .dgamma = floats(a.outputs[1]) + c,
        .dbeta = floats(a.outputs[2]) + c};
    run_norm_gradient(gradient, turns, threads());
  }

  OpShape shape_;
  NormSizes x_;
  std::int64_t width_;
  double epsilon_;
  std::vector<Slice> slices_;  // of `width_` channels, then, if any are left, of fewer
};

void expect_gradient(const char* kind, const TensorType& dy, const TensorType& w, const TensorType& x,
                     const Attributes& window) {
  expect_activation(kind, dy);
  if (convolution_output(kind, x, w, window) != dy)
    throw InvalidArgument(std::string(kind) + ": the gradient does not fit the input it is asked for");
}

bool has_slices(const std::vector<TensorType>& in) { return groups_per_sample(in[kMean]) == 0; }

// `in` has kInputs inputs at least.
std::vector<OutputSpec> infer_common(const char* kind, const std::vector<TensorType>& in,
                                     const Attributes& attributes) {
  expect_activation(kind, in[kX]);
  expect_gradient(kind, in[kDy], in[kW], in[kX], attributes);
  expect_moments(kind, in, kMean, in[kX]);
  for (std::size_t i = kGamma; i < kInputs; ++i) expect_vector(kind, in[i], in[kX].shape[3]);
  real_attribute(attributes, "epsilon");
  if (has_slices(in)) expect_at_least_one(kind, attributes, "channels");
  return {{"", in[kX]}, {"gamma", in[kGamma], Role::gradient}, {"beta", in[kBeta], Role::gradient}};
}

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  const bool adds = flag(attributes, "add");
  expect_inputs(kKind, in, kInputs + (adds ? 1 : 0));
  if (adds) expect_same(kKind, in[kAdded], in[kX]);
  return infer_common(kKind, in, attributes);
}

std::vector<OutputSpec> infer_pair(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs(kPairKind, in, kInputs + 2);
  if (flag(attributes, "add")) throw InvalidArgument(std::string(kPairKind) + ": adds nothing but its pair");
  std::vector<OutputSpec> outputs = infer_common(kPairKind, in, attributes);
  expect_gradient(kPairKind, in[kSecondDy], in[kSecondW], in[kX], second_window(attributes));
  return outputs;
}

std::int64_t channels_at_once(const OpShape& shape) {
  return std::min(int_attribute(shape.attributes, "channels"), shape.inputs[kX].shape[3]);
}

// Measured with 32 channels: slices of 16 take 1.25 times as long as all at once, of 8 twice, of 4 four times.
double idle_share(const OpShape& shape) {
  constexpr double kIdleChannels = 8;
  return kIdleChannels / static_cast<double>(channels_at_once(shape)) -
         kIdleChannels / static_cast<double>(shape.inputs[kX].shape[3]);
}

std::vector<Attributes> wider_slices(const OpShape& shape) {
  std::vector<Attributes> wider;
  if (!has_slices(shape.inputs)) return wider;
  const std::int64_t all = shape.inputs[kX].shape[3];
  for (std::int64_t channels = channels_at_once(shape); channels < all;) {
    channels = std::min(2 * channels, all);
    wider.push_back(shape.attributes);
    wider.back()["channels"] = channels;
  }
  return wider;
}

OpDefinition definition(const char* kind, bool is_pair) {
  OpDefinition d;
  d.kind = kind;
  d.infer = is_pair ? infer_pair : infer;
  d.cost = [is_pair](const OpShape& shape) {
    OpCost total = convolution_cost(sizes_of(shape), shape);
    if (is_pair) total.flops += convolution_cost(second_sizes_of(shape), shape).flops;
    if (has_slices(shape.inputs)) total.idle_flops = idle_share(shape) * total.flops;
    return total;
  };
  d.faster = wider_slices;
  d.workspace = remembered([is_pair](const OpShape& shape) {
    return has_slices(shape.inputs) ? NormConvolutionData(shape, is_pair).workspace()
                                    : group_norm_workspace(shape, is_pair);
  });
  d.make_kernel = [is_pair](const OpShape& shape) -> std::unique_ptr<Kernel> {
    if (!has_slices(shape.inputs)) return make_group_norm_kernel(shape, is_pair);
    return std::make_unique<NormConvolutionData>(shape, is_pair);
  };
  d.in_place = {{kX, 0}};
  if (!is_pair) d.in_place.push_back({kAdded, 0});
  return d;
}

}  // namespace

std::int64_t norm_conv_slice(const TensorType& x) {
  return std::max(kSmallest, (x.shape[3] / kSlices + kSmallest - 1) / kSmallest * kSmallest);
}

void register_norm_conv2d_backward_data(OpRegistry& registry) {
  registry.add(definition(kKind, false));
  registry.add(definition(kPairKind, true));
}

}  // namespace thimble
