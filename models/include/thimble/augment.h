// Batches of a data set, as the op crop_pictures takes them: bytes, and where each picture is cut from. What a sample
// looks like depends on (seed, epoch, its index in the data set) only: not on the batch, the microbatch or the thread.
// Nothing is allocated.
//
//   fill_training_batch(data.train, seed, epoch, /*begin=*/step * batch, /*augment=*/true, {pictures, crops, labels});
#pragma once

#include <cstdint>
#include <span>

#include "thimble/dataset.h"

namespace thimble {

inline constexpr int kCropPadding = 4;  ///< reflected pixels on each side of a picture
inline constexpr std::int64_t kCropValues = 3;

/// A window of the padded picture: rows further down and columns further right than the picture itself, -4..4, then
/// mirrored (1) or not (0).
using Crop = std::array<std::int32_t, kCropValues>;

Crop random_crop(std::uint64_t seed, std::int64_t epoch, std::int64_t index);

/// Inputs of as many samples each. Empty: nobody reads that one.
struct PictureBatch {
  std::span<std::uint8_t> pictures;  ///< kPictureBytes a sample: channel planes
  std::span<std::int32_t> crops;     ///< kCropValues a sample
  std::span<std::int32_t> labels;
};

/// Fills the batch from position `begin` of the epoch's shuffled order; without `augment` pictures are neither shifted
/// nor mirrored. Throws InvalidArgument where the spans disagree or the samples are not there.
void fill_training_batch(const Dataset& dataset, std::uint64_t seed, std::int64_t epoch, std::int64_t begin,
                         bool augment, const PictureBatch& batch);

/// The same in the data set's own order, unchanged.
void fill_evaluation_batch(const Dataset& dataset, std::int64_t begin, const PictureBatch& batch);

}  // namespace thimble
