#include "thimble/augment.h"

#include <algorithm>
#include <array>
#include <string>

#include "thimble/error.h"
#include "thimble/initialize.h"
#include "thimble/shuffle.h"

namespace thimble {
namespace {

constexpr std::array<double, kPictureChannels> kMean{125.3, 123.0, 113.9};
constexpr std::array<double, kPictureChannels> kDeviation{63.0, 62.1, 66.7};

using NormalizedValues = std::array<std::array<float, 256>, kPictureChannels>;

constexpr NormalizedValues kNormalized = [] {
  NormalizedValues table{};
  for (std::size_t c = 0; c < table.size(); ++c)
    for (std::size_t v = 0; v < 256; ++v)
      table[c][v] = static_cast<float>((static_cast<double>(v) - kMean[c]) / kDeviation[c]);
  return table;
}();

// -1 is 1 and 32 is 30: the border itself is not repeated.
constexpr std::int64_t reflect(std::int64_t i) {
  if (i < 0) return -i;
  return i < kPictureSide ? i : 2 * (kPictureSide - 1) - i;
}

// How many samples there is room for.
std::size_t check_batch(const Dataset& dataset, std::int64_t begin, std::size_t images, std::size_t labels) {
  const std::size_t samples = labels == 0 ? images / kPictureBytes : labels;
  const auto count = static_cast<std::int64_t>(samples);
  if (images != 0 && images != samples * kPictureBytes)
    throw InvalidArgument("batch: room for " + std::to_string(images) + " values, " + std::to_string(count) +
                          " labels need " + std::to_string(samples * kPictureBytes));
  if (begin < 0 || begin > dataset.size() - count)
    throw InvalidArgument("batch: samples " + std::to_string(begin) + ".." + std::to_string(begin + count) +
                          " of data set '" + dataset.name + "', which has " + std::to_string(dataset.size()));
  return samples;
}

void write_sample(const Dataset& dataset, std::int64_t index, const Crop& crop, std::size_t at, std::span<float> images,
                  std::span<std::int32_t> labels) {
  if (!images.empty()) write_picture(dataset.picture(index), crop, images.subspan(at * kPictureBytes, kPictureBytes));
  if (!labels.empty()) labels[at] = dataset.labels[static_cast<std::size_t>(index)];
}

}  // namespace

Crop random_crop(std::uint64_t seed, std::int64_t epoch, std::int64_t index) {
  const PhiloxBlock random = random_block_of_epoch(seed, stable_hash("crop"), epoch, static_cast<std::uint64_t>(index));
  constexpr std::uint64_t kPlaces = 2 * kCropPadding + 1;
  return {.row = static_cast<int>(random[0] * kPlaces >> 32),
          .column = static_cast<int>(random[1] * kPlaces >> 32),
          .flip = (random[2] & 1u) != 0};
}

void write_picture(std::span<const std::uint8_t> picture, const Crop& crop, std::span<float> out) {
  if (picture.size() != kPictureBytes || out.size() != kPictureBytes)
    throw InvalidArgument("write_picture: spans of " + std::to_string(picture.size()) + " and " +
                          std::to_string(out.size()) + " values; both have 3072");
  std::array<std::int64_t, kPictureSide> column_of{};
  for (std::int64_t x = 0; x < kPictureSide; ++x)
    column_of[static_cast<std::size_t>(x)] =
        reflect((crop.flip ? kPictureSide - 1 - x : x) + crop.column - kCropPadding);
  float* to = out.data();
  for (std::int64_t y = 0; y < kPictureSide; ++y) {
    const std::uint8_t* row = picture.data() + reflect(y + crop.row - kCropPadding) * kPictureSide;
    for (std::int64_t column : column_of)
      for (std::int64_t c = 0; c < kPictureChannels; ++c)
        *to++ = kNormalized[static_cast<std::size_t>(c)][row[c * kPictureSide * kPictureSide + column]];
  }
}

void fill_training_batch(const Dataset& dataset, std::uint64_t seed, std::int64_t epoch, std::int64_t begin,
                         bool augment, std::span<float> images, std::span<std::int32_t> labels) {
  const std::size_t count = check_batch(dataset, begin, images.size(), labels.size());
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t index = shuffled_index(seed, epoch, begin + static_cast<std::int64_t>(i), dataset.size());
    const Crop crop = augment ? random_crop(seed, epoch, index) : Crop{};
    write_sample(dataset, index, crop, i, images, labels);
  }
}

void fill_evaluation_batch(const Dataset& dataset, std::int64_t begin, std::span<float> images,
                           std::span<std::int32_t> labels) {
  const std::size_t count = check_batch(dataset, begin, images.size(), labels.size());
  for (std::size_t i = 0; i < count; ++i)
    write_sample(dataset, begin + static_cast<std::int64_t>(i), Crop{}, i, images, labels);
}

}  // namespace thimble
