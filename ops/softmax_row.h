// The softmax of one row of floats, and its gradient.
#pragma once

#include <cstdint>

namespace thimble {

struct SoftmaxRow {
  float largest;  // of scale * x
  float sum;      // of e^(scale * x - largest); the logarithm of all is largest + log(sum)
};

/// y[i] = e^(scale * x[i] - largest), not yet divided by the sum; y may be x.
SoftmaxRow exponentials(const float* x, float scale, float* y, std::int64_t count);

/// x[i] = e^(scale * x[i] - logarithm): the softmax of a row whose sum is known.
void subtract_and_exponentiate(float* x, float scale, float logarithm, std::int64_t count);

/// g[i] = s[i] (g[i] - sum_j s[j] g[j]): from the gradient of a softmax s to that of what it is of.
void pass_softmax(const float* softmax, float* gradient, std::int64_t count);

/// x[i] *= factor.
void scale_row(float* x, float factor, std::int64_t count);

/// Sixteen partial sums of products, added in a fixed order.
float dot_of(const float* a, const float* b, std::int64_t count);

}  // namespace thimble
