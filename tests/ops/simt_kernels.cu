#include "simt_kernels.h"

#include "simt.h"

namespace thimble {
namespace {

constexpr unsigned kAll = 0xffffffffU;

__device__ __forceinline__ float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAll, value, distance);
  return value;
}

__global__ void __launch_bounds__(1024) sum_kernel(const float* __restrict__ values, int count, float* sum) {
  SIMT_SHARED(float, parts, [32]);
  const int t = static_cast<int>(threadIdx.x);
  float own = 0;
  for (int i = static_cast<int>(blockIdx.x * blockDim.x) + t; i < count; i += static_cast<int>(gridDim.x * blockDim.x))
    own += __ldg(values + i);
  own = warp_sum(own);
  if (t % warpSize == 0) parts[t / warpSize] = own;
  __syncthreads();
  if (t >= warpSize) return;
  own = warp_sum(t < static_cast<int>(blockDim.x) / warpSize ? parts[t] : 0.0F);
  if (t == 0) atomicAdd(sum, own);
}

template <class T>
__global__ void axpy_kernel(const T* a, const T* b, T factor, T* out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = __fmaf_rn(factor, b[i], a[i]);
}

__global__ void transpose_kernel(const float* in, float* out, int rows, int columns) {
  SIMT_SHARED(float, tile, [16][17]);
  const int x = static_cast<int>(threadIdx.x);
  const int y = static_cast<int>(threadIdx.y);
  const int row = static_cast<int>(blockIdx.y) * 16;
  const int column = static_cast<int>(blockIdx.x) * 16;
  if (row + y < rows && column + x < columns) tile[y][x] = in[(row + y) * columns + column + x];
  __syncthreads();
  if (column + y < columns && row + x < rows) out[(column + y) * rows + row + x] = tile[x][y];
}

__global__ void shuffle_kernel(SimtShuffle kind, int operand, int width, long long* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const long long own = lane;
  switch (kind) {
    case SimtShuffle::index:
      out[lane] = __shfl_sync(kAll, own, operand, width);
      break;
    case SimtShuffle::up:
      out[lane] = __shfl_up_sync(kAll, own, static_cast<unsigned>(operand), width);
      break;
    case SimtShuffle::down:
      out[lane] = __shfl_down_sync(kAll, own, static_cast<unsigned>(operand), width);
      break;
    case SimtShuffle::by_xor:
      out[lane] = __shfl_xor_sync(kAll, own, operand, width);
      break;
  }
}

__global__ void votes_kernel(unsigned predicates, SimtVotes* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const int mine = (predicates >> lane & 1) != 0 ? 4 : 0;  // anything but zero holds
  SimtVotes votes;
  votes.ballot = __ballot_sync(kAll, mine);
  votes.any = static_cast<unsigned>(__any_sync(kAll, mine));
  votes.none_of = static_cast<unsigned>(__any_sync(kAll, 0));
  votes.all = static_cast<unsigned>(__all_sync(kAll, 1));
  votes.not_all = static_cast<unsigned>(__all_sync(kAll, mine));
  votes.sum = __reduce_add_sync(kAll, lane - 16);
  votes.least = __reduce_min_sync(kAll, lane - 16);
  votes.most = __reduce_max_sync(kAll, lane - 16);
  votes.least_unsigned = __reduce_min_sync(kAll, static_cast<unsigned>(lane - 16));
  votes.bits_and = __reduce_and_sync(kAll, static_cast<unsigned>(lane) | 0x40U);
  votes.bits_or = __reduce_or_sync(kAll, 1U << lane);
  votes.bits_xor = __reduce_xor_sync(kAll, static_cast<unsigned>(lane) + 1);
  if (lane == 7) *out = votes;
}

__global__ void block_votes_kernel(int holding, int* out) {
  const int mine = static_cast<int>(threadIdx.x) < holding ? 8 : 0;
  const int count = __syncthreads_count(mine);
  const int any = __syncthreads_or(mine);
  const int all = __syncthreads_and(mine);
  if (threadIdx.x == 99) {
    out[0] = count;
    out[1] = any != 0;
    out[2] = all != 0;
  }
}

