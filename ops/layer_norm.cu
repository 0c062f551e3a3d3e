// Normalisation of rows on CUDA. A warp holds a row in registers, so it is read once; rows too long for that belong to
// a block each, which reads them anew. Gradients of gamma and beta: blocks sum some rows each, then all of those.
#include <cmath>

#include "cuda_ops.h"
#include "quads.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr int kWarps = kBlock / kLanes;
constexpr int kMostQuads = 8;                          // of a lane
constexpr int kLongest = kMostQuads * kQuad * kLanes;  // row in registers
constexpr std::int64_t kParts = 128;                   // of the rows, summed apart

// Of a block of the gradient whose warps hold rows of so many quads a lane, and their sums: what registers allow.
constexpr int back_threads(int quads) { return quads == kMostQuads ? 256 : 512; }

int quads_of_lane(std::int64_t n) { return n > kLongest / 2 ? kMostQuads : n > kLongest / 4 ? kMostQuads / 2 : 2; }

// Where quad q of this lane begins in its row.
__device__ int quad_at(int q) { return (q * kLanes + lane_of_thread()) * kQuad; }

template <int kQuads, bool kWhole>
__device__ void load_row(const float* row, int n, float4 (&values)[kQuads]) {
  for (int q = 0; q < kQuads; ++q) values[q] = load_quad<kWhole>(row, quad_at(q), n);
}

// Values less their mean, and zeros behind the row.
template <bool kWhole>
__device__ float4 centered(float4 x, float mean, int at, int n) {
  if (kWhole) return at < n ? float4{x.x - mean, x.y - mean, x.z - mean, x.w - mean} : float4{0, 0, 0, 0};
  return {at < n ? x.x - mean : 0.0f, at + 1 < n ? x.y - mean : 0.0f, at + 2 < n ? x.z - mean : 0.0f,
          at + 3 < n ? x.w - mean : 0.0f};
}

__device__ float scale_of(float squares, int n, float epsilon) {
  return 1.0f / sqrtf(squares / static_cast<float>(n) + epsilon);
}

// Takes the row's mean off and gives one over its deviation.
template <int kQuads, bool kWhole>
__device__ float center_row(float4 (&x)[kQuads], int n, float epsilon) {
  float sum = 0;
  for (int q = 0; q < kQuads; ++q) sum += sum_of_quad(x[q]);
  const float mean = warp_sum(sum) / static_cast<float>(n);
  float squares = 0;
  for (int q = 0; q < kQuads; ++q) {
    x[q] = centered<kWhole>(x[q], mean, quad_at(q), n);
    squares += sum_of_quad(map_quad([](float d) { return d * d; }, x[q]));
  }
  return scale_of(warp_sum(squares), n, epsilon);
}

template <int kQuads, bool kWhole>
__global__ void layer_norm_forward_kernel(const float* x, const float* gamma, const float* beta, float* y,
                                          float epsilon, int n, std::int64_t rows) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp_of_thread();
  if (row >= rows) return;
  float4 values[kQuads];
  load_row<kQuads, kWhole>(x + row * n, n, values);
  const float scale = center_row<kQuads, kWhole>(values, n, epsilon);
  for (int q = 0; q < kQuads; ++q) {
    const float4 g = load_quad<kWhole>(gamma, quad_at(q), n), b = load_quad<kWhole>(beta, quad_at(q), n);
    store_quad<kWhole>(y + row * n, quad_at(q), n,
                       map_quad([&](float d, float g1, float b1) { return d * scale * g1 + b1; }, values[q], g, b));
  }
}

// Sums of a block's rows lie in the workspace one behind the other: of gamma's gradient, then of beta's.
template <int kQuads>
__device__ void write_sums(const float4 (&dgamma)[kQuads], const float4 (&dbeta)[kQuads], float* sums, int n) {
  constexpr int kColumns = kQuad * kLanes, kBackWarps = back_threads(kQuads) / kLanes;
  SIMT_SHARED(float, of_warps, [2][kBackWarps][kColumns]);
  const int which = static_cast<int>(threadIdx.x) / kColumns, column = static_cast<int>(threadIdx.x) % kColumns;
  for (int q = 0; q < kQuads; ++q) {
    simt::store4(&of_warps[0][warp_of_thread()][kQuad * lane_of_thread()], dgamma[q]);
    simt::store4(&of_warps[1][warp_of_thread()][kQuad * lane_of_thread()], dbeta[q]);
    __syncthreads();
    if (which < 2 && q * kColumns + column < n) {
      float sum = 0;
      for (int w = 0; w < kBackWarps; ++w) sum += of_warps[which][w][column];
      sums[which * n + q * kColumns + column] = sum;
    }
    __syncthreads();
  }
}

