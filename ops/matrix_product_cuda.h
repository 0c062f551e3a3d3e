// Products of row-major float matrices on a device. Which library makes them is decided by linking: cuBLASLt
// (matrix_product_cublas.cpp) in the library for CUDA, our own tiles (matrix_product_cuda.cu) where kernels are
// emulated. Both keep to the same workspace, so a plan's bytes need neither. Included by files that know no kernels.
#pragma once

#include <memory>

#include "cuda_kernels.h"
#include "matrix_product.h"
#include "thimble/op_registry.h"

namespace thimble {

/// How a matrix lies in memory, and the `count` of them that a product takes.
struct DeviceMatrix {
  std::int64_t stride = 0;                                            ///< floats from one stored row to the next
  bool transposed = false;                                            ///< stored {columns, rows}
  std::int64_t step = 0;                                              ///< floats from one matrix to the next
  std::int64_t alignment = static_cast<std::int64_t>(sizeof(float));  ///< bytes that every address of it divides by
};

/// c {rows, columns} = alpha a {rows, depth} b {depth, columns}, + c where it adds, + bias {columns} where there is
/// one.
struct DeviceProduct {
  ProductSizes sizes;
  DeviceMatrix a, b, c;  ///< c is not transposed
  std::int64_t count = 1;
  bool has_bias = false;
  Bytes most_workspace;  ///< for sums over parts of the depth; fewer parts where it is small
};

struct ProductArguments {
  const float *a = nullptr, *b = nullptr, *bias = nullptr;
  float* c = nullptr;  ///< must not lie where a, b or the bias do
  float alpha = 1;
  bool adds = false;
  std::byte* workspace = nullptr;  ///< `product_workspace` bytes, aligned to kAlignment
  void* stream = nullptr;
};

/// A product prepared once. `run` enqueues and does nothing else.
class PreparedProduct {
 public:
  virtual ~PreparedProduct() = default;
  virtual void run(const ProductArguments& arguments) = 0;
};

/// cuBLASLt wants its workspace at a multiple of 256; what is booked has room for that.
inline constexpr Bytes kProductSlack{256 - kAlignment.value};

Bytes product_workspace(const DeviceProduct& product);
/// 2 rows columns depth, and what stays undone where the parts of c are fewer than a device takes at once.
OpCost product_cost(const DeviceProduct& product);

/// By the implementation that is linked.
std::unique_ptr<PreparedProduct> prepare_product(const DeviceProduct& product, const DeviceDescription& device);
/// By our own tiles: fp32, sums over the depth in order.
std::unique_ptr<PreparedProduct> prepare_tiled_product(const DeviceProduct& product);

/// What every address of a tensor divides by: its own, or those of the samples that a microbatch begins with.
std::int64_t alignment_of(const TensorType& type);

}  // namespace thimble
