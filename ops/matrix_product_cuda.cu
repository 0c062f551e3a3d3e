// Matrix products by our own tiles: shared memory and registers, any sizes, sums over the depth in order. Where tiles
// are too few for a device, the depth is cut into parts whose sums are added in order.
#include "matrix_product_cuda.h"

#include <algorithm>
#include <numeric>

#include "cuda_ops.h"

namespace thimble {
namespace {

constexpr int kThreads = 256;
constexpr double kRateOfSmallTiles = 0.85;
constexpr std::int64_t kBusy = 96;        // multiprocessors, where no more work is looked for
constexpr std::int64_t kLeastPart = 128;  // of the depth that a part of it has

// Of the depth, what is in shared memory at a time for tiles of that many rows and columns.
constexpr int depth_step(int tile) { return tile == 128 ? 8 : 16; }

// What a product is cut into.
struct TilePlan {
  std::int64_t tile = 0;   // rows and columns of one
  std::int64_t tiles = 0;  // of one matrix
  std::int64_t parts = 1;  // of the depth

  static std::int64_t count_of(const ProductSizes& s, std::int64_t tile) {
    return (s.rows + tile - 1) / tile * ((s.columns + tile - 1) / tile);
  }
  static TilePlan of(const DeviceProduct& product) {
    const ProductSizes& s = product.sizes;
    TilePlan plan{128, count_of(s, 128), 1};
    if (std::min(s.rows, s.columns) < 128 || plan.tiles * product.count < kMultiprocessors) {
      plan.tile = 64;
      plan.tiles = count_of(s, 64);
    }
    // As many as cuBLASLt would like: where few processors have a tile of 128 x 128, two for each of all.
    const std::int64_t blocks = count_of(s, 128) * product.count;
    const std::int64_t wanted =
        blocks < kBusy ? std::min((2 * kMultiprocessors + blocks - 1) / blocks, s.depth / kLeastPart) : 1;
    const std::int64_t possible = product.most_workspace.value / bytes_of_part(product).value;
    plan.parts = std::max<std::int64_t>(1, std::min(wanted, possible));
    return plan;
  }
  static Bytes bytes_of_part(const DeviceProduct& product) {
    return Bytes{4 * product.count * product.sizes.rows * product.sizes.columns};
  }
  std::int64_t part_of(std::int64_t depth) const {
    const std::int64_t step = depth_step(static_cast<int>(tile)), steps = (depth + step - 1) / step;
    return (steps + parts - 1) / parts * step;
  }
};

// A product as its kernels see it.
struct Tiling {
  const float *a, *b, *bias;
  float* c;
  std::int64_t a_stride, a_step, b_stride, b_step, c_stride, c_step;
  int rows, columns, depth, part, across;
  unsigned tiles;
  float alpha;
  bool adds;
};

// Carries a tile of an operand, `kTile` wide and kDepthStep deep, through registers into shared memory: the next one is
// on its way while this one is used. `kAlongDepth`: its floats lie one after the other along the depth.
template <int kTile, bool kAlongDepth>
struct TileLoader {
  static constexpr int kDepthStep = depth_step(kTile);
  static constexpr int kLoads = kTile * kDepthStep / kThreads;
  static constexpr int kLine = kTile + 4;  // floats of a line in shared memory: 16-byte aligned, no stride of 32 banks
  static constexpr int kPerLoad = kThreads / (kAlongDepth ? kDepthStep : kTile);

  const float* next;
  std::int64_t stride;
  int item, depth;  // where the thread's first float is in the tile
  int items;        // how many the tile has
  int left;         // of the depth
  float values[kLoads];

  __device__ TileLoader(const float* matrix, std::int64_t operand_stride, int tile, int all_items, int begin, int end)
      : stride(operand_stride), items(all_items - tile * kTile), left(end - begin) {
    const int thread = static_cast<int>(threadIdx.x);
    item = kAlongDepth ? thread / kDepthStep : thread % kTile;
    depth = kAlongDepth ? thread % kDepthStep : thread / kTile;
    const std::int64_t line = kAlongDepth ? tile * kTile + item : begin + depth;
    next = matrix + line * stride + (kAlongDepth ? begin + depth : tile * kTile + item);
  }

  __device__ void fetch() {
    SIMT_UNROLL
    for (int l = 0; l < kLoads; ++l) {
      const bool is_there =
          kAlongDepth ? depth < left && item + l * kPerLoad < items : depth + l * kPerLoad < left && item < items;
      values[l] = is_there ? __ldg(next + l * kPerLoad * stride) : 0.0f;
    }
    left -= kDepthStep;
    next += kAlongDepth ? kDepthStep : kDepthStep * stride;
  }

