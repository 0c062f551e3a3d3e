// What searches minimise instead of the peak itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "thimble/units.h"

namespace thimble {

/// The 32-norm of live bytes over steps: near the peak where one step has it, higher where many come close. Several
/// equal peaks are the rule, and a change that lowers one of them would else count for nothing.
inline double smooth_peak(const std::vector<Bytes>& live) {
  constexpr int kDoublings = 5;
  Bytes most;
  for (Bytes bytes : live) most = std::max(most, bytes);
  double sum = 0;
  for (Bytes bytes : live) {
    double share = static_cast<double>(bytes.value) / static_cast<double>(most.value);
    for (int i = 0; i < kDoublings; ++i) share *= share;
    sum += share;
  }
  return static_cast<double>(most.value) * std::pow(sum, 1.0 / (1 << kDoublings));
}

}  // namespace thimble
