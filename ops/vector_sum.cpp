#include "vector_sum.h"

#include "registration.h"

namespace thimble {

THIMBLE_CLONES void add_vectors(const float* a, const float* b, float* sum, std::int64_t count) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < count; ++i) sum[i] = a[i] + b[i];
}

THIMBLE_CLONES void add_scaled(const float* __restrict x, float scale, float* __restrict sum, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) sum[i] += scale * x[i];
}

}  // namespace thimble
