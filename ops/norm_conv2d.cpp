// norm_conv2d = conv2d of the rectified, normalised x, where the normalised values exist for a group of samples at a
// time: each task normalises a group into a scratch and convolves that, then adds it to another tensor if asked to.
#include "norm_conv2d.h"
#include "convolution_types.h"
#include "normalized_input.h"
#include "registration.h"
#include "remembered.h"
#include "vector_sum.h"

namespace thimble {
namespace {

// Half of a small second cache: twice as much is up to 5 % slower, a whole chunk 10 %.
constexpr Bytes kScratch{128 * 1024};

using namespace norm_conv_forward;

ConvolutionSizes sizes_of(const OpShape& shape) {
  return convolution_sizes(shape.inputs[kNormX], shape.inputs[kWeights], shape.outputs[0], shape.attributes);
}

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

// Workspace: the engine's, one scale and one shift per channel, then the scratch of every slot, then what is added.
class NormConvolution final : public Kernel {
 public:
  explicit NormConvolution(const OpShape& shape)
      : shape_(shape),
        engine_(ConvolutionPass::forward, sizes_of(shape), int_attribute(shape.attributes, "group")),
        sizes_(NormSizes::of(shape.inputs[kNormX])),
        scratch_bytes_(normalized_input_scratch(shape, engine_.group(), sizes_.channels)),
        adds_(flag(shape.attributes, "add")),
        sum_elements_(adds_ ? elements_per_sample(shape.outputs[0]) : 0),
        sum_bytes_(align_up(Bytes{4 * engine_.group() * sum_elements_}, kAlignment)) {}

  Bytes workspace() const {
    return engine_.workspace(threads()) + scale_shift_bytes(sizes_.channels) +
           (scratch_bytes_ + sum_bytes_) * engine_.slots(threads());
  }

  void run(const KernelArguments& a) override {
    std::byte* own = a.workspace + engine_.workspace(threads()).value;
    const NormalizingReader normalizing{.rows_per_sample = sizes_.rows_per_sample,
                                        .first_channel = 0,
                                        .channels = sizes_.channels,
                                        .x = floats(a.inputs[kNormX]),
                                        .factors = normalized_input_factors(shape_, a, own),
                                        .scratch = own + scale_shift_bytes(sizes_.channels).value,
                                        .scratch_bytes = scratch_bytes_};
    const SampleReader first = normalizing.reader();
    if (!adds_) return engine_.run(first, a.inputs[kWeights], a.outputs[0], a.workspace, threads());
    const GroupAdder group{sum_elements_, floats(a.inputs[kAdded]), floats(a.outputs[0]),
                           normalizing.scratch + (scratch_bytes_ * engine_.slots(threads())).value, sum_bytes_};
    const SampleAdder adder{&group, GroupAdder::scratch, GroupAdder::add};
    engine_.run(first, a.inputs[kWeights], a.outputs[0], a.workspace, threads(), &adder);
  }

 private:
  int threads() const { return shape_.device.threads; }

  OpShape shape_;
  ConvolutionEngine engine_;
  NormSizes sizes_;
  Bytes scratch_bytes_;
  bool adds_;
  std::int64_t sum_elements_;
  Bytes sum_bytes_;
};

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  const bool adds = flag(attributes, "add");
  expect_inputs("norm_conv2d", in, kWeights + (adds ? 2 : 1));
  expect_normalized_input("norm_conv2d", in, attributes);
  expect_at_least_one("norm_conv2d", attributes, "group");
  const TensorType y = convolution_output("norm_conv2d", in[kNormX], in[kWeights], attributes);
  if (adds) expect_same("norm_conv2d", in[kAdded], y);
  return outputs_like(y);
}

}  // namespace

std::int64_t norm_conv_group(const TensorType& x) {
  return std::max<std::int64_t>(1, kScratch.value / (4 * elements_per_sample(x)));
}

void register_norm_conv2d(OpRegistry& registry) {
  OpDefinition forward;
  forward.kind = "norm_conv2d";
  forward.infer = infer;
  forward.cost = [](const OpShape& shape) { return convolution_cost(sizes_of(shape), shape); };
  forward.workspace = remembered([](const OpShape& shape) { return NormConvolution(shape).workspace(); });
  forward.make_kernel = [](const OpShape& shape) { return std::make_unique<NormConvolution>(shape); };
  forward.in_place = {{kAdded, 0}, {kNormX, 0}};  // a group of x is read before its result is written
  registry.add(forward);
}

}  // namespace thimble
