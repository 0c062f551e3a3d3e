// Batches of normalised floats from a data set. What a sample looks like depends on (seed, epoch, its index in the data
// set) only: not on the batch, the microbatch or the thread. Nothing is allocated.
//
//   fill_training_batch(data.train, seed, epoch, /*begin=*/step * batch, /*augment=*/true, images, labels);
#pragma once

#include <cstdint>
#include <span>

#include "thimble/dataset.h"

namespace thimble {

/// How one sample is cut from its picture padded by four reflected pixels on each side.
struct Crop {
  int row = 4;     ///< 0..8, 4 is the middle
  int column = 4;  ///< 0..8
  bool flip = false;
  bool operator==(const Crop&) const = default;
};

inline constexpr int kCropPadding = 4;

Crop random_crop(std::uint64_t seed, std::int64_t epoch, std::int64_t index);

/// One picture as 3072 normalised floats, NHWC. Per channel mean 125.3, 123.0, 113.9 and deviation 63.0, 62.1, 66.7.
void write_picture(std::span<const std::uint8_t> picture, const Crop& crop, std::span<float> out);

/// Fills labels.size() samples from position `begin` of the epoch's shuffled order; without `augment` they are neither
/// cropped nor flipped. Of the two spans one may be empty: nobody reads those. Throws InvalidArgument where the spans
/// disagree or the samples are not there.
void fill_training_batch(const Dataset& dataset, std::uint64_t seed, std::int64_t epoch, std::int64_t begin,
                         bool augment, std::span<float> images, std::span<std::int32_t> labels);

/// The same in the data set's own order, unchanged.
void fill_evaluation_batch(const Dataset& dataset, std::int64_t begin, std::span<float> images,
                           std::span<std::int32_t> labels);

}  // namespace thimble
