// The exponential of many floats: rounding alike for every instruction set, since nothing is contracted.
#pragma once

#include <bit>
#include <cstdint>

namespace thimble {

/// e^x within 2 units in the last place for x in [-87, 88]; below 0, or nearly, above what e^88 is. Cody and Waite's
/// reduction, the polynomial of Cephes (Moshier 1992). Made to be inlined in a loop that uses vectors.
inline float exp_of(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  // Adding 1.5 * 2^23 rounds to a whole number, which the low bits hold.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float whole = shifted - 12582912.0f;
  const float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const std::int32_t exponent = static_cast<std::int32_t>(whole) + 127;
  return p * std::bit_cast<float>(exponent << 23);
}

}  // namespace thimble
