// One position of the causal convolutions on CUDA: a warp makes the channels of one head of one hypothesis. Slots and
// ancestors are as in step_conv.cpp.
#include <cmath>
#include <limits>

#include "decoding_cuda.h"
#include "quads.h"
#include "tap_convolution.h"

namespace thimble {
namespace {

constexpr int kWarps = kBlock / kLanes;

enum Input : std::size_t { kX, kLogits, kRing, kAncestors, kLengths, kPosition };
enum Output : std::size_t { kY, kNewRing };

struct StepSizes {
  int sentences, beam, channels, heads, kernel, depth;
  std::int64_t first_row;
  bool is_dynamic;  // logits {N, B, heads * kernel}, else {heads, kernel} for all positions

  __device__ std::int64_t place(int sentence, int hypothesis, int position) const {
    return ((first_row + std::int64_t{sentence} * beam + hypothesis) * kernel + position % kernel) * channels;
  }
};

__device__ float warp_max(float value) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

// A lane has every 32nd tap.
__device__ void softmax_taps(const float* logits, int kernel, float* taps) {
  float largest = -std::numeric_limits<float>::infinity(), sum = 0;
  for (int k = lane_of_thread(); k < kernel; k += kLanes) largest = fmaxf(largest, logits[k]);
  largest = warp_max(largest);
  for (int k = lane_of_thread(); k < kernel; k += kLanes) {
    taps[k] = expf(logits[k] - largest);
    sum += taps[k];
  }
  const float factor = 1 / warp_sum(sum);
  for (int k = lane_of_thread(); k < kernel; k += kLanes) taps[k] *= factor;
}

// Values that the CPU throws for give NaN.
__global__ void step_conv_kernel(const float* x, const float* logits, const float* ring, const std::int32_t* ancestors,
                                 const std::int32_t* lengths, const std::int32_t* position, float* y, float* new_ring,
                                 StepSizes s) {
  SIMT_SHARED(float, all_taps, [kWarps][kMostTaps]);
  SIMT_SHARED(const float*, all_rows, [kWarps][kMostTaps]);
  const int item = static_cast<int>(blockIdx.x) * kWarps + warp_of_thread();
  if (item >= s.sentences * s.beam * s.heads) return;
  const int row = item / s.heads, head = item % s.heads, n = row / s.beam, b = row % s.beam;
  const int count = s.channels / s.heads, t = position[0];
  const std::int64_t first = std::int64_t{row} * s.channels + head * count;
  const bool is_there = b < lengths[n], is_possible = t >= 0 && t < kMostPositions;
  if (!is_there || !is_possible) {
    for (int c = lane_of_thread(); c < count; c += kLanes)
      y[first + c] = is_there ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
    return;
  }
  float* taps = all_taps[warp_of_thread()];
  const float** rows = all_rows[warp_of_thread()];
  softmax_taps(logits + ((s.is_dynamic ? std::int64_t{row} * s.heads : 0) + head) * s.kernel, s.kernel, taps);
  for (int k = lane_of_thread(); k < s.kernel; k += kLanes) {
    const int back = s.kernel - 1 - k;
    rows[k] = x + first;
    if (back == 0 || back > t) continue;
    const int other = ancestors[std::int64_t{row} * s.depth + back - 1];
    if (other >= 0 && other < s.beam)
      rows[k] = ring + s.place(n, other, t - back) + head * count;
    else
      taps[k] = std::numeric_limits<float>::quiet_NaN();
  }
  __syncwarp();
  for (int c = lane_of_thread(); c < count; c += kLanes) {
    float sum = 0;
    for (int k = max(0, s.kernel - 1 - t); k < s.kernel; ++k) sum += taps[k] * rows[k][c];
    y[first + c] = sum;
    new_ring[s.place(n, b, t) + head * count + c] = x[first + c];
  }
}

void run(const char* kind, bool is_dynamic, const OpShape& shape, const KernelArguments& a) {
  const std::vector<std::int64_t>& x = shape.inputs[kX].shape;
  const TensorType& ring = shape.inputs[kRing];
  const auto whole = [](std::int64_t value) { return static_cast<int>(value); };
  const StepSizes sizes{whole(x[0]),
                        whole(x[1]),
                        whole(x[2]),
                        whole(int_attribute(shape.attributes, "heads")),
                        whole(int_attribute(shape.attributes, "kernel")),
                        whole(shape.inputs[kAncestors].shape[2]),
                        first_pool_row(kind, a, ring, x[0], x[1]),
                        is_dynamic};
  launch_copy_pool(ring, a.inputs[kRing], a.outputs[kNewRing], stream_of(a));
  simt::launch(step_conv_kernel, (sizes.sentences * sizes.beam * sizes.heads + kWarps - 1) / kWarps, kBlock, 0,
               stream_of(a), floats(a.inputs[kX]), floats(a.inputs[kLogits]), floats(a.inputs[kRing]),
               ints(a.inputs[kAncestors]), ints(a.inputs[kLengths]), ints(a.inputs[kPosition]), floats(a.outputs[kY]),
               floats(a.outputs[kNewRing]), sizes);
}

void register_kind(OpRegistry& registry, const char* kind, bool is_dynamic) {
  registry.add_kernels(kind, kCudaBackend,
                       {.workspace = {}, .make_kernel = [=](const OpShape& shape) {
                          return function_kernel(
                              shape, [=](const OpShape& s, const KernelArguments& a) { run(kind, is_dynamic, s, a); });
                        }});
}

}  // namespace

void register_step_conv_cuda(OpRegistry& registry) {
  register_kind(registry, "step_conv", true);
  register_kind(registry, "light_step_conv", false);
}

}  // namespace thimble
