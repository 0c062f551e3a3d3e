// Dynamic convolution on CUDA: the rows are those of tap_convolution.cu, the gradient of the logits is made here. It
// comes last: it may lie over the logits, of which the other reads those of a whole window.
#include "tap_kernels.h"

namespace thimble {
namespace {

template <int V>
__global__ void __launch_bounds__(kMostTileRows / kWarpRows * 32, V == 1 ? 3 : 4)
    dynamic_taps_backward_kernel(TapField f, const float* dy, const float* x, float* dlogits, bool aligned) {
  SIMT_DYN_SHARED(float, staged);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  float* const gradient = staged + f.window * 32 * V + warp * kWarpRows * f.kernel;
  const int of_sentence = f.heads * f.tiles, block = static_cast<int>(blockIdx.x);
  const int sentence = block / of_sentence, head = block % f.heads;
  const int first = block % of_sentence / f.heads * f.tile, length = f.length(sentence);
  if (first < length) tile_gradient<V>(f, dy, x, sentence, head, first, length, aligned, staged, gradient);

  // Only the lanes of a row read its logits, all before the first of them writes.
  const int part = lane & (f.lanes() - 1);
  for (int next = 0; next < kWarpRows; next += 32 >> f.lanes_log) {
    const int r = next + (lane >> f.lanes_log), row = first + warp * kWarpRows + r;
    const bool there = r < kWarpRows && row < length;
    const FourTaps taps = row_taps(f, sentence, head, row, part, there);
    float passed[4], mean = 0;
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int k = 4 * part + i;
      passed[i] = there && k < f.kernel ? taps.factor[i] * gradient[r * f.kernel + k] : 0.0f;
      mean = fmaf(taps.softmax[i], passed[i], mean);
    }
    for (int h = f.lanes() / 2; h > 0; h /= 2) mean += __shfl_xor_sync(kWholeWarp, mean, h);
    float* to = dlogits + sentence * f.sentence_logits + row * f.row_logits + head * f.kernel;
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i)
      if (r < kWarpRows && row < f.room && 4 * part + i < f.kernel)
        to[4 * part + i] = there ? taps.softmax[i] * (passed[i] - mean) : 0.0f;
  }
}

void forward(const OpShape& shape, const KernelArguments& a) {
  launch_tap_rows(tap_field(shape, a, 0), shape.inputs[0].shape[0], a, false);
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const TapField field = tap_field(shape, a, 1);
  const std::int64_t sentences = shape.inputs[0].shape[0];
  launch_tap_rows(field, sentences, a, true);
  const std::size_t shared = staged_bytes(field) + sizeof(float) * static_cast<std::size_t>(field.tile * field.kernel);
  const bool aligned = are_aligned(field, {a.inputs[0], a.inputs[1]});
  with_unit(field, [&](auto unit) {
    simt::launch(dynamic_taps_backward_kernel<unit()>, sentences * field.tiles * field.heads,
                 field.tile / kWarpRows * 32, shared, stream_of(a), field, floats(a.inputs[0]), floats(a.inputs[1]),
                 floats(a.outputs[1]), aligned);
  });
}

}  // namespace

void register_dynamic_conv_cuda(OpRegistry& registry) {
  registry.add_kernels("dynamic_conv", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels("dynamic_conv_backward", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
