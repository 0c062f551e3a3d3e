// Dropout on CUDA, the CPU's bits: a thread makes one block of random words for the four elements that take them.
#include "cuda_ops.h"
#include "formulas.h"

namespace thimble {
namespace {

struct Drop {
  KeepSome keep;
  std::uint32_t stream;
  std::uint32_t first_sample;          // in the step's batch
  std::int64_t elements, blocks, all;  // elements of a sample, random blocks of a sample and of the batch
};

template <bool kAligned>
__global__ void dropout_kernel(Drop drop, const StepScalars* scalars, const float* x, float* y) {
  const std::int64_t i = global_thread();
  if (i >= drop.all) return;
  const std::int64_t sample = i / drop.blocks, block = i - sample * drop.blocks;
  const PhiloxBlock words =
      philox({static_cast<std::uint32_t>(block), drop.first_sample + static_cast<std::uint32_t>(sample), drop.stream,
              static_cast<std::uint32_t>(scalars->step)},
             scalars->seed);
  const std::int64_t at = sample * drop.elements + 4 * block;
  if constexpr (kAligned) {
    const float4 all = simt::load4(x + at);
    simt::store4(y + at, make_float4(drop.keep(all.x, words[0]), drop.keep(all.y, words[1]), drop.keep(all.z, words[2]),
                                     drop.keep(all.w, words[3])));
  } else {
    for (std::size_t l = 0; l < 4; ++l)
      if (const auto e = static_cast<std::int64_t>(l); 4 * block + e < drop.elements)
        y[at + e] = drop.keep(x[at + e], words[l]);
  }
}

void run(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t elements = elements_per_sample(shape.inputs[0]), blocks = (elements + 3) / 4;
  const auto rate = static_cast<float>(real_attribute(shape.attributes, "rate"));
  const Drop drop{KeepSome(rate),
                  static_cast<std::uint32_t>(int_attribute(shape.attributes, "stream")),
                  static_cast<std::uint32_t>(a.samples.begin),
                  elements,
                  blocks,
                  blocks * shape.inputs[0].shape[0]};
  const bool is_whole = elements % 4 == 0 && are_aligned({a.inputs[0], a.outputs[0]});
  simt::launch(is_whole ? dropout_kernel<true> : dropout_kernel<false>, blocks_for(drop.all), kBlock, 0, stream_of(a),
               drop, a.scalars, floats(a.inputs[0]), floats(a.outputs[0]));
}

}  // namespace

void register_dropout_cuda(OpRegistry& registry) {
  registry.add_kernels("dropout", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, run); }});
}

}  // namespace thimble
