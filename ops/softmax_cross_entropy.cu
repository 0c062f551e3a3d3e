// Softmax and cross-entropy on CUDA: a warp has a row, or a block where rows are long and holds it in shared memory, so
// that it is read once. A label that names no class cannot be reported from here; it makes the loss a NaN.
#include "quads.h"

namespace thimble {
namespace {

constexpr int kWarps = 16;                        // of a block, where a warp has a row
constexpr std::int64_t kFewValues = 16384;        // which one block has: the loss is there at once
constexpr std::int64_t kLongRow = 1024;           // from here on a block has a row
constexpr int kRowThreads = 256, kHeldQuads = 8;  // of a row in shared memory, by thread
constexpr int kHeldValues = kQuad * kRowThreads * kHeldQuads;
constexpr int kLongBlocks = 6;  // of these on a processor

struct RowsSum {
  double loss;
  int correct;
};

struct Largest {
  float value;
  std::int64_t at;  // the first of equal ones
};

__device__ inline Largest larger(Largest a, Largest b) {
  return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a;
}

__device__ inline Largest largest_of_warp(Largest best) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    best =
        larger(best, {__shfl_xor_sync(kAllLanes, best.value, distance), __shfl_xor_sync(kAllLanes, best.at, distance)});
  return best;
}

// All lanes get the row's loss. Probabilities may lie over the logits: a lane reads what it overwrites.
__device__ inline RowsSum row_loss(const float* logits, std::int32_t label, std::int64_t classes,
                                   float* probabilities) {
  const int lane = lane_of_thread();
  Largest best{-INFINITY, lane};
  for (std::int64_t k = lane; k < classes; k += kLanes)
    if (logits[k] > best.value) best = {logits[k], k};
  best = largest_of_warp(best);
  double sum = 0;
  float own = 0;
  for (std::int64_t k = lane; k < classes; k += kLanes) {
    const float difference = logits[k] - best.value, p = expf(difference);
    if (k == label) own = difference;
    probabilities[k] = p;
    sum += static_cast<double>(p);
  }
  sum = warp_sum(sum);
  own = warp_sum(own);
  const double share = 1 / sum;
  for (std::int64_t k = lane; k < classes; k += kLanes)
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

// What one thread of each block says.
__device__ inline void leave(const RowsSum& of_block, RowsSum* sums, const Loss& to) {
  if (gridDim.x == 1)
    write_loss(to, of_block);
  else
    sums[blockIdx.x] = of_block;
}

// Rows of a block are neighbours. What a block sums goes to `sums`, or, of one block alone, to the outputs.
__global__ void __launch_bounds__(kLanes* kWarps)
    cross_entropy_rows_kernel(const float* logits, const std::int32_t* labels, float* probabilities,
                              std::int64_t samples, std::int64_t rows_per_block, std::int64_t classes, RowsSum* sums,
                              Loss to) {
  SIMT_SHARED(RowsSum, of_warps, [kWarps]);
  const int warp = warp_of_thread();
  const std::int64_t first = blockIdx.x * rows_per_block, last = min(samples, first + rows_per_block);
  RowsSum sum{0, 0};
  for (std::int64_t n = first + warp; n < last; n += kWarps) {
    const RowsSum row = row_loss(logits + n * classes, labels[n], classes, probabilities + n * classes);
    sum.loss += row.loss;
    sum.correct += row.correct;
  }
  if (lane_of_thread() == 0) of_warps[warp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; ++w) {
    sum.loss += of_warps[w].loss;
    sum.correct += of_warps[w].correct;
  }
  leave(sum, sums, to);
}

// As load_quad, with what is less than any value and has no exponential behind the end.
template <bool kWhole>
__device__ inline float4 load_logits(const float* row, int at, int classes) {
  float4 quad = load_quad<kWhole>(row, at, classes);
  if (at >= classes) quad.x = -INFINITY;
  if (at + 1 >= classes) quad.y = -INFINITY;
  if (at + 2 >= classes) quad.z = -INFINITY;
  if (at + 3 >= classes) quad.w = -INFINITY;
  return quad;
}

// Calls visit(quad, its first class) for the calling thread's part of a row: what it holds, which stays as the visitor
// leaves it, and of the values from kHeldValues on copies.
template <bool kWhole, class Visit>
__device__ inline void visit_row(float4 (*held)[kRowThreads], const float* row, int classes, Visit visit) {
  int at = kQuad * static_cast<int>(threadIdx.x);
  SIMT_UNROLL_BY(4)
  for (int u = 0; u < kHeldQuads && at < classes; ++u, at += kQuad * kRowThreads) visit(held[u][threadIdx.x], at);
  for (; at < classes; at += kQuad * kRowThreads) {
    float4 quad = load_logits<kWhole>(row, at, classes);
    visit(quad, at);
  }
}

// Rows of a block are neighbours, one at a time. Probabilities may lie over the logits, as above.
template <bool kWhole>
__global__ void __launch_bounds__(kRowThreads, kLongBlocks)
    cross_entropy_long_rows_kernel(const float* logits, const std::int32_t* labels, float* probabilities,
                                   std::int64_t samples, std::int64_t rows_per_block, int classes, RowsSum* sums,
                                   Loss to) {
  SIMT_SHARED(float4, held, [kHeldQuads][kRowThreads]);
  SIMT_SHARED(float, largest, [kRowThreads / kLanes]);
  SIMT_SHARED(double, exponentials, [kRowThreads / kLanes]);
  const std::int64_t first = blockIdx.x * rows_per_block, last = min(samples, first + rows_per_block);
  RowsSum sum{0, 0};
  for (std::int64_t n = first; n < last; ++n) {
    const float* const row = logits + n * classes;
    float* const to_row = probabilities + n * classes;
    const std::int32_t label = labels[n];
    const float of_label = label >= 0 && label < classes ? row[label] : NAN;  // nobody has written over it yet
    float best = -INFINITY;
    visit_row<kWhole>(held, row, classes, [&](float4& quad, int at) {
      if (at < kHeldValues) quad = load_logits<kWhole>(row, at, classes);
      best = fmaxf(best, fmaxf(fmaxf(quad.x, quad.y), fmaxf(quad.z, quad.w)));
    });
    for (int distance = kLanes / 2; distance > 0; distance /= 2)
      best = fmaxf(best, __shfl_xor_sync(kAllLanes, best, distance));
    if (lane_of_thread() == 0) largest[warp_of_thread()] = best;
    __syncthreads();
    for (int w = 0; w < kRowThreads / kLanes; ++w) best = fmaxf(best, largest[w]);
    int before = 0;  // as large as the label's: the first of equal ones counts
    if (of_label == best)
      visit_row<kWhole>(held, row, classes, [&](const float4& quad, int at) {
        const auto is_before = [&](float value, int k) { return k < label && value == best ? 1 : 0; };
        before |=
            is_before(quad.x, at) | is_before(quad.y, at + 1) | is_before(quad.z, at + 2) | is_before(quad.w, at + 3);
      });
    double all = 0;
    visit_row<kWhole>(held, row, classes, [&](float4& quad, int at) {
      quad = map_quad([&](float value) { return expf(value - best); }, quad);
      all += static_cast<double>((quad.x + quad.y) + (quad.z + quad.w));
      if (at >= kHeldValues) store_quad<kWhole>(to_row, at, classes, quad);
    });
    all = warp_sum(all);
    if (lane_of_thread() == 0) exponentials[warp_of_thread()] = all;
    const bool is_first = __syncthreads_or(before) == 0;
    all = 0;
    for (int w = 0; w < kRowThreads / kLanes; ++w) all += exponentials[w];
    const auto share = static_cast<float>(1 / all);
    const auto probability = [&](float p) { return p * share; };
    visit_row<kWhole>(held, to_row, classes, [&](float4 quad, int at) {
      store_quad<kWhole>(to_row, at, classes, map_quad(probability, quad));
    });
    sum.loss += log(all) - static_cast<double>(of_label - best);
    sum.correct += of_label == best && is_first ? 1 : 0;
  }
  if (threadIdx.x == 0) leave(sum, sums, to);
}

// One block.
__global__ void cross_entropy_sum_kernel(const RowsSum* sums, int blocks, Loss to) {
  SIMT_SHARED(RowsSum, of_warps, [kRowThreads / kLanes]);
  RowsSum sum{0, 0};
  for (int b = static_cast<int>(threadIdx.x); b < blocks; b += kRowThreads) {
    sum.loss += sums[b].loss;
    sum.correct += sums[b].correct;
  }
  sum.loss = warp_sum(sum.loss);
  sum.correct = warp_sum(sum.correct);
  if (lane_of_thread() == 0) of_warps[warp_of_thread()] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kRowThreads / kLanes; ++w) {
    sum.loss += of_warps[w].loss;
    sum.correct += of_warps[w].correct;
  }
  write_loss(to, sum);
}

// Of kWidth values that lie in one row.
template <int kWidth>
__global__ void cross_entropy_backward_kernel(const float* probabilities, const std::int32_t* labels, float* dx,
                                              float scale, std::int64_t classes, std::int64_t n) {
  const std::int64_t first = kWidth * global_thread();
  if (first >= n) return;
  constexpr std::int64_t kMostUnsigned = 0xffffffff;  // divides faster
  const std::int64_t row =
      n <= kMostUnsigned ? static_cast<std::uint32_t>(first) / static_cast<std::uint32_t>(classes) : first / classes;
  const std::int64_t label = labels[row] - (first - row * classes);
  const auto gradient = [&](float p, std::int64_t k) { return scale * (p - (k == label ? 1.0f : 0.0f)); };
  if constexpr (kWidth == kQuad) {
    const float4 p = simt::load4(probabilities + first);
    simt::store4(dx + first, {gradient(p.x, 0), gradient(p.y, 1), gradient(p.z, 2), gradient(p.w, 3)});
  } else {
    dx[first] = gradient(probabilities[first], 0);
  }
}

struct Launch {
  bool is_long;
  std::int64_t rows_per_block, blocks;

