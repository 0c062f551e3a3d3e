// Philox4x32-10 (Salmon et al. 2011): random numbers from a counter, so that no cut, order or recomputation changes
// them and nothing has to be stored.
#pragma once

#include <array>
#include <cstdint>

namespace thimble {

using PhiloxBlock = std::array<std::uint32_t, 4>;

constexpr PhiloxBlock philox(PhiloxBlock counter, std::uint64_t key) {
  std::uint32_t key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<std::uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

/// Uniform in (0, 1]: never zero, so that its logarithm is finite. From a signed number, which vectors can convert.
constexpr float uniform_from(std::uint32_t bits) {
  return (static_cast<float>(static_cast<std::int32_t>(bits >> 8)) + 1.0f) * (1.0f / 16777216.0f);
}

}  // namespace thimble