__global__ void atomics_kernel(int* integers, unsigned* words, unsigned long long* wide, float* single, double* twice) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(integers, i);
  atomicMax(integers + 1, i);
  atomicMin(integers + 2, -i);
  atomicOr(words, 1U << i % 32);
  atomicMax(words + 1, static_cast<unsigned>(i));
  atomicAdd(wide, 1ULL << 33);
  atomicAdd(single, 0.5F);
  atomicAdd(twice, 0.25);
  if (atomicCAS(integers + 3, 0, i + 1) == 0) atomicExch(integers + 4, 7);
}

__global__ void indices_kernel(unsigned* out) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] =
      threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z + 1000 * (blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z);
}

__global__ void order_kernel(unsigned* turn, unsigned* out) {
  out[atomicAdd(turn, 1)] = blockIdx.x * blockDim.x + threadIdx.x;
}

__global__ void fresh_kernel(int* nans) {
  SIMT_SHARED(float, fixed, [64]);
  SIMT_DYN_SHARED(float, dynamic);
  const int t = static_cast<int>(threadIdx.x);
  atomicAdd(nans, (fixed[t] != fixed[t] ? 1 : 0) + (dynamic[t] != dynamic[t] ? 1 : 0));
  fixed[t] = dynamic[t] = 0;
}

template <int kValue>
__device__ int* own_array() {
  SIMT_SHARED(int, cell, [1]);
  cell[0] = kValue;
  return cell;
}
__global__ void instances_kernel(int* out) {
  const int* one = own_array<1>();
  const int* two = own_array<2>();
  *out = *one * 10 + *two;
}

__global__ void last_block_kernel(float* parts, unsigned* finished, float* sum) {
  parts[blockIdx.x] = static_cast<float>(blockIdx.x);
  __threadfence();
  if (atomicAdd(finished, 1) != gridDim.x - 1) return;
  __threadfence();
  float all = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) all += parts[i];
  *sum = all;
}

__global__ void vectors_kernel(const float* in, float* out) {
  const float4 four = simt::load4(in + 4 * threadIdx.x);
  simt::store2(out + 4 * threadIdx.x, make_float2(four.w, four.z));
  const float2 two = simt::load2(in + 4 * threadIdx.x);
  simt::store2(out + 4 * threadIdx.x + 2, make_float2(two.y, two.x));
}

__global__ void wrong_mask_kernel() { __syncwarp(threadIdx.x < 16 ? 0xffff0000U : 0xffffU); }
__global__ void two_operations_kernel() {
  if (threadIdx.x < 16)
    __syncwarp();
  else
    __any_sync(kAll, 1);
}
__global__ void wrong_width_kernel() { __shfl_sync(kAll, 1, 0, 12); }
__global__ void absent_lane_kernel() { __syncwarp(); }
__global__ void warp_against_block_kernel() {
  if (threadIdx.x == 0) __syncwarp(3);
  __syncthreads();
}
__global__ void nothing_kernel() {}
__global__ void write_before_kernel() {
  SIMT_DYN_SHARED(float, tile);
  tile[static_cast<int>(threadIdx.x) - 1] = 1;
}
__global__ void fails_in_block_kernel(unsigned block) {
  __syncthreads();
  if (blockIdx.x == block && threadIdx.x == 3) __syncwarp(1);
  __syncthreads();
}

int blocks_for(std::size_t count, int threads) { return (static_cast<int>(count) + threads - 1) / threads; }

}  // namespace

float simt_sum(const std::vector<float>& values, int blocks, int threads) {
  float sum = 0;
  simt::launch(sum_kernel, blocks, threads, 0, nullptr, values.data(), static_cast<int>(values.size()), &sum);
  return sum;
}

std::vector<float> simt_axpy(const std::vector<float>& a, const std::vector<float>& b, float factor) {
  std::vector<float> out(a.size());
  simt::launch(axpy_kernel<float>, blocks_for(a.size(), 128), 128, 0, nullptr, a.data(), b.data(), factor, out.data(),
               static_cast<int>(a.size()));
  return out;
}

