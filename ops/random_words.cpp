#include "random_words.h"

#include "formulas.h"

namespace thimble {
namespace {

constexpr std::int64_t kLanes = kRandomBlocks;

// philox() of the counters (first + l, rest[1], rest[2], rest[3]) for l in [0, kLanes), one block after the other.
THIMBLE_CLONES void philox_lanes(std::uint32_t first, const PhiloxBlock& rest, std::uint64_t key,
                                 std::uint32_t* __restrict random) {
  std::uint32_t a[kLanes], b[kLanes], c[kLanes], d[kLanes];
  for (std::uint32_t l = 0; l < kLanes; ++l) a[l] = first + l, b[l] = rest[1], c[l] = rest[2], d[l] = rest[3];
  std::uint32_t key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 1  // unrolled, it would not become vectors
    for (std::int64_t l = 0; l < kLanes; ++l) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53} * a[l], p1 = std::uint64_t{0xCD9E8D57} * c[l];
      a[l] = static_cast<std::uint32_t>(p1 >> 32) ^ b[l] ^ key0;
      b[l] = static_cast<std::uint32_t>(p1);
      c[l] = static_cast<std::uint32_t>(p0 >> 32) ^ d[l] ^ key1;
      d[l] = static_cast<std::uint32_t>(p0);
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  for (std::int64_t l = 0; l < kLanes; ++l) {
    random[4 * l] = a[l], random[4 * l + 1] = b[l], random[4 * l + 2] = c[l], random[4 * l + 3] = d[l];
  }
}

THIMBLE_CLONES void keep_some(KeepSome keep, const float* x, const std::uint32_t* __restrict random, float* y,
                              std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) y[i] = keep(x[i], random[i]);
}

}  // namespace

RandomSource random_source(const KernelArguments& a, const OpShape& shape, std::int64_t sample_at_hand) {
  return {a.scalars->seed, static_cast<std::uint32_t>(a.scalars->step),
          static_cast<std::uint32_t>(int_attribute(shape.attributes, "stream")),
          static_cast<std::uint32_t>(a.samples.begin + sample_at_hand)};
}

void make_random_words(const RandomSource& source, std::uint32_t block, std::uint32_t* words) {
  philox_lanes(block, {0, source.sample, source.stream, source.step}, source.seed, words);
}

void drop_values(const float* x, const std::uint32_t* words, float rate, float* y, std::int64_t count) {
  keep_some(KeepSome(rate), x, words, y, count);
}

}  // namespace thimble
