// The mean over height and width on CUDA: a lane has four channels of one sample, a warp every eighth of its rows.
#include "mean_pool_cuda.h"
#include "norm_slice_cuda.h"
#include "quads.h"

namespace thimble {
namespace {

constexpr int kRowsAtOnce = 4;
constexpr int kPoolWarps = 8;

template <bool kAligned>
__global__ void __launch_bounds__(kLanes* kPoolWarps)
    pool_kernel(NormRows rows, PoolNorm norm, const float* x, float* mean) {
  SIMT_SHARED(ChannelFactors, factors, [4][kLanes]);
  SIMT_SHARED(float, sums, [kPoolWarps][4][kLanes]);
  const int lane = lane_of_thread(), warp = warp_of_thread();
  const std::int64_t quads = (rows.channels + 3) / 4, quad = static_cast<std::int64_t>(blockIdx.x) * kLanes + lane;
  const std::int64_t sample = quad / quads, c = 4 * (quad - sample * quads);
  const int valid = sample < rows.samples ? static_cast<int>(min(std::int64_t{4}, rows.channels - c)) : 0;
  ChannelFactors own[4] = {};
  if (norm.mean != nullptr) {
    if (warp < valid) {
      const std::int64_t group = sample * norm.groups + (c + warp) / norm.width;
      factors[warp][lane] = channel_factors(norm.mean[group], norm.variance[group], norm.gamma[c + warp],
                                            norm.beta[c + warp], norm.epsilon);
    }
    __syncthreads();
    for (int i = 0; i < 4; ++i)
      if (i < valid) own[i] = factors[i][lane];
  }
  LongSum sum;
  int count = 0;
  const float* from = x + sample * rows.rows_per_sample * rows.stride + c;
  const std::int64_t end = valid > 0 ? rows.rows_per_sample : 0;
  for (std::int64_t r = warp; r < end; r += kRowsAtOnce * kPoolWarps) {
    Quad values[kRowsAtOnce];
    for (int u = 0; u < kRowsAtOnce; ++u)
      if (r + u * kPoolWarps < end) values[u] = load_quad<kAligned>(from + (r + u * kPoolWarps) * rows.stride, valid);
    for (int u = 0; u < kRowsAtOnce; ++u)
      if (r + u * kPoolWarps < end)
        for (int i = 0; i < 4; ++i) {
          const float value = values[u].at[i];
          sum.near.at[i] += norm.mean != nullptr ? rectified(normalized(value, own[i])) : value;
        }
    if ((count += kRowsAtOnce) % kRowsOfNearSum == 0) sum.close();
  }
  sum.close();
  for (int i = 0; i < 4; ++i) sums[warp][i][lane] = sum.all.at[i];
  __syncthreads();
  if (warp >= valid) return;
  double all = 0;
  for (int w = 0; w < kPoolWarps; ++w) all += static_cast<double>(sums[w][warp][lane]);
  mean[sample * rows.channels + c + warp] = static_cast<float>(all / static_cast<double>(rows.rows_per_sample));
}

// A thread has four channels in some rows: as wide as a vector where they may be.
template <bool kAligned>
__global__ void __launch_bounds__(kApplyingThreads) spread_kernel(SliceGrid grid, const float* dy, float* dx) {
  const SliceThread t(grid, blockIdx.x);
  if (t.valid == 0) return;
  Quad mean = load_quad<kAligned>(dy + t.segment * grid.channels + t.channel(), t.valid);
  for (float& value : mean.at) value /= static_cast<float>(grid.rows);
  for (int r = t.slot; r < t.rows; r += t.slots)
    store_quad<kAligned>(dx + (t.row + r) * grid.stride + t.channel(), mean, t.valid);
}

void forward(const OpShape& shape, const KernelArguments& a) {
  launch_mean_pool(NormRows::of(shape.inputs[0], true), {}, floats(a.inputs[0]), floats(a.outputs[0]), stream_of(a));
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const NormRows rows = NormRows::of(shape.outputs[0], true);
  const SliceGrid grid = applying_grid(rows, kRowsAtOnce);
  simt::launch(has_whole_quads(rows, {a.inputs[0], a.outputs[0]}) ? spread_kernel<true> : spread_kernel<false>,
               grid.blocks(), kApplyingThreads, 0, stream_of(a), grid, floats(a.inputs[0]), floats(a.outputs[0]));
}

}  // namespace

void launch_mean_pool(const NormRows& rows, const PoolNorm& norm, const float* x, float* mean, cudaStream_t stream) {
  const std::int64_t quads = rows.samples * ((rows.channels + 3) / 4);
  simt::launch(has_whole_quads(rows, {x}) ? pool_kernel<true> : pool_kernel<false>, (quads + kLanes - 1) / kLanes,
               kLanes * kPoolWarps, 0, stream, rows, norm, x, mean);
}

void register_global_average_pool_cuda(OpRegistry& registry) {
  registry.add_kernels("global_average_pool", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels("global_average_pool_backward", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
