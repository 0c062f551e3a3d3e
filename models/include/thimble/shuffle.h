// The order of an epoch as a function of (seed, epoch, position): nothing to save, nothing to rebuild.
//
//   for (std::int64_t i = 0; i < size; ++i) visit(shuffled_index(seed, epoch, i, size));     // each once
#pragma once

#include <cstdint>

#include "thimble/philox.h"

namespace thimble {

/// Random words for one purpose in an epoch.
PhiloxBlock random_block_of_epoch(std::uint64_t seed, std::uint64_t purpose, std::int64_t epoch, std::uint64_t value);

/// Where position `position` of an epoch's order lies among `size` samples: a permutation of [0, size) for each
/// (seed, epoch), in constant memory, so that going on anywhere needs no state. A Feistel network over Philox, walked
/// until it hits [0, size). Throws InvalidArgument where position is not in [0, size).
std::int64_t shuffled_index(std::uint64_t seed, std::int64_t epoch, std::int64_t position, std::int64_t size);

}  // namespace thimble
