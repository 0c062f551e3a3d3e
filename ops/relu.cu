// ReLU on CUDA. A thread makes a whole word of the mask, so no vote is needed and the CPU's bits come out.
#include "bit_mask.h"
#include "cuda_ops.h"

namespace thimble {
namespace {

__global__ void relu_forward_kernel(const float* x, float* y, std::int64_t n) {
  const std::int64_t i = global_thread();
  if (i < n) y[i] = x[i] < 0 ? 0.0f : x[i];  // a NaN stays one
}

// One thread a word of the mask: words begin anew with every sample.
__global__ void relu_masked_forward_kernel(const float* x, float* y, std::uint32_t* mask, std::int64_t words,
                                           std::int64_t elements, std::int64_t all_words) {
  const std::int64_t w = global_thread();
  if (w >= all_words) return;
  const std::int64_t sample = w / words, first = w % words * 32;
  const float* from = x + sample * elements;
  float* to = y + sample * elements;
  std::uint32_t bits = 0;
  for (std::int64_t e = first; e < first + 32 && e < elements; ++e) {
    const float value = from[e] < 0 ? 0.0f : from[e];
    to[e] = value;
    bits |= static_cast<std::uint32_t>(value > 0) << (e - first);
  }
  mask[w] = bits;
}

__global__ void relu_backward_kernel(const float* dy, const float* y, float* dx, std::int64_t n) {
  const std::int64_t i = global_thread();
  if (i < n) dx[i] = y[i] > 0 ? dy[i] : 0.0f;
}

__global__ void relu_masked_backward_kernel(const float* dy, const std::uint32_t* mask, float* dx, std::int64_t words,
                                            std::int64_t elements, std::int64_t n) {
  const std::int64_t i = global_thread();
  if (i >= n) return;
  const std::int64_t sample = i / elements, e = i % elements;
  const std::uint32_t bits = mask[sample * words + e / 32];
  dx[i] = (bits >> (e % 32) & 1u) != 0 ? dy[i] : 0.0f;
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]), elements = elements_per_sample(shape.inputs[0]);
  if (!flag(shape.attributes, "mask")) {
    simt::launch(relu_forward_kernel, blocks_for(n), kBlock, 0, stream_of(a), floats(a.inputs[0]), floats(a.outputs[0]),
                 n);
    return;
  }
  const std::int64_t words = mask_words(elements), all_words = words * (n / elements);
  simt::launch(relu_masked_forward_kernel, blocks_for(all_words), kBlock, 0, stream_of(a), floats(a.inputs[0]),
               floats(a.outputs[0]), reinterpret_cast<std::uint32_t*>(a.outputs[1]), words, elements, all_words);
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]), elements = elements_per_sample(shape.inputs[0]);
  if (flag(shape.attributes, "use_mask"))
    simt::launch(relu_masked_backward_kernel, blocks_for(n), kBlock, 0, stream_of(a), floats(a.inputs[0]),
                 reinterpret_cast<const std::uint32_t*>(a.inputs[1]), floats(a.outputs[0]), mask_words(elements),
                 elements, n);
  else
    simt::launch(relu_backward_kernel, blocks_for(n), kBlock, 0, stream_of(a), floats(a.inputs[0]), floats(a.inputs[1]),
                 floats(a.outputs[0]), n);
}

}  // namespace

void register_relu_cuda(OpRegistry& registry) {
  registry.add_kernels("relu", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels("relu_backward", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
