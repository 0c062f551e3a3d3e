// One value from one of each input, in one launch: 16 bytes at a time where all addresses allow. An output may be an
// input.
//
//   struct Sum { __device__ float operator()(float a, float b) const { return a + b; } };
//   launch_element_wise(Sum{}, n, stream_of(a), sum, x, y);
#pragma once

#include "cuda_ops.h"

namespace thimble {

/// A thread has four values, or one of the last, which fill no vector; one of all where addresses do not allow vectors.
struct QuadCut {
  std::int64_t quads, threads;

  static QuadCut of(std::int64_t n, std::initializer_list<const void*> addresses) {
    const std::int64_t quads = are_aligned(addresses) ? n / 4 : 0;
    return {quads, n - 3 * quads};
  }
  __device__ bool is_quad(std::int64_t thread) const { return thread < quads; }
  __device__ std::int64_t first(std::int64_t thread) const { return thread < quads ? 4 * thread : 3 * quads + thread; }
};

template <class Function, class... Input>
__global__ void element_wise_kernel(Function f, QuadCut cut, float* to, const Input*... from) {
  const std::int64_t thread = global_thread();
  if (thread >= cut.threads) return;
  const std::int64_t at = cut.first(thread);
  if (!cut.is_quad(thread)) {
    to[at] = f(from[at]...);
    return;
  }
  const auto all = [&](auto... x) { return make_float4(f(x.x...), f(x.y...), f(x.z...), f(x.w...)); };
  simt::store4(to + at, all(simt::load4(from + at)...));
}

template <class Function, class... Input>
void launch_element_wise(Function f, std::int64_t n, cudaStream_t stream, float* to, const Input*... from) {
  const QuadCut cut = QuadCut::of(n, {to, from...});
  simt::launch(element_wise_kernel<Function, Input...>, blocks_for(cut.threads), kBlock, 0, stream, f, cut, to,
               from...);
}

}  // namespace thimble
