#include "bit_mask.h"

#include "formulas.h"

namespace thimble {
namespace {

THIMBLE_CLONES void write_whole_words(const float* __restrict values, std::int64_t count,
                                      std::uint32_t* __restrict words) {
  for (std::int64_t w = 0; w < count; ++w) {
    std::uint32_t word = 0;
    for (std::uint32_t lane = 0; lane < 32; ++lane) word |= values[32 * w + lane] > 0 ? 1u << lane : 0u;
    words[w] = word;
  }
}

// 32 bits from any bit on; what lies behind `last_word` is not read.
std::uint32_t bits_from(const std::uint32_t* words, std::int64_t bit, std::int64_t last_word) {
  const std::int64_t word = bit / 32;
  const std::uint64_t high = bit % 32 != 0 && word < last_word ? words[word + 1] : 0;
  return static_cast<std::uint32_t>((high << 32 | words[word]) >> (bit % 32));
}

THIMBLE_CLONES void keep_32(const float* from, std::uint32_t bits, float* to) {
#pragma GCC ivdep
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    const float value = from[lane];
    to[lane] = (bits & 1u << lane) != 0 ? value : 0.0f;
  }
}

}  // namespace

void write_mask(const float* values, std::int64_t elements, std::uint32_t* words) {
  const std::int64_t whole = elements / 32;
  write_whole_words(values, whole, words);
  if (elements % 32 == 0) return;
  words[whole] = 0;
  for (std::int64_t e = 32 * whole; e < elements; ++e) words[whole] |= values[e] > 0 ? 1u << (e % 32) : 0u;
}

void keep_masked(const float* from, const std::uint32_t* words, std::int64_t first_bit, std::int64_t count, float* to) {
  const std::int64_t last_word = (first_bit + count - 1) / 32;
  std::int64_t i = 0;
  for (; i + 32 <= count; i += 32) keep_32(from + i, bits_from(words, first_bit + i, last_word), to + i);
  for (; i < count; ++i) {
    const std::int64_t bit = first_bit + i;
    to[i] = (words[bit / 32] >> (bit % 32) & 1u) != 0 ? from[i] : 0.0f;
  }
}

THIMBLE_CLONES void keep_positive(const float* from, const float* sign, std::int64_t count, float* to) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < count; ++i) to[i] = KeepPositive{}(from[i], sign[i]);
}

}  // namespace thimble
