// What the ops of a decoder's step share. Hypotheses are {N, B, C}: B of each of N sentences, all of them at the same
// position; the lengths {N} say how many of the B are there. What earlier steps and programs left lies in pools, whose
// rows from n * room on belong to sentence n of the step's batch.
#pragma once

#include <algorithm>
#include <string>

#include "tokens.h"

namespace thimble {

inline void expect_position(const std::string& kind, const TensorType& type) {
  if (type != TensorType{DType::i32, {1}, false})
    throw InvalidArgument(kind + ": the position is no i32 vector of 1 value");
}

/// Throws InvalidArgument outside of [0, kMostPositions).
inline std::int64_t position_of(const char* kind, const std::byte* position) {
  const std::int64_t value = integers(position)[0];
  if (value < 0 || value >= kMostPositions)
    throw InvalidArgument(std::string(kind) + ": position " + std::to_string(value) + "; positions are from 0 to " +
                          std::to_string(kMostPositions - 1));
  return value;
}

inline void expect_pool_rows(const std::string& kind, const TensorType& pool, std::int64_t sentences,
                             std::int64_t room) {
  if (room > pool.shape[0] / sentences)
    throw InvalidArgument(kind + ": a pool of " + std::to_string(pool.shape[0]) + " rows; " +
                          std::to_string(sentences) + " sentences of " + std::to_string(room) + " rows do not fit");
}

/// A pool of rows of the shape `row`, as many as `sentences` need.
inline void expect_pool(const std::string& kind, const TensorType& pool, const std::vector<std::int64_t>& row,
                        std::int64_t sentences, std::int64_t room) {
  expect_rank(kind, pool, row.size() + 1);
  if (pool.batched || !std::equal(row.begin(), row.end(), pool.shape.begin() + 1))
    throw InvalidArgument(kind + ": a pool that is batched, or whose rows do not fit");
  expect_pool_rows(kind, pool, sentences, room);
}

/// The pool's row where the sentences at hand begin. Throws InvalidArgument where they end behind the pool.
inline std::int64_t first_pool_row(const char* kind, const KernelArguments& a, const TensorType& pool,
                                   std::int64_t sentences, std::int64_t room) {
  expect_pool_rows(kind, pool, a.samples.begin + sentences, room);
  return a.samples.begin * room;
}

/// A pool's new version begins as the old one; nothing moves where both are one storage.
inline void copy_pool(const TensorType& pool, const std::byte* from, std::byte* to) {
  if (from != to) std::copy_n(floats(from), element_count(pool), floats(to));
}

}  // namespace thimble
