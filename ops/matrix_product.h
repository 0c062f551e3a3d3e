// Products of float matrices, cut into tiles of a size that depends on nothing: each is one call of oneDNN's sgemm by
// one task, so the thread count changes no bits, and small enough for it not to copy what it reads.
#pragma once

#include <cstdint>

namespace thimble {

/// Element (i, j) is data[i * stride + j], or data[j * stride + i] where `transposed`.
struct MatrixView {
  const float* data = nullptr;
  std::int64_t stride = 0;
  bool transposed = false;

  const float* at(std::int64_t i, std::int64_t j) const {
    return data + (transposed ? j * stride + i : i * stride + j);
  }
};

struct ProductSizes {
  std::int64_t rows = 0, columns = 0, depth = 0;
};

/// c {rows, columns} = a {rows, depth} b {depth, columns}, or c + a b where `adds`; row i of c begins at c + i *
/// stride. Must not lie where a or b do.
void multiply(int threads, const ProductSizes& sizes, const MatrixView& a, const MatrixView& b, float* c,
              std::int64_t stride, bool adds);

/// The same on the calling thread, for what is a task already.
void multiply_in_task(const ProductSizes& sizes, const MatrixView& a, const MatrixView& b, float* c,
                      std::int64_t stride, bool adds);

}  // namespace thimble
