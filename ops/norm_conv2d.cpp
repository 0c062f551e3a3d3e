// norm_conv2d = conv2d of the rectified, normalised x, and its weights' gradient, where the normalised values exist for
// a group of samples at a time: each task normalises a group into a scratch and convolves that. The gradient of the
// normalised values is conv2d_backward_data, that of x batch_norm_backward gated by its input.
#include "norm_conv2d.h"
#include "convolution_types.h"
#include "normalization.h"
#include "registration.h"

namespace thimble {
namespace {

// Half of a small second cache: twice as much is up to 5 % slower, a whole chunk 10 %.
constexpr Bytes kScratch{128 * 1024};
// Output pixels a group's gradient sums up before it is added to the chunk's: the addition is 2 % of the work then.
constexpr std::int64_t kPixelsPerAddition = 1024;

// x, mean, variance, gamma, beta; behind them the weights, or the gradient of the output.
constexpr std::size_t kLast = 5;

ConvolutionSizes sizes_of(ConvolutionPass pass, const OpShape& shape) {
  if (pass == ConvolutionPass::forward)
    return convolution_sizes(shape.inputs[0], shape.inputs[kLast], shape.outputs[0], shape.attributes);
  return convolution_sizes(shape.inputs[0], shape.outputs[0], shape.inputs[kLast], shape.attributes);
}

Bytes sample_bytes(const TensorType& x) { return Bytes{4 * elements_per_sample(x)}; }

// Normalises a group into the scratch of the slot at hand.
struct NormalizingReader {
  NormSizes sizes;
  const float* x;
  ScaleShift factors;
  std::byte* scratch;
  Bytes scratch_bytes;

  static const std::byte* read(const void* context, HalfOpen samples, std::int64_t slot) {
    const auto& self = *static_cast<const NormalizingReader*>(context);
    std::byte* to = self.scratch + slot * self.scratch_bytes.value;
    normalize_rows(self.x + samples.begin * self.sizes.elements_per_sample(), floats(to),
                   samples.size() * self.sizes.rows_per_sample, self.sizes.channels, self.factors, true);
    return to;
  }
};

// Workspace: the engine's, one scale and one shift per channel, then the scratch of every slot.
class NormConvolution final : public Kernel {
 public:
  NormConvolution(ConvolutionPass pass, const OpShape& shape)
      : engine_(pass, sizes_of(pass, shape), int_attribute(shape.attributes, "group")),
        sizes_(NormSizes::of(shape.inputs[0])),
        scratch_bytes_(align_up(Bytes{4 * engine_.group() * sizes_.elements_per_sample()}, kAlignment)),
        epsilon_(real_attribute(shape.attributes, "epsilon")),
        threads_(shape.device.threads) {}

  Bytes workspace() const {
    return engine_.workspace(threads_) + scale_shift_bytes(sizes_.channels) + scratch_bytes_ * engine_.slots(threads_);
  }

  void run(const KernelArguments& a) override {
    std::byte* own = a.workspace + engine_.workspace(threads_).value;
    const NormalizingReader reader{sizes_, floats(a.inputs[0]),
                                   scale_shift(own, sizes_.channels, floats(a.inputs[3]), floats(a.inputs[4]),
                                               floats(a.inputs[1]), floats(a.inputs[2]), epsilon_),
                                   own + scale_shift_bytes(sizes_.channels).value, scratch_bytes_};
    engine_.run(SampleReader{&reader, NormalizingReader::read}, a.inputs[kLast], a.outputs[0], a.workspace, threads_);
  }

 private:
  ConvolutionEngine engine_;
  NormSizes sizes_;
  Bytes scratch_bytes_;
  double epsilon_;
  int threads_;
};

void expect_normalized(const std::string& kind, const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs(kind, in, kLast + 1);
  expect_activation(kind, in[0]);
  expect_channel_vectors(kind, in, 1, kLast);
  real_attribute(attributes, "epsilon");
  if (const std::int64_t group = int_attribute(attributes, "group"); group < 1)
    throw InvalidArgument(kind + ": groups of " + std::to_string(group) + " samples; a group has at least 1");
}

std::vector<OutputSpec> infer_forward(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_normalized("norm_conv2d", in, attributes);
  return outputs_like(convolution_output("norm_conv2d", in[0], in[kLast], attributes));
}

std::vector<OutputSpec> infer_weights(const std::vector<TensorType>& in, const Attributes& attributes) {
  const std::string kind = "norm_conv2d_backward_weights";
  expect_normalized(kind, in, attributes);
  return {{"", convolution_weights(kind, in[0], in[kLast], attributes), Role::gradient}};
}

OpDefinition definition(const char* kind, ConvolutionPass pass) {
  OpDefinition d;
  d.kind = kind;
  d.cost = [pass](const OpShape& shape) { return convolution_cost(sizes_of(pass, shape), shape); };
  d.workspace = [pass](const OpShape& shape) { return NormConvolution(pass, shape).workspace(); };
  d.make_kernel = [pass](const OpShape& shape) { return std::make_unique<NormConvolution>(pass, shape); };
  return d;
}

}  // namespace

std::int64_t norm_conv_group(const TensorType& x) {
  return std::max<std::int64_t>(1, kScratch.value / sample_bytes(x).value);
}

std::int64_t norm_conv_weights_group(const TensorType& x, const TensorType& dy, const TensorType& w) {
  const std::int64_t pixels = dy.shape[1] * dy.shape[2];
  const std::int64_t group = std::max(norm_conv_group(x), (kPixelsPerAddition + pixels - 1) / pixels);
  const std::int64_t chunk = ConvolutionEngine::chunks(ConvolutionPass::backward_weights, x.shape[0]).size;
  return sample_bytes(x) * chunk <= sample_bytes(x) * group + bytes_of(w) ? chunk : group;
}

void register_norm_conv2d(OpRegistry& registry) {
  OpDefinition forward = definition("norm_conv2d", ConvolutionPass::forward);
  forward.infer = infer_forward;
  registry.add(forward);
  OpDefinition weights = definition("norm_conv2d_backward_weights", ConvolutionPass::backward_weights);
  weights.infer = infer_weights;
  registry.add(weights);
}

}  // namespace thimble