  __device__ void store(float* tile) const {
    SIMT_UNROLL
    for (int l = 0; l < kLoads; ++l) {
      if constexpr (kAlongDepth)
        tile[depth * kLine + item + l * kPerLoad] = values[l];
      else
        tile[(depth + l * kPerLoad) * kLine + item] = values[l];
    }
  }
};

// Of what a thread makes, the i-th row or column: groups of four, so that four floats are read at once.
__device__ inline int place_of(int thread, int i) { return i / 4 * 64 + thread * 4 + i % 4; }

__device__ inline void read_four(const float* from, float* to) {
  const float4 four = simt::load4(from);
  to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}

// A block makes one tile over one part of the depth; of several parts each goes to its place in the workspace, which is
// what c is then. 16 x 16 threads, each kPer x kPer values.
template <int kPer, bool kAAlongDepth, bool kBAlongDepth>
__global__ __launch_bounds__(kThreads, kPer == 8 ? 2 : 3) void product_kernel(Tiling p) {
  constexpr int kTile = 16 * kPer, kLine = kTile + 4, kDepthStep = depth_step(kTile);
  SIMT_SHARED(float4, a_lines, [kDepthStep * kLine / 4]);
  SIMT_SHARED(float4, b_lines, [kDepthStep * kLine / 4]);
  float *a_tile = &a_lines[0].x, *b_tile = &b_lines[0].x;
  const int tile = static_cast<int>(blockIdx.x % p.tiles), row_tile = tile / p.across, column_tile = tile % p.across;
  const std::int64_t matrix = blockIdx.x / p.tiles;
  const int begin = static_cast<int>(blockIdx.y) * p.part, end = min(begin + p.part, p.depth);
  TileLoader<kTile, kAAlongDepth> a(p.a + matrix * p.a_step, p.a_stride, row_tile, p.rows, begin, end);
  TileLoader<kTile, kBAlongDepth> b(p.b + matrix * p.b_step, p.b_stride, column_tile, p.columns, begin, end);
  const int down = static_cast<int>(threadIdx.x) / 16, across = static_cast<int>(threadIdx.x) % 16;

  float sums[kPer][kPer] = {};
  a.fetch();
  b.fetch();
  for (int k = begin; k < end; k += kDepthStep) {
    a.store(a_tile);
    b.store(b_tile);
    __syncthreads();
    a.fetch();
    b.fetch();
    SIMT_UNROLL
    for (int d = 0; d < kDepthStep; ++d) {
      float of_a[kPer], of_b[kPer];
      SIMT_UNROLL
      for (int i = 0; i < kPer; i += 4) {
        read_four(a_tile + d * kLine + place_of(down, i), of_a + i);
        read_four(b_tile + d * kLine + place_of(across, i), of_b + i);
      }
      SIMT_UNROLL
      for (int i = 0; i < kPer; ++i) SIMT_UNROLL
      for (int j = 0; j < kPer; ++j) sums[i][j] = fmaf(of_a[i], of_b[j], sums[i][j]);
    }
    __syncthreads();
  }

  float* c = p.c + matrix * p.c_step + blockIdx.y * (static_cast<std::int64_t>(gridDim.x / p.tiles) * p.c_step);
  for (int i = 0; i < kPer; ++i) {
    const int row = row_tile * kTile + place_of(down, i);
    if (row >= p.rows) break;
    for (int j = 0; j < kPer; ++j) {
      const int column = column_tile * kTile + place_of(across, j);
      if (column >= p.columns) break;
      float* to = c + row * p.c_stride + column;
      float value = p.alpha * sums[i][j];
      if (p.adds) value += *to;
      if (p.bias != nullptr) value += p.bias[column];
      *to = value;
    }
  }
}

// c from the sums of the parts, which lie in p.a.
__global__ void sum_parts_kernel(Tiling p, int parts, std::int64_t all) {
  const std::int64_t i = global_thread();
  if (i >= all) return;
  float sum = p.a[i];
  for (int part = 1; part < parts; ++part) sum += p.a[part * all + i];
  const std::int64_t line = i / p.columns, column = i % p.columns;
  float* to = p.c + line / p.rows * p.c_step + line % p.rows * p.c_stride + column;
  float value = p.alpha * sum;
  if (p.adds) value += *to;
  if (p.bias != nullptr) value += p.bias[column];
  *to = value;
}

template <int kPer>
void (*kernel_of(bool a_along_depth, bool b_along_depth))(Tiling) {
  if (a_along_depth) return b_along_depth ? product_kernel<kPer, true, true> : product_kernel<kPer, true, false>;
  return b_along_depth ? product_kernel<kPer, false, true> : product_kernel<kPer, false, false>;
}

class TiledProduct final : public PreparedProduct {
 public:
  explicit TiledProduct(const DeviceProduct& product) : product_(product), plan_(TilePlan::of(product)) {
    const bool a_along_depth = !product.a.transposed, b_along_depth = product.b.transposed;
    kernel_ =
        plan_.tile == 128 ? kernel_of<8>(a_along_depth, b_along_depth) : kernel_of<4>(a_along_depth, b_along_depth);
  }