template <int kQuads, bool kWhole>
__global__ void __launch_bounds__(back_threads(kQuads))
    layer_norm_backward_kernel(const float* dy, const float* x, const float* gamma, float* dx, float* sums,
                               float epsilon, int n, std::int64_t rows, std::int64_t rows_per_block) {
  float4 dgamma[kQuads], dbeta[kQuads];
  for (int q = 0; q < kQuads; ++q) dgamma[q] = dbeta[q] = {0, 0, 0, 0};
  const std::int64_t begin = blockIdx.x * rows_per_block, end = min(rows, begin + rows_per_block);
  for (std::int64_t row = begin + warp_of_thread(); row < end; row += back_threads(kQuads) / kLanes) {
    float4 normal[kQuads], g[kQuads];
    load_row<kQuads, kWhole>(x + row * n, n, normal);
    load_row<kQuads, kWhole>(dy + row * n, n, g);
    const float scale = center_row<kQuads, kWhole>(normal, n, epsilon);
    float gradients = 0, products = 0;
    for (int q = 0; q < kQuads; ++q) {
      const auto product = [](float a, float b) { return a * b; };
      normal[q] = map_quad([&](float d) { return d * scale; }, normal[q]);
      dgamma[q] = dgamma[q] + map_quad(product, g[q], normal[q]);
      dbeta[q] = dbeta[q] + g[q];
      g[q] = map_quad(product, g[q], load_quad<kWhole>(gamma, quad_at(q), n));
      gradients += sum_of_quad(g[q]);
      products += sum_of_quad(map_quad(product, g[q], normal[q]));
    }
    const float mean_gradient = warp_sum(gradients) / static_cast<float>(n);
    const float mean_product = warp_sum(products) / static_cast<float>(n);
    const auto pass = [&](float g1, float d) { return scale * (g1 - mean_gradient - d * mean_product); };
    for (int q = 0; q < kQuads; ++q) store_quad<kWhole>(dx + row * n, quad_at(q), n, map_quad(pass, g[q], normal[q]));
  }
  write_sums<kQuads>(dgamma, dbeta, sums + 2 * std::int64_t{blockIdx.x} * n, n);
}

// 32 columns a block; each warp adds every kWarps-th part, and the first warp what those come to.
__global__ void layer_norm_sum_parts_kernel(const float* sums, int parts, int n, float* dgamma, float* dbeta) {
  SIMT_SHARED(float, of_warps, [kWarps][kLanes]);
  const int column = static_cast<int>(blockIdx.x) * kLanes + lane_of_thread();
  float sum = 0;
  if (column < 2 * n)
    for (int part = warp_of_thread(); part < parts; part += kWarps) sum += sums[std::int64_t{part} * 2 * n + column];
  of_warps[warp_of_thread()][lane_of_thread()] = sum;
  __syncthreads();
  if (warp_of_thread() != 0 || column >= 2 * n) return;
  sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += of_warps[w][lane_of_thread()];
  float* const to = column < n ? dgamma : dbeta;
  to[column % n] = sum;
}

// ---- rows that are too long for a warp's registers: a thread has every kBlock-th value

struct Moments {
  float mean, scale;
};

__device__ Moments block_moments(const float* x, int n, float epsilon) {
  float sum = 0, squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kBlock) sum += x[i];
  const float mean = block_sum<kBlock>(sum) / static_cast<float>(n);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kBlock) squares += (x[i] - mean) * (x[i] - mean);
  return {mean, scale_of(block_sum<kBlock>(squares), n, epsilon)};
}

__global__ void layer_norm_forward_long_kernel(const float* x, const float* gamma, const float* beta, float* y,
                                               float epsilon, int n) {
  const float* row = x + std::int64_t{blockIdx.x} * n;
  const Moments m = block_moments(row, n, epsilon);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kBlock)
    y[std::int64_t{blockIdx.x} * n + i] = (row[i] - m.mean) * m.scale * gamma[i] + beta[i];
}

