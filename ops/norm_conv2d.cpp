// norm_conv2d = conv2d of the rectified, normalised x, and its weights' gradient, by statistics of the batch or of
// every sample's groups of channels, where the normalised values exist for a group of samples at a time: each task
// normalises a group into a scratch and convolves that, then adds it to another tensor if asked to. The gradient of x
// is norm_conv2d_backward_data.
#include "norm_conv2d.h"
#include "convolution_types.h"
#include "normalization.h"
#include "registration.h"
#include "vector_sum.h"

namespace thimble {
namespace {

// Half of a small second cache: twice as much is up to 5 % slower, a whole chunk 10 %.
constexpr Bytes kScratch{128 * 1024};
// Output pixels a group's gradient sums up before it is added to the chunk's: the addition is 2 % of the work then.
constexpr std::int64_t kPixelsPerAddition = 1024;

// x, mean, variance, gamma, beta; behind them the weights, or the gradient of the output; then, with `add`, what the
// convolution is added to.
constexpr std::size_t kLast = 5, kAdded = 6;

ConvolutionSizes sizes_of(ConvolutionPass pass, const OpShape& shape) {
  if (pass == ConvolutionPass::forward)
    return convolution_sizes(shape.inputs[0], shape.inputs[kLast], shape.outputs[0], shape.attributes);
  return convolution_sizes(shape.inputs[0], shape.outputs[0], shape.inputs[kLast], shape.attributes);
}

Bytes sample_bytes(const TensorType& x) { return Bytes{4 * elements_per_sample(x)}; }

// Normalises a group into the scratch of the slot at hand, by factors that are there or, where every sample has its own
// statistics, are made in the slot.
struct NormalizingReader {
  NormSizes sizes;
  const float *x, *gamma, *beta;
  Moments moments;
  double epsilon;
  bool is_per_sample;
  ScaleShift of_batch;
  std::byte *factors, *scratch;
  Bytes scratch_bytes;

  static const std::byte* read(const void* context, HalfOpen samples, std::int64_t slot) {
    const auto& self = *static_cast<const NormalizingReader*>(context);
    std::byte* to = self.scratch + slot * self.scratch_bytes.value;
    const std::int64_t channels = self.sizes.channels, elements = self.sizes.elements_per_sample();
    if (!self.is_per_sample)
      normalize_rows(self.x + samples.begin * elements, floats(to), samples.size() * self.sizes.rows_per_sample,
                     channels, self.of_batch, true);
    for (std::int64_t n = samples.begin; self.is_per_sample && n < samples.end; ++n)
      normalize_rows(self.x + n * elements, floats(to) + (n - samples.begin) * elements, self.sizes.rows_per_sample,
                     channels, self.factors_of(self.factors + slot * scale_shift_bytes(channels).value, n), true);
    return to;
  }

  ScaleShift factors_of(std::byte* memory, std::int64_t sample) const {
    return scale_shift(memory, sizes.channels, gamma, beta, moments.of_sample(sample), epsilon);
  }
};

// Adds a group's convolution from the scratch of the slot at hand; `sum` may be `added`.
struct GroupAdder {
  std::int64_t elements_per_sample;
  const float* added;
  float* sum;
  std::byte* own;
  Bytes scratch_bytes;

  static std::byte* scratch(const void* context, std::int64_t slot) {
    const auto& self = *static_cast<const GroupAdder*>(context);
    return self.own + slot * self.scratch_bytes.value;
  }
  static void add(const void* context, HalfOpen samples, std::int64_t slot) {
    const auto& self = *static_cast<const GroupAdder*>(context);
    const std::int64_t at = samples.begin * self.elements_per_sample;
    add_vectors(floats(scratch(context, slot)), self.added + at, self.sum + at,
                samples.size() * self.elements_per_sample);
  }
};

// Workspace: the engine's, one scale and one shift per channel (of every slot, where every sample has its own), then
// the scratch of every slot, then what is added.
class NormConvolution final : public Kernel {
 public:
  NormConvolution(ConvolutionPass pass, const OpShape& shape)
      : pass_(pass),
        shape_(shape),
        engine_(pass, sizes_of(pass, shape), int_attribute(shape.attributes, "group")),
        sizes_(NormSizes::of(shape.inputs[0])),
        groups_(groups_per_sample(shape.inputs[1])),
        scratch_bytes_(align_up(Bytes{4 * engine_.group() * sizes_.elements_per_sample()}, kAlignment)),
        adds_(flag(shape.attributes, "add")),
        sum_elements_(adds_ ? elements_per_sample(shape.outputs[0]) : 0),
        sum_bytes_(align_up(Bytes{4 * engine_.group() * sum_elements_}, kAlignment)) {}

