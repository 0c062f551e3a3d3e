// What ops on sentences share. A batch of sentences is {B, T, C} floats, T the longest sentence it has room for; the
// lengths {B} say how many rows of each are there. Rows beyond are padding: never read, and made zero where an op mixes
// rows (elsewhere whatever the op makes of them), so that sums over all rows are sums over those that are there.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "registration.h"

namespace thimble {

/// Positions that a row may have: what random numbers are counted by.
inline constexpr std::int64_t kMostPositions = 1024;

inline void expect_tokens(const std::string& kind, const TensorType& type) {
  expect_rank(kind, type, 3);
  if (!type.batched) throw InvalidArgument(kind + ": its input is not batched");
  if (type.shape[1] > kMostPositions)
    throw InvalidArgument(kind + ": sentences of " + std::to_string(type.shape[1]) + " positions; at most " +
                          std::to_string(kMostPositions));
}

inline void expect_lengths(const std::string& kind, const TensorType& type, std::int64_t sentences) {
  if (type != TensorType{DType::i32, {sentences}, true})
    throw InvalidArgument(kind + ": the lengths are no batched i32 vector of " + std::to_string(sentences));
}

/// What OpDefinition::fullest is for lengths: inputs `first` and on are as long as the room of the input named for
/// each.
inline auto full_sentences(std::size_t first, std::vector<std::size_t> rooms_of) {
  return [first, rooms_of = std::move(rooms_of)](const OpShape& s, std::size_t i, std::span<std::int32_t> values) {
    if (i < first || i - first >= rooms_of.size()) return;
    std::fill(values.begin(), values.end(), static_cast<std::int32_t>(s.inputs[rooms_of[i - first]].shape[1]));
  };
}

inline void expect_ids(const std::string& kind, const TensorType& type) {
  if (type.dtype != DType::i32 || type.shape.size() != 2 || !type.batched)
    throw InvalidArgument(kind + ": the ids are no batched i32 tensor of rank 2");
}

/// Attribute `heads`: divides the channels of {B, T, C}.
inline void expect_heads(const std::string& kind, const TensorType& x, const Attributes& attributes) {
  const std::int64_t heads = int_attribute(attributes, "heads");
  if (heads < 1 || heads > kMostPositions || x.shape[2] % heads != 0)
    throw InvalidArgument(kind + ": " + std::to_string(heads) + " heads do not divide " + std::to_string(x.shape[2]) +
                          " channels");
}

/// Attributes `rate` and `stream`: what is dropped at random.
inline void expect_drop(const std::string& kind, const Attributes& attributes) {
  const double rate = real_attribute(attributes, "rate");
  int_attribute(attributes, "stream");
  if (!(rate >= 0 && rate < 1))
    throw InvalidArgument(kind + ": a rate of " + std::to_string(rate) + "; it is from 0 to below 1");
}

inline const std::int32_t* integers(const std::byte* address) { return reinterpret_cast<const std::int32_t*>(address); }

/// The length of a sentence, 0 where a batch has fewer. Throws InvalidArgument where it is negative, or more than there
/// is room for.
inline std::int64_t length_of(const char* kind, const std::byte* lengths, std::int64_t sentence, std::int64_t room) {
  const std::int64_t length = integers(lengths)[sentence];
  if (length < 0 || length > room)
    throw InvalidArgument(std::string(kind) + ": sentence " + std::to_string(sentence) +
                          " of the microbatch has a length of " + std::to_string(length) + ", not from 0 to " +
                          std::to_string(room));
  return length;
}

}  // namespace thimble
