// The batches of an epoch of sentence pairs: every pair once, each batch of one bucket, as functions of (seed, epoch,
// position).
//
//   const SentenceBatches batches(text, buckets);
//   std::vector<std::int64_t> pairs;
//   const Bucket& bucket = batches.shuffled(seed, epoch, /*position=*/7, pairs);   // of batches.size()
//   write_sentences(text, pairs, view, bucket.room);                              // inside a runtime's fill
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "thimble/buckets.h"
#include "thimble/parallel_text.h"
#include "thimble/runtime.h"

namespace thimble {

class SentenceBatches {
 public:
  /// A pair goes to the smallest bucket that has room for its longer side. Throws InvalidArgument where a pair fits
  /// none or has a side without an id.
  SentenceBatches(const ParallelText& text, std::vector<Bucket> buckets);

  std::int64_t size() const { return first_batch_.back(); }
  std::int64_t largest() const { return largest_; }  ///< pairs of the largest batch

  /// The batch at a position of an epoch's order, and which pairs it has: buckets come in any order, and each epoch
  /// groups a bucket's pairs anew. Allocates nothing once `pairs` has room for `largest()`. Throws InvalidArgument
  /// outside [0, size()).
  const Bucket& shuffled(std::uint64_t seed, std::int64_t epoch, std::int64_t position,
                         std::vector<std::int64_t>& pairs) const;
  /// The same, shortest bucket first, pairs as they come in the text.
  const Bucket& in_order(std::int64_t position, std::vector<std::int64_t>& pairs) const;

 private:
  struct Place {
    std::size_t bucket;
    std::int64_t begin, end;  // of its pairs
  };
  Place place_of(std::int64_t batch) const;
  std::int64_t pairs_of(std::size_t bucket) const { return first_pair_[bucket + 1] - first_pair_[bucket]; }

  std::vector<Bucket> buckets_;
  std::vector<std::int64_t> pairs_;                     // bucket by bucket
  std::vector<std::int64_t> first_pair_, first_batch_;  // of each bucket, and behind the last
  std::int64_t largest_ = 0;
};

/// Fills `source`, `source_lengths`, `target_input`, `target_output` and `target_lengths` for the samples at hand, as
/// far as the steps at hand read them; the places behind the last pair stay empty.
void write_sentences(const ParallelText& text, std::span<const std::int64_t> pairs, std::int64_t room,
                     ProgramView& view);

/// Target ids of these pairs: what a mean over tokens divides by.
std::int64_t count_targets(const ParallelText& text, std::span<const std::int64_t> pairs);

}  // namespace thimble
