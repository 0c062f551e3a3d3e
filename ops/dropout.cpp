// Dropout whose mask is a function of (seed, step, stream, sample, element) and is never stored: its own backward.
#include "registration.h"
#include "thimble/philox.h"

namespace thimble {
namespace {

void run(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t elements = elements_per_sample(shape.inputs[0]);
  const auto rate = static_cast<float>(real_attribute(shape.attributes, "rate"));
  const auto stream = static_cast<std::uint32_t>(int_attribute(shape.attributes, "stream"));
  const float scale = 1.0f / (1.0f - rate);
  for (std::int64_t n = 0; n < a.samples.size(); ++n)
    for (std::int64_t e = 0; e < elements; e += 4) {
      const PhiloxBlock random =
          philox({static_cast<std::uint32_t>(e / 4), static_cast<std::uint32_t>(a.samples.begin + n), stream,
                  static_cast<std::uint32_t>(a.scalars->step)},
                 a.scalars->seed);
      for (std::int64_t i = 0; i < std::min<std::int64_t>(4, elements - e); ++i) {
        const std::int64_t at = n * elements + e + i;
        floats(a.outputs[0])[at] =
            uniform_from(random[static_cast<std::size_t>(i)]) > rate ? scale * floats(a.inputs[0])[at] : 0.0f;
      }
    }
}

}  // namespace

void register_dropout(OpRegistry& registry) {
  OpDefinition dropout;
  dropout.kind = "dropout";
  dropout.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("dropout", in, 1);
    const double rate = real_attribute(attributes, "rate");
    int_attribute(attributes, "stream");
    if (in[0].dtype != DType::f32 || !in[0].batched || !(rate >= 0 && rate < 1))
      throw InvalidArgument("dropout: takes a batched f32 tensor and a rate in [0, 1), got " + std::to_string(rate));
    return outputs_like(in[0]);
  };
  dropout.gradient = [](GradientContext& g) {
    g.set_input_gradient(0, g.emit("dropout", "d_input", {g.output_gradient(0)}, g.op().attributes).front());
  };
  dropout.make_kernel = [](const OpShape& s) { return function_kernel(s, run); };
  dropout.in_place = {{0, 0}};
  registry.add(dropout);
}

}  // namespace thimble
