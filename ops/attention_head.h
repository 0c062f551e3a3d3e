// One head of attention (Vaswani et al. 2017): softmax(q k^T / sqrt(d)), some of it dropped, times v. What kinds that
// differ in where keys and values lie share.
#pragma once

#include "matrix_product.h"
#include "random_words.h"
#include "thimble/parallel.h"
#include "tokens.h"

namespace thimble {

struct AttentionSizes {
  std::int64_t sentences, rows, columns, channels, heads;  // rows: of q, columns: of k and v
  float rate, scale;

  /// Attributes: `heads`, and `rate` where some is dropped.
  static AttentionSizes of(const TensorType& q, std::int64_t columns, const Attributes& attributes);
  std::int64_t head_channels() const { return channels / heads; }
  std::int64_t tile() const { return rows * columns; }
  std::int64_t tasks() const { return sentences * heads; }
  Bytes workspace(int threads, std::int64_t tiles) const {
    return align_up(Bytes{4 * tile()}, kAlignment) * tiles * slot_count(threads, tasks());
  }
  float* tile_of(std::byte* workspace, std::int64_t slot, std::int64_t tiles, std::int64_t which) const {
    return floats(workspace + (align_up(Bytes{4 * tile()}, kAlignment) * (slot * tiles + which)).value);
  }
};

/// One head of one sentence, the rows and columns that are there. Tensors are those of all sentences at hand.
struct AttentionHead {
  const AttentionSizes& sizes;
  std::int64_t sentence, head, rows, columns;
  RandomSource random;

  /// Of a task in [0, sizes.tasks()). Where there is nothing to attend to, no row is there either.
  static AttentionHead of(const char* kind, const AttentionSizes& sizes, std::int64_t task,
                          const std::byte* row_lengths, const std::byte* column_lengths);

  std::int64_t at_row(std::int64_t row) const {
    return (sentence * sizes.rows + row) * sizes.channels + head * sizes.head_channels();
  }
  std::int64_t at_column() const { return sentence * sizes.columns * sizes.channels + head * sizes.head_channels(); }
  MatrixView query(const float* q, bool transposed = false) const {
    return {q + at_row(0), sizes.channels, transposed};
  }
  MatrixView key(const float* k, bool transposed = false) const {
    return {k + at_column(), sizes.channels, transposed};
  }
  MatrixView tile(const float* scores, bool transposed = false) const { return {scores, columns, transposed}; }
  std::int64_t at_sum(std::int64_t row) const { return (sentence * sizes.rows + row) * sizes.heads + head; }

  /// The head's channels of y, zero in the padding, and the logarithm of each row's sum where `sums` is not null.
  /// `scores` is a tile.
  void attend(const float* q, const float* k, const float* v, float* scores, float* y, float* sums) const;
  /// Drops some of a row of probabilities.
  void drop(const float* from, std::int64_t row, float* to) const;
  /// The rows of the padding, in the head's channels.
  void clear(float* tensor, std::int64_t room, std::int64_t length) const;
};

}  // namespace thimble
