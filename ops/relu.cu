// ReLU on CUDA: the CPU's bits. Where samples are whole words of the mask, threads have four values; where not, one.
#include "bit_mask_cuda.h"
#include "element_wise_cuda.h"
#include "formulas.h"

namespace thimble {
namespace {

__device__ inline float4 rectify(float4 x) {
  const Rectify f;
  return make_float4(f(x.x), f(x.y), f(x.z), f(x.w));
}

// Bit i: whether value i is positive.
__device__ inline std::uint32_t positive(float4 x) {
  return static_cast<std::uint32_t>(x.x > 0) | static_cast<std::uint32_t>(x.y > 0) << 1 |
         static_cast<std::uint32_t>(x.z > 0) << 2 | static_cast<std::uint32_t>(x.w > 0) << 3;
}

// `quads` is a multiple of 8: as many threads have the values of a word.
__global__ void relu_quads_forward_kernel(const float* x, float* y, std::uint32_t* mask, std::int64_t quads) {
  const std::int64_t i = global_thread(), eighth = i % 8;
  std::uint32_t bits = 0;
  if (i < quads) {
    const float4 value = rectify(simt::load4(x + 4 * i));
    simt::store4(y + 4 * i, value);
    bits = positive(value) << (4 * eighth);
  }
  for (int distance = 4; distance > 0; distance /= 2) bits |= __shfl_xor_sync(0xffffffffu, bits, distance);
  if (eighth == 0 && i < quads) mask[i / 8] = bits;
}

__global__ void relu_quads_backward_kernel(const float* dy, const std::uint32_t* mask, float* dx, std::int64_t quads) {
  const std::int64_t i = global_thread();
  if (i >= quads) return;
  const float4 g = simt::load4(dy + 4 * i);
  const std::uint32_t bits = mask[i / 8] >> (i % 8 * 4);
  simt::store4(dx + 4 * i, make_float4((bits & 1u) != 0 ? g.x : 0.0f, (bits & 2u) != 0 ? g.y : 0.0f,
                                       (bits & 4u) != 0 ? g.z : 0.0f, (bits & 8u) != 0 ? g.w : 0.0f));
}

__global__ void relu_words_forward_kernel(const float* x, float* y, std::uint32_t* mask, MaskWords words) {
  float values[kWordsOfWarp];
  visit_mask_words(words, [&](int u, std::int64_t, std::int64_t e) { values[u] = e < 0 ? 0.0f : Rectify{}(x[e]); });
  visit_mask_words(words, [&](int u, std::int64_t word, std::int64_t e) {
    if (e >= 0) y[e] = values[u];
    const std::uint32_t bits = __ballot_sync(0xffffffffu, values[u] > 0);
    if (threadIdx.x % 32 == 0 && word < words.all) mask[word] = bits;
  });
}

__global__ void relu_words_backward_kernel(const float* dy, const std::uint32_t* mask, float* dx, MaskWords words) {
  visit_mask_words(words, [&](int, std::int64_t word, std::int64_t e) {
    if (e >= 0) dx[e] = (mask[word] >> (threadIdx.x % 32) & 1u) != 0 ? dy[e] : 0.0f;
  });
}

bool has_whole_words(std::int64_t elements, const void* from, const void* to) {
  return elements % 32 == 0 && are_aligned({from, to});
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]), elements = elements_per_sample(shape.inputs[0]);
  const float* x = floats(a.inputs[0]);
  float* y = floats(a.outputs[0]);
  if (!flag(shape.attributes, "mask")) return launch_element_wise(Rectify{}, n, stream_of(a), y, x);
  auto* mask = reinterpret_cast<std::uint32_t*>(a.outputs[1]);
  if (has_whole_words(elements, x, y)) {
    simt::launch(relu_quads_forward_kernel, blocks_for(n / 4), kBlock, 0, stream_of(a), x, y, mask, n / 4);
  } else {
    const MaskWords words = MaskWords::of(elements, n / elements);
    simt::launch(relu_words_forward_kernel, blocks_for(words), kBlock, 0, stream_of(a), x, y, mask, words);
  }
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]), elements = elements_per_sample(shape.inputs[0]);
  const float* dy = floats(a.inputs[0]);
  float* dx = floats(a.outputs[0]);
  if (!flag(shape.attributes, "use_mask"))
    return launch_element_wise(KeepPositive{}, n, stream_of(a), dx, dy, floats(a.inputs[1]));
  const auto* mask = reinterpret_cast<const std::uint32_t*>(a.inputs[1]);
  if (has_whole_words(elements, dy, dx)) {
    simt::launch(relu_quads_backward_kernel, blocks_for(n / 4), kBlock, 0, stream_of(a), dy, mask, dx, n / 4);
  } else {
    const MaskWords words = MaskWords::of(elements, n / elements);
    simt::launch(relu_words_backward_kernel, blocks_for(words), kBlock, 0, stream_of(a), dy, mask, dx, words);
  }
}

}  // namespace

void register_relu_cuda(OpRegistry& registry) {
  registry.add_kernels("relu", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels("relu_backward", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
