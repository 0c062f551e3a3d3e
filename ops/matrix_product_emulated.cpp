// Products where cuBLASLt is not linked: our own tiles.
#include "matrix_product_cuda.h"

namespace thimble {

std::unique_ptr<PreparedProduct> prepare_product(const DeviceProduct& product, const DeviceDescription&) {
  return prepare_tiled_product(product);
}

}  // namespace thimble
