// norm_conv2d_backward_data where every sample has statistics of its own: a task makes the gradient of a few samples'
// normalised values, that of a second convolution beside it, and goes through the normalisation with them at once.
#include "group_norm_gradient.h"
#include "norm_conv2d.h"
#include "norm_conv2d_backward_data.h"
#include "registration.h"
#include "vector_sum.h"

namespace thimble::norm_conv_data {
namespace {

// Workspace: the engine's, the second engine's, what the normalisation sums and works in, then a slot's gradient of the
// normalised values, or two.
class GroupNormConvolutionData final : public Kernel {
 public:
  GroupNormConvolutionData(const OpShape& shape, bool is_pair)
      : shape_(shape),
        x_(NormSizes::of(shape.inputs[kX])),
        groups_(groups_per_sample(shape.inputs[kMean])),
        engine_(ConvolutionPass::backward_data, sizes_of(shape), norm_conv_group(shape.inputs[kX])),
        scratch_bytes_(align_up(Bytes{4 * engine_.group() * x_.elements_per_sample()}, kAlignment)) {
    if (is_pair) second_.emplace(ConvolutionPass::backward_data, second_sizes_of(shape), engine_.group());
  }

  Bytes workspace() const { return engines_bytes() + norm_bytes() + slot_bytes() * engine_.slots(threads()); }

  void run(const KernelArguments& a) override {
    std::byte* own = a.workspace + engines_bytes().value;
    const GroupNormGradient gradient({.sizes = x_,
                                      .stride = x_.channels,
                                      .epsilon = real_attribute(shape_.attributes, "epsilon"),
                                      .dy = nullptr,
                                      .x = floats(a.inputs[kX]),
                                      .gamma = floats(a.inputs[kGamma]),
                                      .moments = {floats(a.inputs[kMean]), floats(a.inputs[kVariance]), groups_},
                                      .gate = ReluGate::input,
                                      .beta = floats(a.inputs[kBeta]),
                                      .after = flag(shape_.attributes, "add") ? floats(a.inputs[kAdded]) : nullptr,
                                      .dx = floats(a.outputs[0]),
                                      .dgamma = floats(a.outputs[1]),
                                      .dbeta = floats(a.outputs[2])},
                                     own);
    if (second_) second_->prepare(a.inputs[kSecondW], a.workspace + engine_.workspace(threads()).value);
    const Groups groups{this, &gradient, second_ ? a.inputs[kSecondDy] : nullptr, own + norm_bytes().value};
    const SampleAdder adder{&groups, Groups::scratch, Groups::differentiate};
    engine_.run(a.inputs[kDy], a.inputs[kW], a.outputs[0], a.workspace, threads(), &adder);
    gradient.finish();
  }

 private:
  struct Groups {
    GroupNormConvolutionData* self;
    const GroupNormGradient* gradient;
    const std::byte* second_dy;
    std::byte* scratches;

    static std::byte* scratch(const void* context, std::int64_t slot) {
      const auto* groups = static_cast<const Groups*>(context);
      return groups->scratches + slot * groups->self->slot_bytes().value;
    }
    static void differentiate(const void* context, HalfOpen samples, std::int64_t slot) {
      const auto* groups = static_cast<const Groups*>(context);
      const std::int64_t elements = groups->self->x_.elements_per_sample();
      std::byte* dy = scratch(context, slot);
      if (groups->second_dy != nullptr) groups->self->add_second(groups->second_dy, samples, dy);
      for (std::int64_t n = samples.begin; n < samples.end; ++n)
        groups->gradient->run_sample(n, floats(dy) + (n - samples.begin) * elements);
    }
  };

  void add_second(const std::byte* second_dy, HalfOpen samples, std::byte* sum) {
    std::byte* second = sum + scratch_bytes_.value;
    second_->run_group(samples, second_dy + samples.begin * 4 * elements_per_sample(shape_.inputs[kSecondDy]), second);
    add_vectors(floats(sum), floats(second), floats(sum), samples.size() * x_.elements_per_sample());
  }

  int threads() const { return shape_.device.threads; }
  Bytes engines_bytes() const {
    return engine_.workspace(threads()) + (second_ ? second_->workspace(threads()) : Bytes{});
  }
  Bytes norm_bytes() const { return GroupNormGradient::workspace(x_, groups_, ReluGate::input); }
  Bytes slot_bytes() const { return scratch_bytes_ * (second_ ? 2 : 1); }

  OpShape shape_;
  NormSizes x_;
  std::int64_t groups_;
  ConvolutionEngine engine_;
  Bytes scratch_bytes_;
  std::optional<ConvolutionEngine> second_;
};

}  // namespace

Bytes group_norm_workspace(const OpShape& shape, bool is_pair) {
  return GroupNormConvolutionData(shape, is_pair).workspace();
}

std::unique_ptr<Kernel> make_group_norm_kernel(const OpShape& shape, bool is_pair) {
  return std::make_unique<GroupNormConvolutionData>(shape, is_pair);
}

}  // namespace thimble::norm_conv_data
