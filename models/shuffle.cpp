#include "thimble/shuffle.h"

#include <algorithm>
#include <bit>
#include <string>

#include "thimble/error.h"
#include "thimble/initialize.h"

namespace thimble {
namespace {

// One pass of a balanced Feistel network over 2 * half_bits bits: a permutation whatever its rounds compute.
std::uint64_t feistel(std::uint64_t value, unsigned half_bits, std::uint64_t seed, std::int64_t epoch) {
  constexpr int kRounds = 6;
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::uint64_t left = value >> half_bits, right = value & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const PhiloxBlock random = random_block_of_epoch(seed, stable_hash("shuffle") + round, epoch, right);
    const std::uint64_t next = left ^ (random[0] & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

}  // namespace

PhiloxBlock random_block_of_epoch(std::uint64_t seed, std::uint64_t purpose, std::int64_t epoch, std::uint64_t value) {
  const auto number = static_cast<std::uint64_t>(epoch);
  return philox({static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32),
                 static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32)},
                seed ^ purpose);
}

std::int64_t shuffled_index(std::uint64_t seed, std::int64_t epoch, std::int64_t position, std::int64_t size) {
  if (position < 0 || position >= size)
    throw InvalidArgument("shuffle: position " + std::to_string(position) + " of " + std::to_string(size));
  constexpr unsigned kLeastHalf = 4;  // smaller networks mix badly
  const auto bits = static_cast<unsigned>(std::bit_width(static_cast<std::uint64_t>(size)));
  const unsigned half_bits = std::max(kLeastHalf, (bits + 1) / 2);
  auto value = static_cast<std::uint64_t>(position);
  do value = feistel(value, half_bits, seed, epoch);
  while (value >= static_cast<std::uint64_t>(size));
  return static_cast<std::int64_t>(value);
}

}  // namespace thimble
