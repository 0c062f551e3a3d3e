// What a pixel of a cropped, normalised picture is: one formula for the CPU and for CUDA.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "registration.h"

namespace thimble {

/// Where one picture is taken from: as many rows further down and columns further right, then mirrored or not.
struct PictureShift {
  int rows = 0, columns = 0;
  bool is_mirrored = false;
};

/// The pixel that the border at 0 and `extent` - 1 reflects to, itself not repeated: -1 is 1.
constexpr int reflected(int at, int extent) {
  if (at < 0) return -at;
  return at < extent ? at : 2 * (extent - 1) - at;
}

constexpr int shifted_row(const PictureShift& shift, int row, int height) {
  return reflected(row + shift.rows, height);
}
constexpr int shifted_column(const PictureShift& shift, int column, int width) {
  return reflected((shift.is_mirrored ? width - 1 - column : column) + shift.columns, width);
}

struct ChannelScale {
  double mean = 0, deviation = 1;
};
constexpr float normalized_pixel(std::uint8_t value, const ChannelScale& scale) {
  return static_cast<float>((static_cast<double>(value) - scale.mean) / scale.deviation);
}

constexpr int kMostPictureChannels = 8;
using ChannelScales = std::array<ChannelScale, kMostPictureChannels>;
/// From the op's attributes; throws InvalidArgument for one that is not there, or a deviation that is not positive.
inline ChannelScales channel_scales(const Attributes& attributes, std::int64_t channels) {
  ChannelScales scales;
  for (std::int64_t c = 0; c < channels; ++c) {
    ChannelScale& scale = scales[static_cast<std::size_t>(c)];
    scale = {real_attribute(attributes, "mean_" + std::to_string(c)),
             real_attribute(attributes, "deviation_" + std::to_string(c))};
    if (!(scale.deviation > 0))
      throw InvalidArgument("crop_pictures: a deviation of " + std::to_string(scale.deviation));
  }
  return scales;
}

}  // namespace thimble
