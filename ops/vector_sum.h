// Sums of float vectors, the one loop for all ops that add.
#pragma once

#include <cstdint>

namespace thimble {

/// sum[i] = a[i] + b[i]; sum may be a or b.
void add_vectors(const float* a, const float* b, float* sum, std::int64_t count);

/// sum[i] += scale * x[i]; sum must not lie where x does.
void add_scaled(const float* x, float scale, float* sum, std::int64_t count);

}  // namespace thimble
