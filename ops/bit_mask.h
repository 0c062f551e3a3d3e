// Masks of one bit per element, as DType::bit packs them: element e of a sample is bit e % 32 of its word e / 32.
#pragma once

#include <cstdint>

namespace thimble {

constexpr std::int64_t mask_words(std::int64_t elements) { return (elements + 31) / 32; }

/// Sets bit e of `words` where values[e] > 0, and clears the others, up to the end of the last word.
void write_mask(const float* values, std::int64_t elements, std::uint32_t* words);

/// to[i] = from[i] where bit `first_bit` + i is set, else 0, for i in [0, count). `to` may be `from`.
void keep_masked(const float* from, const std::uint32_t* words, std::int64_t first_bit, std::int64_t count, float* to);

/// to[i] = from[i] where sign[i] > 0, else 0. `to` may be `from`.
void keep_positive(const float* from, const float* sign, std::int64_t count, float* to);

}  // namespace thimble