__global__ void layer_norm_backward_long_kernel(const float* dy, const float* x, const float* gamma, float* dx,
                                                float* sums, float epsilon, int n, std::int64_t rows,
                                                std::int64_t rows_per_block) {
  float *dgamma = sums + 2 * std::int64_t{blockIdx.x} * n, *dbeta = dgamma + n;
  const std::int64_t begin = blockIdx.x * rows_per_block, end = min(rows, begin + rows_per_block);
  for (std::int64_t row = begin; row < end; ++row) {
    const float *of_y = dy + row * n, *of_x = x + row * n;
    const Moments m = block_moments(of_x, n, epsilon);
    float gradients = 0, products = 0;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kBlock) {
      const float normal = (of_x[i] - m.mean) * m.scale, g = of_y[i] * gamma[i];
      gradients += g;
      products += g * normal;
      dgamma[i] = (row == begin ? 0.0f : dgamma[i]) + of_y[i] * normal;
      dbeta[i] = (row == begin ? 0.0f : dbeta[i]) + of_y[i];
    }
    const float mean_gradient = block_sum<kBlock>(gradients) / static_cast<float>(n);
    const float mean_product = block_sum<kBlock>(products) / static_cast<float>(n);
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kBlock) {
      const float normal = (of_x[i] - m.mean) * m.scale;
      dx[row * n + i] = m.scale * (of_y[i] * gamma[i] - mean_gradient - normal * mean_product);
    }
  }
}

// ---- launches

// No more parts than have a row for every warp.
Chunks parts_of(const TensorType& type) {
  const std::int64_t all = rows(type), n = features(type);
  const std::int64_t warps = n > kLongest ? 1 : back_threads(quads_of_lane(n)) / kLanes;
  return Chunks::of(all, std::min(kParts, (all + warps - 1) / warps));
}

float epsilon_of(const OpShape& shape) { return static_cast<float>(real_attribute(shape.attributes, "epsilon")); }

bool is_whole(const KernelArguments& a, int n) {
  return lie_in_quads(n, {a.inputs[0], a.inputs[1], a.inputs[2], a.outputs[0]});
}

template <int kQuads>
void launch_forward(const OpShape& shape, const KernelArguments& a, int n) {
  const std::int64_t all = rows(shape.inputs[0]);
  const auto kernel =
      is_whole(a, n) ? layer_norm_forward_kernel<kQuads, true> : layer_norm_forward_kernel<kQuads, false>;
  simt::launch(kernel, (all + kWarps - 1) / kWarps, kBlock, 0, stream_of(a), floats(a.inputs[0]), floats(a.inputs[1]),
               floats(a.inputs[2]), floats(a.outputs[0]), epsilon_of(shape), n, all);
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const auto n = static_cast<int>(features(shape.inputs[0]));
  if (n > kLongest)
    simt::launch(layer_norm_forward_long_kernel, rows(shape.inputs[0]), kBlock, 0, stream_of(a), floats(a.inputs[0]),
                 floats(a.inputs[1]), floats(a.inputs[2]), floats(a.outputs[0]), epsilon_of(shape), n);
  else if (quads_of_lane(n) == kMostQuads)
    launch_forward<kMostQuads>(shape, a, n);
  else if (quads_of_lane(n) == kMostQuads / 2)
    launch_forward<kMostQuads / 2>(shape, a, n);
  else
    launch_forward<2>(shape, a, n);
}

using BackwardKernel = void (*)(const float*, const float*, const float*, float*, float*, float, int, std::int64_t,
                                std::int64_t);

template <int kQuads>
BackwardKernel backward_kernel(const KernelArguments& a, int n) {
  return is_whole(a, n) ? layer_norm_backward_kernel<kQuads, true> : layer_norm_backward_kernel<kQuads, false>;
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const auto n = static_cast<int>(features(shape.inputs[0]));
  const int quads = quads_of_lane(n);
  const BackwardKernel kernel = n > kLongest              ? layer_norm_backward_long_kernel
                                : quads == kMostQuads     ? backward_kernel<kMostQuads>(a, n)
                                : quads == kMostQuads / 2 ? backward_kernel<kMostQuads / 2>(a, n)
                                                          : backward_kernel<2>(a, n);
  const Chunks parts = parts_of(shape.inputs[0]);
  simt::launch(kernel, parts.count, n > kLongest ? kBlock : back_threads(quads), 0, stream_of(a), floats(a.inputs[0]),
               floats(a.inputs[1]), floats(a.inputs[2]), floats(a.outputs[0]), floats(a.workspace), epsilon_of(shape),
               n, parts.total, parts.size);
  simt::launch(layer_norm_sum_parts_kernel, (2 * n + kLanes - 1) / kLanes, kBlock, 0, stream_of(a), floats(a.workspace),
               static_cast<int>(parts.count), n, floats(a.outputs[1]), floats(a.outputs[2]));
}

}  // namespace

void register_layer_norm_cuda(OpRegistry& registry) {
  registry.add_kernels("layer_norm", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, forward); }});
  registry.add_kernels(
      "layer_norm_backward", kCudaBackend,
      {.workspace = [](const OpShape& s) { return Bytes{8 * parts_of(s.inputs[0]).count * features(s.inputs[0])}; },
       .make_kernel = [](const OpShape& s) { return function_kernel(s, backward); }});
}

}  // namespace thimble
