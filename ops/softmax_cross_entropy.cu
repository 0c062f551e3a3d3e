// Softmax and cross-entropy on CUDA: a warp has a row. A label that names no class cannot be reported from here; it
// makes the loss a NaN.
#include "cuda_ops.h"

namespace thimble {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarps = 16;                  // of a block
constexpr std::int64_t kFewValues = 16384;  // which one block has: the loss is there at once

struct RowsSum {
  double loss;
  int correct;
};

template <class T>
__device__ inline T warp_sum(T value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

struct Largest {
  float value;
  std::int64_t at;  // the first of equal ones
};

__device__ inline Largest largest_of(const float* logits, std::int64_t classes, int lane) {
  Largest best{-INFINITY, lane};
  for (std::int64_t k = lane; k < classes; k += 32)
    if (logits[k] > best.value) best = {logits[k], k};
  for (int distance = 16; distance > 0; distance /= 2) {
    const float value = __shfl_xor_sync(kAllLanes, best.value, distance);
    const std::int64_t at = __shfl_xor_sync(kAllLanes, best.at, distance);
    if (value > best.value || (value == best.value && at < best.at)) best = {value, at};
  }
  return best;
}

// All lanes get the row's loss. Probabilities may lie over the logits: a lane reads what it overwrites.
__device__ inline RowsSum row_loss(const float* logits, std::int32_t label, std::int64_t classes,
                                   float* probabilities) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Largest best = largest_of(logits, classes, lane);
  double sum = 0;
  float own = 0;
  for (std::int64_t k = lane; k < classes; k += 32) {
    const float difference = logits[k] - best.value, p = expf(difference);
    if (k == label) own = difference;
    probabilities[k] = p;
    sum += static_cast<double>(p);
  }
  sum = warp_sum(sum);
  own = warp_sum(own);
  const double share = 1 / sum;
  for (std::int64_t k = lane; k < classes; k += 32)
    probabilities[k] = static_cast<float>(static_cast<double>(probabilities[k]) * share);
  if (label < 0 || label >= classes) own = NAN;
  return {log(sum) - static_cast<double>(own), best.at == label ? 1 : 0};
}

struct Loss {
  float *loss, *correct;
  double batch;
};

__device__ inline void write_loss(const Loss& to, const RowsSum& sum) {
  to.loss[0] = static_cast<float>(sum.loss / to.batch);
  to.correct[0] = static_cast<float>(sum.correct);
}

// Rows of a block are neighbours. What a block sums goes to `sums`, or, of one block alone, to the outputs.
__global__ void __launch_bounds__(32 * kWarps)
    cross_entropy_rows_kernel(const float* logits, const std::int32_t* labels, float* probabilities,
                              std::int64_t samples, std::int64_t rows_per_block, std::int64_t classes, RowsSum* sums,
                              Loss to) {
  SIMT_SHARED(RowsSum, of_warps, [kWarps]);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t first = blockIdx.x * rows_per_block, last = min(samples, first + rows_per_block);
  RowsSum sum{0, 0};
  for (std::int64_t n = first + warp; n < last; n += kWarps) {
    const RowsSum row = row_loss(logits + n * classes, labels[n], classes, probabilities + n * classes);
    sum.loss += row.loss;
    sum.correct += row.correct;
  }
  if (threadIdx.x % 32 == 0) of_warps[warp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; ++w) {
    sum.loss += of_warps[w].loss;
    sum.correct += of_warps[w].correct;
  }
  if (gridDim.x == 1)
    write_loss(to, sum);
  else
    sums[blockIdx.x] = sum;
}

// One warp.
__global__ void cross_entropy_sum_kernel(const RowsSum* sums, int blocks, Loss to) {
  RowsSum sum{0, 0};
  for (int b = static_cast<int>(threadIdx.x); b < blocks; b += 32) {
    sum.loss += sums[b].loss;
    sum.correct += sums[b].correct;
  }
  sum.loss = warp_sum(sum.loss);
  sum.correct = warp_sum(sum.correct);
  if (threadIdx.x == 0) write_loss(to, sum);
}

__global__ void cross_entropy_backward_kernel(const float* probabilities, const std::int32_t* labels, float* dx,
                                              float scale, std::int64_t classes, std::int64_t n) {
  const std::int64_t i = global_thread();
  if (i >= n) return;
  const std::int64_t row = i / classes;
  dx[i] = scale * (probabilities[i] - (i - row * classes == labels[row] ? 1.0f : 0.0f));
}

std::int64_t rows_per_block(const TensorType& logits) {
  constexpr std::int64_t kMostBlocks = 1024;
  const std::int64_t samples = logits.shape[0];
  if (element_count(logits) <= kFewValues) return samples;
  return std::max<std::int64_t>(kWarps, (samples + kMostBlocks - 1) / kMostBlocks);
}

std::int64_t blocks_of(const TensorType& logits) {
  return (logits.shape[0] + rows_per_block(logits) - 1) / rows_per_block(logits);
}

Bytes workspace(const OpShape& shape) {
  const std::int64_t blocks = blocks_of(shape.inputs[0]);
  return Bytes{blocks == 1 ? 0 : blocks * static_cast<std::int64_t>(sizeof(RowsSum))};
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const TensorType& logits = shape.inputs[0];
  const std::int64_t blocks = blocks_of(logits);
  const Loss to{floats(a.outputs[0]), floats(a.outputs[1]), static_cast<double>(a.batch)};
  auto* sums = reinterpret_cast<RowsSum*>(a.workspace);
  simt::launch(cross_entropy_rows_kernel, blocks, 32 * kWarps, 0, stream_of(a), floats(a.inputs[0]), ints(a.inputs[1]),
               floats(a.outputs[2]), logits.shape[0], rows_per_block(logits), logits.shape[1], sums, to);
  if (blocks > 1) simt::launch(cross_entropy_sum_kernel, 1, 32, 0, stream_of(a), sums, static_cast<int>(blocks), to);
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]);
  simt::launch(cross_entropy_backward_kernel, blocks_for(n), kBlock, 0, stream_of(a), floats(a.inputs[0]),
               ints(a.inputs[1]), floats(a.outputs[0]), 1.0f / static_cast<float>(a.batch), shape.inputs[0].shape[1],
               n);
}

}  // namespace

void register_softmax_cross_entropy_cuda(OpRegistry& registry) {
  registry.add_kernels(
      "softmax_cross_entropy", kCudaBackend,
      {.workspace = workspace, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels("softmax_cross_entropy_backward", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
