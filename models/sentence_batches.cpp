#include "thimble/sentence_batches.h"

#include <algorithm>
#include <string>

#include "thimble/error.h"
#include "thimble/initialize.h"
#include "thimble/shuffle.h"

namespace thimble {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

// What a sentence is to a row of ids: where its ids come from, and how many there are.
template <class Sentence>
void write_rows(ProgramView& view, const char* name, std::span<const std::int64_t> pairs, std::int64_t room,
                Sentence write) {
  const auto rows = view.as<std::int32_t>(name);
  const auto count = static_cast<std::int64_t>(rows.size()) / room;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t at = view.samples().begin + i;
    const auto row = rows.subspan(index(i * room), index(room));
    if (at < static_cast<std::int64_t>(pairs.size()))
      write(pairs[index(at)], row);
    else
      std::fill(row.begin(), row.end(), 0);
  }
}

void copy_ids(std::span<const std::int32_t> ids, std::span<std::int32_t> row) {
  std::copy(ids.begin(), ids.end(), row.begin());
  std::fill(row.begin() + static_cast<std::ptrdiff_t>(ids.size()), row.end(), Vocabulary::kPad);
}

}  // namespace

SentenceBatches::SentenceBatches(const ParallelText& text, std::vector<Bucket> buckets)
    : buckets_(std::move(buckets)), pairs_(index(text.size())), first_pair_(buckets_.size() + 1, 0) {
  std::vector<std::size_t> bucket_of(pairs_.size());
  for (std::int64_t pair = 0; pair < text.size(); ++pair) {
    if (text.source(pair).empty() || text.target(pair).empty())
      throw InvalidArgument("batches: pair " + std::to_string(pair) + " has a side without an id; an end is the least");
    const auto length = static_cast<std::int64_t>(std::max(text.source(pair).size(), text.target(pair).size()));
    const auto bucket =
        std::find_if(buckets_.begin(), buckets_.end(), [&](const Bucket& b) { return b.room >= length; });
    if (bucket == buckets_.end())
      throw InvalidArgument("batches: pair " + std::to_string(pair) + " has " + std::to_string(length) +
                            " ids, no bucket has room for it");
    bucket_of[index(pair)] = static_cast<std::size_t>(bucket - buckets_.begin());
    ++first_pair_[bucket_of[index(pair)] + 1];
  }
  for (std::size_t i = 1; i < first_pair_.size(); ++i) first_pair_[i] += first_pair_[i - 1];
  std::vector<std::int64_t> next = first_pair_;
  for (std::size_t pair = 0; pair < bucket_of.size(); ++pair)
    pairs_[index(next[bucket_of[pair]]++)] = static_cast<std::int64_t>(pair);
  first_batch_.push_back(0);
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    const std::int64_t sentences = buckets_[i].sentences, batches = (pairs_of(i) + sentences - 1) / sentences;
    first_batch_.push_back(first_batch_.back() + batches);
    if (batches > 0) largest_ = std::max(largest_, (pairs_of(i) + batches - 1) / batches);
  }
}

// The batches of a bucket have as many pairs each, give or take one.
SentenceBatches::Place SentenceBatches::place_of(std::int64_t batch) const {
  if (batch < 0 || batch >= size())
    throw InvalidArgument("batches: position " + std::to_string(batch) + " of " + std::to_string(size()));
  const auto next = std::upper_bound(first_batch_.begin(), first_batch_.end(), batch);
  const auto bucket = static_cast<std::size_t>(next - first_batch_.begin()) - 1;
  const std::int64_t batches = *next - first_batch_[bucket], i = batch - first_batch_[bucket];
  return {bucket, pairs_of(bucket) * i / batches, pairs_of(bucket) * (i + 1) / batches};
}

const Bucket& SentenceBatches::shuffled(std::uint64_t seed, std::int64_t epoch, std::int64_t position,
                                        std::vector<std::int64_t>& pairs) const {
  if (position < 0 || position >= size())
    throw InvalidArgument("batches: position " + std::to_string(position) + " of " + std::to_string(size()));
  const Place place = place_of(shuffled_index(seed, epoch, position, size()));
  const std::uint64_t seed_of_bucket = seed ^ (stable_hash("bucket") + place.bucket);
  pairs.clear();
  for (std::int64_t i = place.begin; i < place.end; ++i)
    pairs.push_back(
        pairs_[index(first_pair_[place.bucket] + shuffled_index(seed_of_bucket, epoch, i, pairs_of(place.bucket)))]);
  return buckets_[place.bucket];
}

const Bucket& SentenceBatches::in_order(std::int64_t position, std::vector<std::int64_t>& pairs) const {
  const Place place = place_of(position);
  const auto first = pairs_.begin() + first_pair_[place.bucket];
  pairs.assign(first + place.begin, first + place.end);
  return buckets_[place.bucket];
}

void write_sentences(const ParallelText& text, std::span<const std::int64_t> pairs, std::int64_t room,
                     ProgramView& view) {
  using Row = std::span<std::int32_t>;
  const auto size = [](std::span<const std::int32_t> ids) { return static_cast<std::int32_t>(ids.size()); };
  write_rows(view, "source", pairs, room, [&](std::int64_t pair, Row row) { copy_ids(text.source(pair), row); });
  write_rows(view, "source_lengths", pairs, 1, [&](std::int64_t pair, Row row) { row[0] = size(text.source(pair)); });
  write_rows(view, "target_output", pairs, room, [&](std::int64_t pair, Row row) { copy_ids(text.target(pair), row); });
  write_rows(view, "target_lengths", pairs, 1, [&](std::int64_t pair, Row row) { row[0] = size(text.target(pair)); });
  // The end of the sentence before begins one.
  write_rows(view, "target_input", pairs, room, [&](std::int64_t pair, Row row) {
    row[0] = Vocabulary::kEnd;
    copy_ids(text.target(pair).first(text.target(pair).size() - 1), row.subspan(1));
  });
}

std::int64_t count_targets(const ParallelText& text, std::span<const std::int64_t> pairs) {
  std::int64_t count = 0;
  for (std::int64_t pair : pairs) count += static_cast<std::int64_t>(text.target(pair).size());
  return count;
}

}  // namespace thimble
