#include "thimble/augment.h"

#include <algorithm>
#include <string>

#include "thimble/error.h"
#include "thimble/initialize.h"
#include "thimble/shuffle.h"

namespace thimble {
namespace {

// How many samples there is room for.
std::int64_t check_batch(const Dataset& dataset, std::int64_t begin, const PictureBatch& batch) {
  std::int64_t samples = -1;
  const auto count = [&](const char* what, std::size_t values, std::int64_t of_sample) {
    const auto all = static_cast<std::int64_t>(values);
    if (all == 0) return;
    if (samples < 0) samples = all / of_sample;
    if (all != samples * of_sample)
      throw InvalidArgument("batch: room for " + std::to_string(all) + " values of " + what + ", which are " +
                            std::to_string(of_sample) + " a sample; the batch has " + std::to_string(samples));
  };
  count("labels", batch.labels.size(), 1);
  count("pictures", batch.pictures.size(), kPictureBytes);
  count("crops", batch.crops.size(), kCropValues);
  samples = std::max<std::int64_t>(samples, 0);
  if (begin < 0 || begin > dataset.size() - samples)
    throw InvalidArgument("batch: samples " + std::to_string(begin) + ".." + std::to_string(begin + samples) +
                          " of data set '" + dataset.name + "', which has " + std::to_string(dataset.size()));
  return samples;
}

void write_sample(const Dataset& dataset, std::int64_t index, const Crop& crop, std::int64_t at,
                  const PictureBatch& batch) {
  const auto i = static_cast<std::size_t>(at);
  if (!batch.pictures.empty())
    std::ranges::copy(dataset.picture(index), batch.pictures.subspan(i * kPictureBytes).begin());
  if (!batch.crops.empty()) std::ranges::copy(crop, batch.crops.subspan(i * kCropValues).begin());
  if (!batch.labels.empty()) batch.labels[i] = dataset.labels[static_cast<std::size_t>(index)];
}

}  // namespace

Crop random_crop(std::uint64_t seed, std::int64_t epoch, std::int64_t index) {
  const PhiloxBlock random = random_block_of_epoch(seed, stable_hash("crop"), epoch, static_cast<std::uint64_t>(index));
  constexpr std::uint64_t kPlaces = 2 * kCropPadding + 1;
  const auto shift = [](std::uint64_t word) { return static_cast<std::int32_t>(word * kPlaces >> 32) - kCropPadding; };
  return {shift(random[0]), shift(random[1]), static_cast<std::int32_t>(random[2] & 1u)};
}

void fill_training_batch(const Dataset& dataset, std::uint64_t seed, std::int64_t epoch, std::int64_t begin,
                         bool augment, const PictureBatch& batch) {
  const std::int64_t count = check_batch(dataset, begin, batch);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t index = shuffled_index(seed, epoch, begin + i, dataset.size());
    write_sample(dataset, index, augment ? random_crop(seed, epoch, index) : Crop{}, i, batch);
  }
}

void fill_evaluation_batch(const Dataset& dataset, std::int64_t begin, const PictureBatch& batch) {
  const std::int64_t count = check_batch(dataset, begin, batch);
  for (std::int64_t i = 0; i < count; ++i) write_sample(dataset, begin + i, Crop{}, i, batch);
}

}  // namespace thimble
