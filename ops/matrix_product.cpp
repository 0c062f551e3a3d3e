#include "matrix_product.h"

#include <algorithm>
#include <dnnl.hpp>

#include "one_thread.h"
#include "thimble/error.h"
#include "thimble/library_scope.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kRows = 64, kColumns = 256, kDepth = 512;

// One tile of c, the depth in pieces one after the other.
void multiply_tile(std::int64_t row, std::int64_t column, const ProductSizes& all, const MatrixView& a,
                   const MatrixView& b, float* c, std::int64_t stride, bool adds) {
  const LibraryScope library;
  const std::int64_t rows = std::min(kRows, all.rows - row), columns = std::min(kColumns, all.columns - column);
  for (std::int64_t k = 0; k < all.depth; k += kDepth) {
    const float kept = adds || k > 0 ? 1.0f : 0.0f;
    const dnnl_status_t status =
        dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', rows, columns, std::min(kDepth, all.depth - k),
                   1.0f, a.at(row, k), a.stride, b.at(k, column), b.stride, kept, c + row * stride + column, stride);
    if (status != dnnl_success) throw Error("matrix product: oneDNN refuses it, status " + std::to_string(status));
  }
}

}  // namespace

void multiply(int threads, const ProductSizes& sizes, const MatrixView& a, const MatrixView& b, float* c,
              std::int64_t stride, bool adds) {
  const std::int64_t across = (sizes.columns + kColumns - 1) / kColumns;
  const std::int64_t down = (sizes.rows + kRows - 1) / kRows;
  parallel_chunks(threads, down * across, [&](std::int64_t tile) {
    keep_library_on_one_thread();
    multiply_tile(tile / across * kRows, tile % across * kColumns, sizes, a, b, c, stride, adds);
  });
}

void multiply_in_task(const ProductSizes& sizes, const MatrixView& a, const MatrixView& b, float* c,
                      std::int64_t stride, bool adds) {
  keep_library_on_one_thread();
  for (std::int64_t row = 0; row < sizes.rows; row += kRows)
    for (std::int64_t column = 0; column < sizes.columns; column += kColumns)
      multiply_tile(row, column, sizes, a, b, c, stride, adds);
}

}  // namespace thimble
