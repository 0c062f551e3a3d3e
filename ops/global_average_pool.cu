// The mean over height and width on CUDA: a block has some channels of one sample.
#include "mean_pool_cuda.h"
#include "norm_slice_cuda.h"

namespace thimble {
namespace {

constexpr int kRowsAtOnce = 4;

template <bool kAligned>
__global__ void __launch_bounds__(kSummingThreads, 2)
    pool_kernel(SliceGrid grid, PoolNorm norm, const float* x, float* mean) {
  SIMT_SHARED(ChannelFactors, factors, [kWidestSlice]);
  const SliceThread t(grid, blockIdx.x);
  ChannelFactors own[4] = {};
  if (norm.mean != nullptr) {
    if (const auto i = static_cast<int>(threadIdx.x); i < t.channels) {
      const int c = t.first + i;
      const std::int64_t group = t.segment * norm.groups + c / norm.width;
      factors[i] = channel_factors(norm.mean[group], norm.variance[group], norm.gamma[c], norm.beta[c], norm.epsilon);
    }
    __syncthreads();
    for_channels(t, [&](int i) { own[i] = factors[4 * t.lane + i]; });
  }
  LongSum sum;
  int count = 0;
  const float* from = x + t.row * grid.stride + t.channel();
  for (int r = t.slot; r < t.rows; r += kRowsAtOnce * t.slots) {
    Quad values[kRowsAtOnce];
    for (int u = 0; u < kRowsAtOnce; ++u)
      if (r + u * t.slots < t.rows) values[u] = load_quad<kAligned>(from + (r + u * t.slots) * grid.stride, t.valid);
    for (int u = 0; u < kRowsAtOnce; ++u)
      if (r + u * t.slots < t.rows)
        for (int i = 0; i < 4; ++i) {
          const float value = values[u].at[i];
          sum.near.at[i] += norm.mean != nullptr ? rectified(normalized(value, own[i])) : value;
        }
    if ((count += kRowsAtOnce) % kRowsOfNearSum == 0) sum.close();
  }
  sum.close();
  sum_block(t, sum.all, Quad{}, [&](int channel, double all, double) {
    mean[t.segment * grid.channels + t.first + channel] = static_cast<float>(all / static_cast<double>(grid.rows));
  });
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

// One part: the mean of a sample is taken by one block for every slice.
void launch_mean_pool(const NormRows& rows, const PoolNorm& norm, const float* x, float* mean, cudaStream_t stream) {
  const SliceGrid grid = SliceGrid::of(rows, rows.rows(), summing_slice(rows.channels));
  simt::launch(has_whole_quads(rows, {x}) ? pool_kernel<true> : pool_kernel<false>, grid.blocks(), kSummingThreads, 0,
               stream, grid, norm, x, mean);
}

void register_global_average_pool_cuda(OpRegistry& registry) {
  registry.add_kernels("global_average_pool", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels("global_average_pool_backward", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
