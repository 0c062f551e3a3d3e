// The gradient of w where y = conv2d(relu(batch_norm(x)), w). The normalised values exist for a group of samples at a
// time. It is made by slices of input channels, each slice in a task of its own, so that all partial gradients together
// are as large as the gradient of the slices at work: a partial gradient of all channels per chunk of samples would be
// several times the result.
#include "accumulation.h"
#include "convolution_types.h"
#include "norm_conv2d.h"
#include "normalized_input.h"
#include "registration.h"
#include "remembered.h"

namespace thimble {
namespace {

constexpr const char* kKind = "norm_conv2d_backward_weights";
constexpr std::size_t kDy = kNormInputs;

// Output pixels a group's gradient sums up before it is added to the chunk's: the addition is 2 % of the work then.
constexpr std::int64_t kPixelsPerAddition = 1024;
constexpr std::int64_t kWidestSlice = 32, kNarrowestSlice = 16;  // half as wide is up to 40 % slower

ConvolutionSizes sizes_of(const OpShape& s) {
  return convolution_sizes(s.inputs[kNormX], s.outputs[0], s.inputs[kDy], s.attributes);
}

// The samples of a slice are not cut in chunks: its task is one of many.
ConvolutionEngine engine_of(const OpShape& shape, std::int64_t channels) {
  const std::int64_t group = int_attribute(shape.attributes, "group");
  const ConvolutionSizes sizes = sizes_of(shape);
  if (channels == sizes.inputs) return {ConvolutionPass::backward_weights, sizes, group};
  return {ConvolutionPass::backward_weights, slice_of(sizes, channels), group, 1};
}

// Workspace: one scale and one shift per channel, then what each slice at work needs.
class NormConvolutionWeights final : public Kernel {
 public:
  explicit NormConvolutionWeights(const OpShape& shape)
      : shape_(shape),
        x_(NormSizes::of(shape.inputs[kNormX])),
        slices_{x_.channels, std::min(int_attribute(shape.attributes, "channels"), x_.channels)} {
    slices_.count = (slices_.total + slices_.size - 1) / slices_.size;
    const std::int64_t rest = slices_.total % slices_.size;
    for (std::int64_t slot = 0; slot < slots(); ++slot) {
      add_engine(slices_.size);
      if (rest != 0) add_engine(rest);
    }
  }

  Bytes workspace() const { return scale_shift_bytes(x_.channels) + slot_bytes_ * slots(); }

  void run(const KernelArguments& a) override {
    const NormalizedInputFactors factors = normalized_input_factors(shape_, a, a.workspace);
    const bool adds = adds_to_output(shape_, a);
    for (SliceEngine& slice : engines_) slice.engine.set_adding(adds);
    parallel_chunks_in_slots(threads(), slices_.count,
                             [&](std::int64_t s, std::int64_t slot) { run_slice(a, factors, s, slot); });
  }

 private:
  struct SliceEngine {
    ConvolutionEngine engine;
    Bytes scratch;
  };

  int threads() const { return shape_.device.threads; }
  int threads_of_slice() const { return slices_.count == 1 ? threads() : 1; }
  std::int64_t slots() const { return slot_count(threads(), slices_.count); }

  void add_engine(std::int64_t channels) {
    ConvolutionEngine engine = engine_of(shape_, channels);
    const Bytes scratch = normalized_input_scratch(shape_, engine.group(), channels);
    slot_bytes_ =
        std::max(slot_bytes_, engine.workspace(threads_of_slice()) + scratch * engine.slots(threads_of_slice()));
    engines_.push_back({std::move(engine), scratch});
  }

  void run_slice(const KernelArguments& a, const NormalizedInputFactors& factors, std::int64_t number,
                 std::int64_t slot) {
    const std::int64_t c = slices_.begin(number), channels = slices_.end(number) - c;
    const std::size_t per_slot = engines_.size() / static_cast<std::size_t>(slots());
    const std::size_t of_slot = static_cast<std::size_t>(slot) * per_slot;
    SliceEngine& slice = engines_[of_slot + (channels == slices_.size ? 0 : 1)];
    std::byte* own = a.workspace + (scale_shift_bytes(x_.channels) + slot_bytes_ * slot).value;
    const NormalizingReader normalizing{.rows_per_sample = x_.rows_per_sample,
                                        .first_channel = c,
                                        .channels = channels,
                                        .x = floats(a.inputs[kNormX]),
                                        .factors = factors,
                                        .scratch = own + slice.engine.workspace(threads_of_slice()).value,
                                        .scratch_bytes = slice.scratch};
    const std::vector<std::int64_t>& w = shape_.outputs[0].shape;
    slice.engine.run(normalizing.reader(), a.inputs[kDy], a.outputs[0] + 4 * c * w[2] * w[3], own, threads_of_slice());
  }

  OpShape shape_;
  NormSizes x_;
  Chunks slices_;  // of channels
  Bytes slot_bytes_;
  std::vector<SliceEngine> engines_;  // of each slot: for slices of full width, then, if there is one, for the rest
};

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  if (flag(attributes, "add"))
    throw InvalidArgument(std::string(kKind) + ": its attribute 'add' is the forward pass's");
  if (in.size() < kDy + 1) expect_inputs(kKind, in, kDy + 1);
  expect_normalized_input(kKind, in, attributes);
  for (const char* name : {"group", "channels"}) expect_at_least_one(kKind, attributes, name);
  return weights_gradient_output(kKind, in, kDy + 1, convolution_weights(kKind, in[kNormX], in[kDy], attributes),
                                 attributes);
}

}  // namespace

std::int64_t norm_conv_weights_slice(const TensorType& x) {
  return std::clamp(x.shape[3] / 2, std::min(kNarrowestSlice, x.shape[3]), kWidestSlice);
}

std::int64_t norm_conv_weights_group(const TensorType& x, const TensorType& dy, const TensorType& w,
                                     std::int64_t channels) {
  const bool is_sliced = channels < x.shape[3];
  TensorType read = x, made = w;
  read.shape[3] = made.shape[1] = channels;
  const std::int64_t pixels = dy.shape[1] * dy.shape[2];
  const std::int64_t group = std::max(norm_conv_group(read), (kPixelsPerAddition + pixels - 1) / pixels);
  const Attributes any_window{{"stride", std::int64_t{1}}, {"padding", std::int64_t{0}}};
  const ConvolutionSizes sizes = convolution_sizes(x, w, dy, any_window);
  const std::int64_t chunk =
      is_sliced ? sizes.samples : ConvolutionEngine::chunks(ConvolutionPass::backward_weights, sizes).size;
  const Bytes sample{4 * elements_per_sample(read)};
  return sample * chunk <= sample * group + bytes_of(made) ? chunk : group;
}

void register_norm_conv2d_backward_weights(OpRegistry& registry) {
  OpDefinition weights;
  weights.kind = kKind;
  weights.infer = infer;
  weights.cost = [](const OpShape& shape) { return convolution_cost(sizes_of(shape), shape); };
  weights.workspace = remembered([](const OpShape& shape) { return NormConvolutionWeights(shape).workspace(); });
  weights.make_kernel = [](const OpShape& shape) { return std::make_unique<NormConvolutionWeights>(shape); };
  weights.may_accumulate = true;
  registry.add(weights);
}

}  // namespace thimble
