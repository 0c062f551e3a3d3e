// What references are written in: arrays of doubles, attributes by name, and random numbers.
#pragma once

#include "reference_ops.h"

namespace thimble::testing {

using Index = std::int64_t;

inline Array zeros(std::vector<Index> shape) {
  Index count = 1;
  for (Index extent : shape) count *= extent;
  return {std::move(shape), std::vector<double>(static_cast<std::size_t>(count))};
}

inline double& at(Array& a, Index i) { return a.values.at(static_cast<std::size_t>(i)); }
inline double at(const Array& a, Index i) { return a.values.at(static_cast<std::size_t>(i)); }
inline Index count(const Array& a) { return static_cast<Index>(a.values.size()); }

inline Index whole(const ReferenceCall& call, const char* name) {
  auto found = call.attributes.find(name);
  return found == call.attributes.end() ? 0 : std::get<Index>(found->second);
}
inline double real(const ReferenceCall& call, const char* name) { return std::get<double>(call.attributes.at(name)); }

// Philox4x32-10 as its paper writes it: ten rounds over (counter, key), the key bumped between rounds.
inline void philox_reference(std::uint32_t (&counter)[4], std::uint64_t seed) {
  std::uint32_t key[2] = {static_cast<std::uint32_t>(seed & 0xffffffffu), static_cast<std::uint32_t>(seed >> 32)};
  for (int round = 1; round <= 10; ++round) {
    const std::uint64_t left = 0xCD9E8D57ull * counter[2], right = 0xD2511F53ull * counter[0];
    const std::uint32_t next[4] = {
        static_cast<std::uint32_t>(left >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(left & 0xffffffffu),
        static_cast<std::uint32_t>(right >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(right & 0xffffffffu)};
    for (int i = 0; i < 4; ++i) counter[i] = next[i];
    key[0] = static_cast<std::uint32_t>((key[0] + 0x9E3779B9ull) & 0xffffffffu);
    key[1] = static_cast<std::uint32_t>((key[1] + 0xBB67AE85ull) & 0xffffffffu);
  }
}

/// Word `word` of block `block` of a sample at hand, from (0, 1].
inline double uniform_reference(const ReferenceCall& call, Index sample, Index block, Index word) {
  std::uint32_t counter[4] = {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(call.first_sample + sample),
                              static_cast<std::uint32_t>(whole(call, "stream")), static_cast<std::uint32_t>(call.step)};
  philox_reference(counter, call.seed);
  return (static_cast<double>(counter[word] / 256) + 1) / 16777216.0;
}

}  // namespace thimble::testing
