// What the loss reads and makes, and in which slices: the same on every device.
#pragma once

#include <algorithm>

#include "thimble/op_registry.h"

namespace thimble::vocabulary_loss {

inline constexpr const char* kKind = "vocabulary_loss";

enum Input : std::size_t { kX, kWeights, kTargets, kLengths };
enum Output : std::size_t { kLoss, kNll, kInputGradient, kWeightsGradient };

struct LossSizes {
  std::int64_t sentences, room, channels, vocabulary, slice;

  static LossSizes of(const OpShape& shape) {
    const std::vector<std::int64_t>& x = shape.inputs[kX].shape;
    return {x[0], x[1], x[2], shape.inputs[kWeights].shape[0],
            std::min(int_attribute(shape.attributes, "slice"), x[0] * x[1])};
  }
};

}  // namespace thimble::vocabulary_loss
