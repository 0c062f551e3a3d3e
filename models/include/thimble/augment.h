// Filling a step's inputs: order of the epoch, crop, flip, normalisation. Nothing is allocated.
//
//   fill_training_batch(data.train, seed, epoch, first, true, images, labels);
//
// What a sample becomes depends on (seed, epoch, its index in the data set) only, its place in the epoch on
// (seed, epoch, position): resuming at any position needs no state.
#pragma once

#include <cstdint>
#include <span>

#include "thimble/dataset.h"

namespace thimble {

/// A permutation of [0, size) for every (seed, epoch), in constant memory: a Feistel network over the next power of
/// four, walked until it is back in range.
std::int64_t shuffled_index(std::uint64_t seed, std::int64_t epoch, std::int64_t position, std::int64_t size);

/// `images` {N, 32, 32, 3} NHWC, normalised per channel; `labels` {N}. N is what `labels` holds. Training pads by 4
/// with reflection, crops at random and flips at random where `augment`.
void fill_training_batch(const Dataset& data, std::uint64_t seed, std::int64_t epoch, std::int64_t first, bool augment,
                         std::span<float> images, std::span<std::int32_t> labels);

/// Samples `first` ... in order, only normalised.
void fill_evaluation_batch(const Dataset& data, std::int64_t first, std::span<float> images,
                           std::span<std::int32_t> labels);

}  // namespace thimble