  void run(const ProductArguments& a) override {
    const ProductSizes& s = product_.sizes;
    const auto stream = static_cast<cudaStream_t>(a.stream);
    Tiling p{.a = a.a,
             .b = a.b,
             .bias = product_.has_bias ? a.bias : nullptr,
             .c = a.c,
             .a_stride = product_.a.stride,
             .a_step = product_.a.step,
             .b_stride = product_.b.stride,
             .b_step = product_.b.step,
             .c_stride = product_.c.stride,
             .c_step = product_.c.step,
             .rows = static_cast<int>(s.rows),
             .columns = static_cast<int>(s.columns),
             .depth = static_cast<int>(s.depth),
             .part = static_cast<int>(plan_.part_of(s.depth)),
             .across = static_cast<int>((s.columns + plan_.tile - 1) / plan_.tile),
             .tiles = static_cast<unsigned>(plan_.tiles),
             .alpha = a.alpha,
             .adds = a.adds};
    const dim3 grid(static_cast<unsigned>(plan_.tiles * product_.count), static_cast<unsigned>(plan_.parts));
    if (plan_.parts == 1) {
      simt::launch(kernel_, grid, kThreads, 0, stream, p);
      return;
    }
    Tiling of_parts = p;
    of_parts.c = floats(a.workspace);
    of_parts.c_stride = s.columns;
    of_parts.c_step = s.rows * s.columns;
    of_parts.bias = nullptr;
    of_parts.alpha = 1;
    of_parts.adds = false;
    simt::launch(kernel_, grid, kThreads, 0, stream, of_parts);
    p.a = of_parts.c;
    const std::int64_t all = product_.count * s.rows * s.columns;
    simt::launch(sum_parts_kernel, blocks_for(all), kBlock, 0, stream, p, static_cast<int>(plan_.parts), all);
  }

 private:
  DeviceProduct product_;
  TilePlan plan_;
  void (*kernel_)(Tiling) = nullptr;
};

}  // namespace

Bytes product_workspace(const DeviceProduct& product) {
  const TilePlan plan = TilePlan::of(product);
  if (plan.parts > 1) return plan.parts * TilePlan::bytes_of_part(product) + kProductSlack;
  DeviceProduct with_all_it_wants = product;
  with_all_it_wants.most_workspace = Bytes{std::int64_t{1} << 40};
  // A plan widens only what has a workspace.
  return TilePlan::of(with_all_it_wants).parts > 1 ? kAlignment : Bytes{};
}

OpCost product_cost(const DeviceProduct& product) {
  const TilePlan plan = TilePlan::of(product);
  const ProductSizes& s = product.sizes;
  OpCost cost;
  cost.flops = 2.0 * static_cast<double>(product.count * s.rows * s.columns) * static_cast<double>(s.depth);
  const auto slowness = [&](std::int64_t tile, double rate) {
    const auto blocks = static_cast<double>(TilePlan::count_of(s, tile) * plan.parts * product.count);
    return std::max(1.0, static_cast<double>(kMultiprocessors) / blocks) / rate;
  };
  // Of 512 x 512 x 4,000 cuBLASLt makes, in 1 part and in 8, 0.36 and 1 of its best rate on an H200.
  cost.idle_flops = cost.flops * (std::min(slowness(128, 1.0), slowness(64, kRateOfSmallTiles)) - 1);
  if (plan.parts > 1) cost.bytes = 2.0 * static_cast<double>(plan.parts * TilePlan::bytes_of_part(product).value);
  return cost;
}

std::unique_ptr<PreparedProduct> prepare_tiled_product(const DeviceProduct& product) {
  return std::make_unique<TiledProduct>(product);
}

std::int64_t alignment_of(const TensorType& type) {
  return type.batched ? std::gcd(kAlignment.value, 4 * elements_per_sample(type)) : kAlignment.value;
}

}  // namespace thimble