  Bytes workspace() const {
    return engine_.workspace(threads()) + factors_bytes() + (scratch_bytes_ + sum_bytes_) * engine_.slots(threads());
  }

  void run(const KernelArguments& a) override {
    std::byte* own = a.workspace + engine_.workspace(threads()).value;
    NormalizingReader reader{
        .sizes = sizes_,
        .x = floats(a.inputs[0]),
        .gamma = floats(a.inputs[3]),
        .beta = floats(a.inputs[4]),
        .moments = {floats(a.inputs[1]), floats(a.inputs[2]), groups_ != 0 ? groups_ : sizes_.channels},
        .epsilon = real_attribute(shape_.attributes, "epsilon"),
        .is_per_sample = groups_ != 0,
        .of_batch = {},
        .factors = own,
        .scratch = own + factors_bytes().value,
        .scratch_bytes = scratch_bytes_};
    if (!reader.is_per_sample) reader.of_batch = reader.factors_of(own, 0);
    const SampleReader first{&reader, NormalizingReader::read};
    engine_.set_adding(adds_weights_gradient(pass_, shape_, a));
    if (!adds_) return engine_.run(first, a.inputs[kLast], a.outputs[0], a.workspace, threads());
    const GroupAdder group{sum_elements_, floats(a.inputs[kAdded]), floats(a.outputs[0]),
                           reader.scratch + (scratch_bytes_ * engine_.slots(threads())).value, sum_bytes_};
    const SampleAdder adder{&group, GroupAdder::scratch, GroupAdder::add};
    engine_.run(first, a.inputs[kLast], a.outputs[0], a.workspace, threads(), &adder);
  }

 private:
  int threads() const { return shape_.device.threads; }
  Bytes factors_bytes() const {
    return scale_shift_bytes(sizes_.channels) * (groups_ != 0 ? engine_.slots(threads()) : 1);
  }

  ConvolutionPass pass_;
  OpShape shape_;
  ConvolutionEngine engine_;
  NormSizes sizes_;
  std::int64_t groups_;  // of channels in every sample; 0 where the statistics are the batch's
  Bytes scratch_bytes_;
  bool adds_;
  std::int64_t sum_elements_;
  Bytes sum_bytes_;
};

// `in` has kLast + 1 inputs at least.
void expect_normalized(const std::string& kind, const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_activation(kind, in[0]);
  expect_moments(kind, in, 1, in[0]);
  expect_channel_vectors(kind, in, 3, kLast);
  real_attribute(attributes, "epsilon");
  if (const std::int64_t group = int_attribute(attributes, "group"); group < 1)
    throw InvalidArgument(kind + ": groups of " + std::to_string(group) + " samples; a group has at least 1");
}

std::vector<OutputSpec> infer_forward(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("norm_conv2d", in, kLast + (flag(attributes, "add") ? 2 : 1));
  expect_normalized("norm_conv2d", in, attributes);
  const TensorType y = convolution_output("norm_conv2d", in[0], in[kLast], attributes);
  if (flag(attributes, "add")) expect_same("norm_conv2d", in[kAdded], y);
  return outputs_like(y);
}

std::vector<OutputSpec> infer_weights(const std::vector<TensorType>& in, const Attributes& attributes) {
  const std::string kind = "norm_conv2d_backward_weights";
  if (flag(attributes, "add")) throw InvalidArgument(kind + ": its attribute 'add' is the forward pass's");
  if (in.size() < kLast + 1) expect_inputs(kind, in, kLast + 1);
  expect_normalized(kind, in, attributes);
  return weights_gradient_output(kind, in, kLast + 1, convolution_weights(kind, in[0], in[kLast], attributes),
                                 attributes);
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
  const Attributes any_window{{"stride", std::int64_t{1}}, {"padding", std::int64_t{0}}};
  const ConvolutionSizes sizes = convolution_sizes(x, w, dy, any_window);
  const std::int64_t chunk = ConvolutionEngine::chunks(ConvolutionPass::backward_weights, sizes).size;
  return sample_bytes(x) * chunk <= sample_bytes(x) * group + bytes_of(w) ? chunk : group;
}

void register_norm_conv2d(OpRegistry& registry) {
  OpDefinition forward = definition("norm_conv2d", ConvolutionPass::forward);
  forward.infer = infer_forward;
  forward.in_place = {{kAdded, 0}};
  registry.add(forward);
  OpDefinition weights = definition("norm_conv2d_backward_weights", ConvolutionPass::backward_weights);
  weights.infer = infer_weights;
  weights.may_accumulate = true;
  registry.add(weights);
}

}  // namespace thimble
