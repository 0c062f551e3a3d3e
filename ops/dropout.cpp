// Dropout whose mask is a function of (seed, step, stream, sample, element) and is never stored: its own backward.
#include <algorithm>

#include "registration.h"
#include "thimble/parallel.h"
#include "thimble/philox.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;
constexpr std::int64_t kLanes = 16;  // counters advanced together, so that the rounds can use vectors

// philox() of the counters (first + l, rest[1], rest[2], rest[3]) for l in [0, kLanes), one block after the other.
THIMBLE_CLONES void philox_lanes(std::uint32_t first, const PhiloxBlock& rest, std::uint64_t key,
                                 std::uint32_t* __restrict random) {
  std::uint32_t a[kLanes], b[kLanes], c[kLanes], d[kLanes];
  for (std::uint32_t l = 0; l < kLanes; ++l) a[l] = first + l, b[l] = rest[1], c[l] = rest[2], d[l] = rest[3];
  std::uint32_t key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    for (std::int64_t l = 0; l < kLanes; ++l) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53} * a[l], p1 = std::uint64_t{0xCD9E8D57} * c[l];
      a[l] = static_cast<std::uint32_t>(p1 >> 32) ^ b[l] ^ key0;
      b[l] = static_cast<std::uint32_t>(p1);
      c[l] = static_cast<std::uint32_t>(p0 >> 32) ^ d[l] ^ key1;
      d[l] = static_cast<std::uint32_t>(p0);
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  for (std::int64_t l = 0; l < kLanes; ++l) {
    random[4 * l] = a[l], random[4 * l + 1] = b[l], random[4 * l + 2] = c[l], random[4 * l + 3] = d[l];
  }
}

THIMBLE_CLONES void keep_some(const float* x, const std::uint32_t* __restrict random, float rate, float scale, float* y,
                              std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) {
    const float value = scale * x[i];
    y[i] = uniform_from(random[i]) > rate ? value : 0.0f;
  }
}

// Element e of a sample takes word e % 4 of the block with counter (e / 4, sample, stream, step).
void run(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t elements = elements_per_sample(shape.inputs[0]);
  const auto rate = static_cast<float>(real_attribute(shape.attributes, "rate"));
  const auto stream = static_cast<std::uint32_t>(int_attribute(shape.attributes, "stream"));
  const float scale = 1.0f / (1.0f - rate);
  const Chunks chunks = Chunks::of(shape.inputs[0].shape[0], kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    alignas(64) std::uint32_t random[4 * kLanes];
    for (std::int64_t n = chunks.begin(k); n < chunks.end(k); ++n)
      for (std::int64_t e = 0; e < elements; e += 4 * kLanes) {
        philox_lanes(
            static_cast<std::uint32_t>(e / 4),
            {0, static_cast<std::uint32_t>(a.samples.begin + n), stream, static_cast<std::uint32_t>(a.scalars->step)},
            a.scalars->seed, random);
        keep_some(floats(a.inputs[0]) + n * elements + e, random, rate, scale, floats(a.outputs[0]) + n * elements + e,
                  std::min(4 * kLanes, elements - e));
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
