// Batches of sentence pairs by padded tokens: pairs of like lengths share a bucket, and with it a shape that is
// planned.
//
//   const std::vector<std::int64_t> rooms = choose_rooms(lengths, /*most=*/12);
//   const std::vector<Bucket> buckets = make_buckets(rooms, /*max_tokens=*/4000);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace thimble {

inline constexpr std::int64_t kLongestSentence = 1024;  ///< ids, the end included: the positions that ops know

/// Sentence pairs whose longer side has at most `room` ids, `sentences` of them in a batch.
struct Bucket {
  std::int64_t room = 0;
  std::int64_t sentences = 0;
  bool operator==(const Bucket&) const = default;
};

/// As many sentences as fit `max_tokens` padded ids a side, from 8 on a multiple of 8, as fairseq cuts batches. Throws
/// InvalidArgument where the rooms do not ascend from 1, or one has more than `max_tokens` ids.
std::vector<Bucket> make_buckets(std::span<const std::int64_t> rooms, std::int64_t max_tokens);

/// The rooms, at most `most`, that pad these sentence pairs least, by the longer side of each: an exact search (dynamic
/// program over the lengths there are). The largest is the longest length. Throws InvalidArgument where there is no
/// length, one is below 1 or above kLongestSentence, or `most` is below 1.
std::vector<std::int64_t> choose_rooms(std::span<const std::int64_t> lengths, std::int64_t most);

/// Rooms for text that is not at hand, each about a third above the last, up to `longest` ids: 176 are what the
/// recipe's longest sentences of 175 words and their end need. Throws InvalidArgument for a `longest` outside [1,
/// kLongestSentence].
std::vector<std::int64_t> usual_rooms(std::int64_t longest = 176);

/// "train_26", "advance_26": the program of a plan that does this for the bucket with that room.
std::string bucket_program(const char* what, std::int64_t room);

}  // namespace thimble