std::vector<float> simt_transpose(const std::vector<float>& matrix, int rows, int columns) {
  std::vector<float> out(matrix.size());
  const dim3 grid(static_cast<unsigned>(columns + 15) / 16, static_cast<unsigned>(rows + 15) / 16);
  simt::launch(transpose_kernel, grid, dim3(16, 16), 0, nullptr, matrix.data(), out.data(), rows, columns);
  return out;
}

std::vector<std::int64_t> simt_shuffle(SimtShuffle kind, int operand, int width) {
  std::vector<long long> out(32);
  simt::launch(shuffle_kernel, 1, 32, 0, nullptr, kind, operand, width, out.data());
  return {out.begin(), out.end()};
}

SimtVotes simt_votes(unsigned predicates) {
  SimtVotes votes{};
  simt::launch(votes_kernel, 1, 32, 0, nullptr, predicates, &votes);
  return votes;
}

std::vector<int> simt_block_votes(int holding) {
  std::vector<int> out(3);
  simt::launch(block_votes_kernel, 1, 100, 0, nullptr, holding, out.data());
  return out;
}

std::vector<double> simt_atomics() {
  std::vector<int> integers(5);
  std::vector<unsigned> words(2);
  unsigned long long wide = 0;
  float single = 0;
  double twice = 0;
  simt::launch(atomics_kernel, 4, 25, 0, nullptr, integers.data(), words.data(), &wide, &single, &twice);
  return {static_cast<double>(integers[0]), static_cast<double>(integers[1]), static_cast<double>(integers[2]),
          static_cast<double>(integers[4]), static_cast<double>(words[0]),    static_cast<double>(words[1]),
          static_cast<double>(wide >> 33),  static_cast<double>(single),      twice};
}

std::vector<unsigned> simt_indices() {
  std::vector<unsigned> out(2 * 3 * 2 * 3 * 2 * 4);
  simt::launch(indices_kernel, dim3(2, 3, 2), dim3(3, 2, 4), 0, nullptr, out.data());
  return out;
}

std::vector<unsigned> simt_order_of_threads() {
  std::vector<unsigned> out(3 * 64);
  unsigned turn = 0;
  simt::launch(order_kernel, 3, 64, 0, nullptr, &turn, out.data());
  return out;
}

int simt_fresh_nans() {
  int nans = 0;
  simt::launch(fresh_kernel, 1, 64, 64 * sizeof(float), nullptr, &nans);
  nans = 0;
  simt::launch(fresh_kernel, 1, 64, 64 * sizeof(float), nullptr, &nans);  // after a block that wrote there
  return nans;
}

bool simt_instances_have_their_own_arrays() {
  int out = 0;
  simt::launch(instances_kernel, 1, 1, 0, nullptr, &out);
  return out == 12;
}

float simt_last_block_sums(int blocks) {
  std::vector<float> parts(static_cast<std::size_t>(blocks));
  unsigned finished = 0;
  float sum = 0;
  simt::launch(last_block_kernel, blocks, 1, 0, nullptr, parts.data(), &finished, &sum);
  return sum;
}

std::vector<float> simt_vectors(const std::vector<float>& values) {
  std::vector<float> out(values.size());
  simt::launch(vectors_kernel, 1, values.size() / 4, 0, nullptr, values.data(), out.data());
  return out;
}

void simt_wrong_mask() { simt::launch(wrong_mask_kernel, 1, 32, 0, nullptr); }
void simt_two_operations() { simt::launch(two_operations_kernel, 1, 32, 0, nullptr); }
void simt_wrong_width() { simt::launch(wrong_width_kernel, 1, 32, 0, nullptr); }
void simt_absent_lane() { simt::launch(absent_lane_kernel, 1, 20, 0, nullptr); }
void simt_warp_against_block() { simt::launch(warp_against_block_kernel, 1, 64, 0, nullptr); }
void simt_launch_shape(std::int64_t grid, int block, std::size_t shared_bytes) {
  simt::launch(nothing_kernel, grid, block, shared_bytes, nullptr);
}
void simt_write_before_shared() { simt::launch(write_before_kernel, 1, 32, 32 * sizeof(float), nullptr); }
void simt_fails_in_block(unsigned block, int blocks) {
  simt::launch(fails_in_block_kernel, blocks, 64, 0, nullptr, block);
}

}  // namespace thimble
