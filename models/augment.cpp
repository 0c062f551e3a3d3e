#include "thimble/augment.h"

#include "thimble/philox.h"

namespace thimble {
namespace {

constexpr int kSide = 32, kPad = 4;
// Of CIFAR-10's training set, in pixel values (Zagoruyko and Komodakis).
constexpr float kMean[3] = {125.3f, 123.0f, 113.9f};
constexpr float kDeviation[3] = {63.0f, 62.1f, 66.7f};
constexpr std::uint32_t kOrderStream = 1, kAugmentStream = 2;

struct Crop {
  int row = kPad, column = kPad;
  bool flip = false;
};

// Reflection without repeating the edge: -1 is 1, 32 is 30.
int reflected(int i) { return i < 0 ? -i : i >= kSide ? 2 * (kSide - 1) - i : i; }

void write_picture(const std::uint8_t* pixels, Crop crop, float* image) {
  for (int r = 0; r < kSide; ++r)
    for (int c = 0; c < kSide; ++c) {
      const int row = reflected(r + crop.row - kPad);
      const int column = reflected((crop.flip ? kSide - 1 - c : c) + crop.column - kPad);
      for (int p = 0; p < 3; ++p)
        *image++ = (static_cast<float>(pixels[p * kSide * kSide + row * kSide + column]) - kMean[p]) / kDeviation[p];
    }
}

}  // namespace

std::int64_t shuffled_index(std::uint64_t seed, std::int64_t epoch, std::int64_t position, std::int64_t size) {
  int half_bits = 1;
  while ((std::int64_t{1} << 2 * half_bits) < size) ++half_bits;
  const std::uint32_t mask = (std::uint32_t{1} << half_bits) - 1;
  auto value = static_cast<std::uint64_t>(position);
  do {
    auto left = static_cast<std::uint32_t>(value >> half_bits), right = static_cast<std::uint32_t>(value) & mask;
    for (std::uint32_t round = 0; round < 4; ++round) {
      const std::uint32_t mixed =
          philox({right, round, static_cast<std::uint32_t>(epoch), kOrderStream}, seed)[0] & mask;
      const std::uint32_t next = left ^ mixed;
      left = right;
      right = next;
    }
    value = std::uint64_t{left} << half_bits | right;
  } while (value >= static_cast<std::uint64_t>(size));
  return static_cast<std::int64_t>(value);
}

void fill_training_batch(const Dataset& data, std::uint64_t seed, std::int64_t epoch, std::int64_t first, bool augment,
                         std::span<float> images, std::span<std::int32_t> labels) {
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const std::int64_t index = shuffled_index(seed, epoch, first + static_cast<std::int64_t>(i), data.size());
    const PhiloxBlock random =
        philox({static_cast<std::uint32_t>(index), 0, static_cast<std::uint32_t>(epoch), kAugmentStream}, seed);
    Crop crop;
    if (augment)
      crop = {static_cast<int>(random[0] % (2 * kPad + 1)), static_cast<int>(random[1] % (2 * kPad + 1)),
              (random[2] & 1u) != 0};
    labels[i] = data.label(index);
    write_picture(data.pixels(index), crop, images.data() + i * Dataset::kPixels);
  }
}

void fill_evaluation_batch(const Dataset& data, std::int64_t first, std::span<float> images,
                           std::span<std::int32_t> labels) {
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const std::int64_t index = first + static_cast<std::int64_t>(i);
    labels[i] = data.label(index);
    write_picture(data.pixels(index), Crop{}, images.data() + i * Dataset::kPixels);
  }
}

}  // namespace thimble
