#include "softmax_row.h"

#include <algorithm>

#include "registration.h"
#include "vector_exp.h"

namespace thimble {
namespace {

constexpr int kLanes = 16;

float sum_of(const float* lanes) {
  float sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += lanes[l];
  return sum;
}

THIMBLE_CLONES float largest_of(const float* x, float scale, std::int64_t n) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, scale * x[0]);
  const std::int64_t even = n / kLanes * kLanes;
  for (std::int64_t i = 0; i < even; i += kLanes)
    for (int l = 0; l < kLanes; ++l) {
      const float value = scale * x[i + l];
      lanes[l] = value > lanes[l] ? value : lanes[l];
    }
  for (std::int64_t i = even; i < n; ++i) lanes[0] = std::max(lanes[0], scale * x[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

THIMBLE_CLONES float sum_exponentials(const float* x, float scale, float largest, float* y, std::int64_t n) {
  float lanes[kLanes] = {};
  const std::int64_t even = n / kLanes * kLanes;
  for (std::int64_t i = 0; i < even; i += kLanes)
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) {
      const float e = exp_of(scale * x[i + l] - largest);
      y[i + l] = e;
      lanes[l] += e;
    }
  for (std::int64_t i = even; i < n; ++i) {
    y[i] = exp_of(scale * x[i] - largest);
    lanes[i - even] += y[i];
  }
  return sum_of(lanes);
}

}  // namespace

SoftmaxRow exponentials(const float* x, float scale, float* y, std::int64_t count) {
  const float largest = largest_of(x, scale, count);
  return {largest, sum_exponentials(x, scale, largest, y, count)};
}

THIMBLE_CLONES void subtract_and_exponentiate(float* x, float scale, float logarithm, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = exp_of(scale * x[i] - logarithm);
}

void pass_softmax(const float* softmax, float* gradient, std::int64_t count) {
  const float mean = dot_of(softmax, gradient, count);
  for (std::int64_t k = 0; k < count; ++k) gradient[k] = softmax[k] * (gradient[k] - mean);
}

THIMBLE_CLONES void scale_row(float* x, float factor, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) x[i] *= factor;
}

THIMBLE_CLONES float dot_of(const float* a, const float* b, std::int64_t count) {
  float lanes[kLanes] = {};
  const std::int64_t even = count / kLanes * kLanes;
  for (std::int64_t i = 0; i < even; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  for (std::int64_t i = even; i < count; ++i) lanes[i - even] += a[i] * b[i];
  return sum_of(lanes);
}

}  // namespace thimble
