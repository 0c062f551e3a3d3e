#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "thimble/dataset.h"
#include "thimble/error.h"
#include "thimble/initialize.h"
#include "thimble/philox.h"

namespace thimble {
namespace {

constexpr float kPatternHeight = 28, kNoise = 90, kBrightness = 60;

PhiloxBlock random_block(std::uint64_t stream, const char* purpose, std::uint32_t a, std::uint32_t b = 0,
                         std::uint32_t c = 0) {
  return philox({a, b, c, 0}, stream ^ stable_hash(purpose));
}

// Three waves a channel, at most two periods over the picture, with directions and phases of the class.
std::vector<float> class_pattern(std::size_t label) {
  std::vector<float> pattern(kPictureBytes, 0.0f);
  for (std::int64_t channel = 0; channel < kPictureChannels; ++channel)
    for (std::uint32_t wave = 0; wave < 3; ++wave) {
      const PhiloxBlock random = random_block(0, "synthetic pattern", static_cast<std::uint32_t>(label),
                                              static_cast<std::uint32_t>(channel), wave);
      const double turns_x = static_cast<double>(uniform_from(random[0])) * 4 - 2;
      const double turns_y = static_cast<double>(uniform_from(random[1])) * 4 - 2;
      const auto phase = static_cast<double>(uniform_from(random[2]));
      for (std::int64_t y = 0; y < kPictureSide; ++y)
        for (std::int64_t x = 0; x < kPictureSide; ++x) {
          const double turns = phase + (turns_x * static_cast<double>(x) + turns_y * static_cast<double>(y)) /
                                           static_cast<double>(kPictureSide);
          pattern[static_cast<std::size_t>((channel * kPictureSide + y) * kPictureSide + x)] +=
              static_cast<float>(std::cos(2 * std::numbers::pi * turns));
        }
    }
  return pattern;
}

void append_picture(Dataset& dataset, const std::vector<float>& pattern, std::uint64_t stream) {
  const auto index = static_cast<std::uint32_t>(dataset.size());
  const PhiloxBlock of_picture = random_block(stream, "synthetic picture", index);
  const float brightness = 128 + kBrightness * (uniform_from(of_picture[0]) - 0.5f);
  PhiloxBlock noise{};
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (i % 4 == 0) noise = random_block(stream, "synthetic noise", index, static_cast<std::uint32_t>(i));
    const float value = brightness + kPatternHeight * pattern[i] + kNoise * (uniform_from(noise[i % 4]) - 0.5f);
    dataset.pixels.push_back(static_cast<std::uint8_t>(std::clamp(value, 0.0f, 255.0f)));
  }
}

}  // namespace

Dataset synthetic_data(std::int64_t size, std::uint64_t stream) {
  constexpr std::int64_t kMost = 1'000'000;
  if (size < 0 || size > kMost)
    throw InvalidArgument("synthetic: a size of " + std::to_string(size) + " pictures; it is from 0 to " +
                          std::to_string(kMost));
  std::array<std::vector<float>, kPictureClasses> patterns;
  for (std::size_t label = 0; label < patterns.size(); ++label) patterns[label] = class_pattern(label);
  Dataset dataset{.name = kSynthetic, .synthetic = true};
  dataset.pixels.reserve(static_cast<std::size_t>(size * kPictureBytes));
  for (std::int64_t i = 0; i < size; ++i) {
    const auto label = static_cast<std::uint8_t>(i % kPictureClasses);
    append_picture(dataset, patterns[label], stream);
    dataset.labels.push_back(label);
  }
  return dataset;
}

}  // namespace thimble