  static Launch of(const TensorType& logits) {
    constexpr std::int64_t kMostBlocks = 1024, kMostLongBlocks = kMultiprocessors * kLongBlocks, kMostClasses = 1 << 30;
    const std::int64_t samples = logits.shape[0];
    const auto cut = [&](bool is_long, std::int64_t rows) {
      return Launch{is_long, rows, (samples + rows - 1) / rows};
    };
    if (element_count(logits) <= kFewValues) return cut(false, samples);
    if (logits.shape[1] >= kLongRow && logits.shape[1] <= kMostClasses)
      return cut(true, (samples + kMostLongBlocks - 1) / kMostLongBlocks);
    return cut(false, std::max<std::int64_t>(kWarps, (samples + kMostBlocks - 1) / kMostBlocks));
  }
};

Bytes workspace(const OpShape& shape) {
  const std::int64_t blocks = Launch::of(shape.inputs[0]).blocks;
  return Bytes{blocks == 1 ? 0 : blocks * static_cast<std::int64_t>(sizeof(RowsSum))};
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const TensorType& logits = shape.inputs[0];
  const Launch cut = Launch::of(logits);
  const Loss to{floats(a.outputs[0]), floats(a.outputs[1]), static_cast<double>(a.batch)};
  auto* sums = reinterpret_cast<RowsSum*>(a.workspace);
  const bool whole = lie_in_quads(logits.shape[1], {a.inputs[0], a.outputs[2]});
  if (cut.is_long)
    simt::launch(whole ? cross_entropy_long_rows_kernel<true> : cross_entropy_long_rows_kernel<false>, cut.blocks,
                 kRowThreads, 0, stream_of(a), floats(a.inputs[0]), ints(a.inputs[1]), floats(a.outputs[2]),
                 logits.shape[0], cut.rows_per_block, static_cast<int>(logits.shape[1]), sums, to);
  else
    simt::launch(cross_entropy_rows_kernel, cut.blocks, kLanes * kWarps, 0, stream_of(a), floats(a.inputs[0]),
                 ints(a.inputs[1]), floats(a.outputs[2]), logits.shape[0], cut.rows_per_block, logits.shape[1], sums,
                 to);
  if (cut.blocks > 1)
    simt::launch(cross_entropy_sum_kernel, 1, kRowThreads, 0, stream_of(a), sums, static_cast<int>(cut.blocks), to);
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t n = element_count(shape.inputs[0]), classes = shape.inputs[0].shape[1];
  const bool whole = lie_in_quads(classes, {a.inputs[0], a.outputs[0]});
  simt::launch(whole ? cross_entropy_backward_kernel<kQuad> : cross_entropy_backward_kernel<1>,
               blocks_for(n, whole ? kQuad : 1), kBlock, 0, stream_of(a), floats(a.inputs[0]), ints(a.inputs[1]),
               floats(a.outputs[0]), 1.0f / static_cast<float>(a.batch), classes, n);
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
