#include "attention_head.h"

#include <algorithm>
#include <cmath>

#include "softmax_row.h"

namespace thimble {

AttentionSizes AttentionSizes::of(const TensorType& q, std::int64_t columns, const Attributes& attributes) {
  const std::int64_t heads = int_attribute(attributes, "heads");
  return {q.shape[0],
          q.shape[1],
          columns,
          q.shape[2],
          heads,
          attributes.count("rate") != 0 ? static_cast<float>(real_attribute(attributes, "rate")) : 0,
          static_cast<float>(1 / std::sqrt(static_cast<double>(q.shape[2]) / static_cast<double>(heads)))};
}

AttentionHead AttentionHead::of(const char* kind, const AttentionSizes& sizes, std::int64_t task,
                                const std::byte* row_lengths, const std::byte* column_lengths) {
  const std::int64_t sentence = task / sizes.heads;
  const std::int64_t rows = length_of(kind, row_lengths, sentence, sizes.rows);
  const std::int64_t columns = length_of(kind, column_lengths, sentence, sizes.columns);
  const bool is_empty = rows == 0 || columns == 0;
  return {sizes, sentence, task % sizes.heads, is_empty ? 0 : rows, is_empty ? 0 : columns, {}};
}

void AttentionHead::attend(const float* q, const float* k, const float* v, float* scores, float* y, float* sums) const {
  const std::int64_t d = sizes.head_channels();
  multiply_in_task({rows, columns, d}, query(q), key(k, true), scores, columns, false);
  for (std::int64_t t = 0; t < rows; ++t) {
    float* row = scores + t * columns;
    const SoftmaxRow softmax = exponentials(row, sizes.scale, row, columns);
    scale_row(row, 1 / softmax.sum, columns);
    if (sums != nullptr) sums[at_sum(t)] = softmax.largest + std::log(softmax.sum);
    if (sizes.rate != 0) drop(row, t, row);
  }
  multiply_in_task({rows, d, columns}, tile(scores), key(v), y + at_row(0), sizes.channels, false);
  clear(y, sizes.rows, rows);
  for (std::int64_t t = rows; sums != nullptr && t < sizes.rows; ++t) sums[at_sum(t)] = 0;
}

// Row t of head h takes the words of blocks (t * heads + h) * kMostPositions / 4 and on.
void AttentionHead::drop(const float* from, std::int64_t row, float* to) const {
  alignas(64) std::uint32_t words[kRandomWords];
  for (std::int64_t s = 0; s < columns; s += kRandomWords) {
    const std::int64_t block = (row * sizes.heads + head) * (kMostPositions / 4) + s / 4;
    make_random_words(random, static_cast<std::uint32_t>(block), words);
    drop_values(from + s, words, sizes.rate, to + s, std::min(kRandomWords, columns - s));
  }
}

void AttentionHead::clear(float* tensor, std::int64_t room, std::int64_t length) const {
  float* first = tensor + sentence * room * sizes.channels + head * sizes.head_channels();
  for (std::int64_t t = length; t < room; ++t) std::fill_n(first + t * sizes.channels, sizes.head_channels(), 0.0f);
}

}  // namespace thimble
