// Dropout whose mask is a function of (seed, step, stream, sample, element) and is never stored: its own backward.
#include <algorithm>

#include "random_words.h"
#include "registration.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;

// Element e of a sample takes word e % 4 of block e / 4.
void run(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t elements = elements_per_sample(shape.inputs[0]);
  const auto rate = static_cast<float>(real_attribute(shape.attributes, "rate"));
  const Chunks chunks = Chunks::of(shape.inputs[0].shape[0], kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    alignas(64) std::uint32_t words[kRandomWords];
    for (std::int64_t n = chunks.begin(k); n < chunks.end(k); ++n) {
      const RandomSource source = random_source(a, shape, n);
      for (std::int64_t e = 0; e < elements; e += kRandomWords) {
        make_random_words(source, static_cast<std::uint32_t>(e / 4), words);
        drop_values(floats(a.inputs[0]) + n * elements + e, words, rate, floats(a.outputs[0]) + n * elements + e,
                    std::min(kRandomWords, elements - e));
      }
    }
  });
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
