// Philox blocks side by side, for ops that drop values: what a word is depends on (seed, step, stream, sample, place).
#pragma once

#include <cstdint>

#include "thimble/op_registry.h"

namespace thimble {

inline constexpr std::int64_t kRandomWords = 64;                 // made together, so that the rounds use vectors
inline constexpr std::int64_t kRandomBlocks = kRandomWords / 4;  // so many counters

/// Whose numbers: `sample` counts in the step's batch, `stream` tells the ops of a step apart.
struct RandomSource {
  std::uint64_t seed;
  std::uint32_t step, stream, sample;
};

RandomSource random_source(const KernelArguments& arguments, const OpShape& shape, std::int64_t sample_at_hand);

/// Words of the blocks with counters (block + l, sample, stream, step), l in [0, kRandomBlocks), one after the other.
void make_random_words(const RandomSource& source, std::uint32_t block, std::uint32_t* words);

/// y[i] = x[i] / (1 - rate), or 0 with probability `rate`, for up to kRandomWords values.
void drop_values(const float* x, const std::uint32_t* words, float rate, float* y, std::int64_t count);

}  // namespace thimble
