#include "thimble/sentence_batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "temporary_folder.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using Ids = std::vector<std::int32_t>;
using Pairs = std::vector<std::int64_t>;

// Ids count up from 10 over the whole text, so that no two places have the same; ends count as ids.
ParallelText text_of(const std::vector<std::pair<int, int>>& lengths) {
  ParallelText text;
  std::int32_t next = 10;
  const auto add = [&](SentenceIds& side, int length) {
    for (int i = 1; i < length; ++i) side.ids.push_back(next++);
    if (length > 0) side.ids.push_back(Vocabulary::kEnd);
    side.begins.push_back(static_cast<std::int64_t>(side.ids.size()));
  };
  for (const auto& [source, target] : lengths) {
    add(text.sources, source);
    add(text.targets, target);
  }
  return text;
}

const std::vector<Bucket> kBuckets{{3, 16}, {5, 8}, {6, 8}, {9, 4}};

// 137 pairs, none of 6 ids: a bucket stays empty.
ParallelText random_text() {
  std::mt19937 random(5);
  std::vector<std::pair<int, int>> lengths;
  const auto draw = [&] {
    const int length = 1 + static_cast<int>(random() % 9);
    return length == 6 ? 5 : length;
  };
  for (int pair = 0; pair < 137; ++pair) lengths.emplace_back(draw(), draw());
  return text_of(lengths);
}

std::int64_t longer_side(const ParallelText& text, std::int64_t pair) {
  return static_cast<std::int64_t>(std::max(text.source(pair).size(), text.target(pair).size()));
}

struct Batch {
  std::int64_t room;
  Pairs pairs;
  bool operator==(const Batch&) const = default;
};

std::vector<Batch> epoch_of(const SentenceBatches& batches, std::uint64_t seed, std::int64_t epoch) {
  std::vector<Batch> all;
  Pairs pairs;
  for (std::int64_t i = 0; i < batches.size(); ++i) {
    const std::int64_t room = batches.shuffled(seed, epoch, i, pairs).room;
    all.push_back({room, pairs});
  }
  return all;
}

std::vector<Batch> in_order(const SentenceBatches& batches) {
  std::vector<Batch> all;
  Pairs pairs;
  for (std::int64_t i = 0; i < batches.size(); ++i) {
    const std::int64_t room = batches.in_order(i, pairs).room;
    all.push_back({room, pairs});
  }
  return all;
}

std::set<Pairs> groups(const std::vector<Batch>& epoch) {
  std::set<Pairs> sorted;
  for (Batch batch : epoch) {
    std::sort(batch.pairs.begin(), batch.pairs.end());
    sorted.insert(batch.pairs);
  }
  return sorted;
}

std::vector<std::int64_t> rooms(const std::vector<Batch>& epoch) {
  std::vector<std::int64_t> all;
  for (const Batch& batch : epoch) all.push_back(batch.room);
  return all;
}

TEST(SentenceBatches, HoldEveryPairOnceInTheSmallestBucketWithRoom) {
  const ParallelText text = random_text();
  const SentenceBatches batches(text, kBuckets);
  for (const auto& epoch :
       {epoch_of(batches, 1, 0), epoch_of(batches, 1, 7), epoch_of(batches, ~0ULL, 3), in_order(batches)}) {
    std::vector<int> seen(static_cast<std::size_t>(text.size()), 0);
    for (const Batch& batch : epoch)
      for (std::int64_t pair : batch.pairs) {
        ++seen.at(static_cast<std::size_t>(pair));
        const auto smallest = std::find_if(kBuckets.begin(), kBuckets.end(),
                                           [&](const Bucket& b) { return b.room >= longer_side(text, pair); });
        EXPECT_EQ(batch.room, smallest->room) << pair;
      }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), text.size());
  }
}

TEST(SentenceBatches, OfABucketHaveAsManyPairsGiveOrTakeOne) {
  const ParallelText text = random_text();
  const SentenceBatches batches(text, kBuckets);
  for (const auto& epoch : {epoch_of(batches, 2, 1), in_order(batches)}) {
    std::map<std::int64_t, std::vector<std::int64_t>> sizes;  // by room
    for (const Batch& batch : epoch) sizes[batch.room].push_back(static_cast<std::int64_t>(batch.pairs.size()));
    EXPECT_EQ(sizes.size(), 3U) << "no pair has 6 ids";
    std::int64_t largest = 0;
    for (const Bucket& bucket : kBuckets) {
      const auto& of_room = sizes[bucket.room];
      if (of_room.empty()) continue;
      const auto [least, most] = std::minmax_element(of_room.begin(), of_room.end());
      EXPECT_LE(*most - *least, 1) << bucket.room;
      EXPECT_LE(*most, bucket.sentences);
      std::int64_t pairs = 0;
      for (std::int64_t size : of_room) pairs += size;
      EXPECT_LT((static_cast<std::int64_t>(of_room.size()) - 1) * bucket.sentences, pairs) << "a batch too many";
      largest = std::max(largest, *most);
    }
    EXPECT_EQ(batches.largest(), largest);
  }
}

TEST(SentenceBatches, DependOnSeedAndEpochAndNothingElse) {
  const ParallelText text = random_text(), same = random_text();
  const SentenceBatches batches(text, kBuckets), others(same, kBuckets);
  const auto first = epoch_of(batches, 1, 0);
  for (const auto& [seed, epoch] : {std::pair{2U, 0}, {1U, 1}}) {
    const auto other = epoch_of(batches, seed, epoch);
    EXPECT_NE(rooms(other), rooms(first)) << seed << " " << epoch;
    EXPECT_NE(groups(other), groups(first)) << seed << " " << epoch;
  }
  EXPECT_EQ(epoch_of(batches, 1, 0), first) << "whatever was asked before";
  EXPECT_EQ(epoch_of(others, 1, 0), first);
  Pairs pairs{7, 7, 7};
  EXPECT_EQ(batches.shuffled(1, 0, batches.size() - 1, pairs).room, first.back().room);
  EXPECT_EQ(pairs, first.back().pairs);
}

TEST(SentenceBatches, ComeInOrderToEvaluate) {
  const ParallelText text = text_of({{9, 1}, {2, 3}, {1, 1}, {4, 5}, {3, 2}, {5, 9}, {1, 2}});
  const SentenceBatches batches(text, {{3, 3}, {6, 8}, {9, 1}});
  EXPECT_EQ(in_order(batches), (std::vector<Batch>{{3, {1, 2}}, {3, {4, 6}}, {6, {3}}, {9, {0}}, {9, {5}}}));
  EXPECT_EQ(SentenceBatches(ParallelText{}, kBuckets).size(), 0);
}

TEST(SentenceBatches, RefuseWhatHasNoPlace) {
  const auto refused = [](const ParallelText& text) {
    return message_of<InvalidArgument>([&] { SentenceBatches(text, kBuckets); });
  };
  EXPECT_EQ(refused(text_of({{2, 2}, {3, 10}})), "batches: pair 1 has 10 ids, no bucket has room for it");
  EXPECT_EQ(refused(text_of({{10, 3}})), "batches: pair 0 has 10 ids, no bucket has room for it");
  EXPECT_EQ(refused(text_of({{2, 2}, {3, 0}})), "batches: pair 1 has a side without an id; an end is the least");
  EXPECT_EQ(refused(text_of({{0, 3}})), "batches: pair 0 has a side without an id; an end is the least");
  const ParallelText text = random_text();
  const SentenceBatches batches(text, kBuckets);
  Pairs pairs;
  for (std::int64_t position : {std::int64_t{-1}, batches.size(), INT64_MAX}) {
    EXPECT_THROW(batches.shuffled(0, 0, position, pairs), InvalidArgument) << position;
    EXPECT_THROW(batches.in_order(position, pairs), InvalidArgument) << position;
  }
}

// Rows for the samples at hand; a name without rows is an input that the steps at hand do not read.
class FakeView : public ProgramView {
 public:
  FakeView(HalfOpen samples, std::int64_t room, const std::vector<std::string>& unread = {}) : samples_(samples) {
    for (const char* name : {"source", "target_input", "target_output"}) add(name, room, unread);
    for (const char* name : {"source_lengths", "target_lengths"}) add(name, 1, unread);
  }
  HalfOpen samples() const override { return samples_; }
  std::span<std::byte> bytes(std::string_view name) override {
    return std::as_writable_bytes(std::span(rows_.at(std::string(name))));
  }
  const Ids& operator[](const std::string& name) const { return rows_.at(name); }

 private:
  void add(const std::string& name, std::int64_t room, const std::vector<std::string>& unread) {
    const bool is_read = std::find(unread.begin(), unread.end(), name) == unread.end();
    rows_[name].assign(is_read ? static_cast<std::size_t>((samples_.end - samples_.begin) * room) : 0, -7);
  }

  HalfOpen samples_;
  std::map<std::string, Ids> rows_;
};

// Pair 0 is 10 11 2 | 12 2, pair 1 is 2 | 13 14 15 2, pair 2 is 16 2 | 2.
const ParallelText kThree = text_of({{3, 2}, {1, 4}, {2, 1}});
constexpr std::int64_t kRoom = 4;
constexpr std::int32_t kPad = Vocabulary::kPad, kEnd = Vocabulary::kEnd;

TEST(WriteSentences, FillsAWholeBatchAndLeavesTheRestEmpty) {
  FakeView view({0, 4}, kRoom);
  write_sentences(kThree, Pairs{2, 0, 1}, kRoom, view);
  const auto rows = [](const Ids& ids) { return Ids(ids.begin(), ids.begin() + 3 * kRoom); };
  EXPECT_EQ(rows(view["source"]), (Ids{16, kEnd, kPad, kPad, 10, 11, kEnd, kPad, kEnd, kPad, kPad, kPad}));
  EXPECT_EQ(rows(view["target_output"]), (Ids{kEnd, kPad, kPad, kPad, 12, kEnd, kPad, kPad, 13, 14, 15, kEnd}));
  EXPECT_EQ(rows(view["target_input"]), (Ids{kEnd, kPad, kPad, kPad, kEnd, 12, kPad, kPad, kEnd, 13, 14, 15}));
  EXPECT_EQ(view["source_lengths"], (Ids{2, 3, 1, 0}));
  EXPECT_EQ(view["target_lengths"], (Ids{1, 2, 4, 0}));
  for (const char* name : {"source", "target_input", "target_output"})
    for (std::int32_t id : Ids(view[name].begin() + 3 * kRoom, view[name].end())) EXPECT_GE(id, 0) << name;
}

TEST(WriteSentences, FillsTheSamplesOfAMicrobatch) {
  FakeView view({2, 4}, kRoom);
  write_sentences(kThree, Pairs{2, 2, 0, 1}, kRoom, view);
  EXPECT_EQ(view["source"], (Ids{10, 11, kEnd, kPad, kEnd, kPad, kPad, kPad}));
  EXPECT_EQ(view["target_input"], (Ids{kEnd, 12, kPad, kPad, kEnd, 13, 14, 15}));
  EXPECT_EQ(view["target_output"], (Ids{12, kEnd, kPad, kPad, 13, 14, 15, kEnd}));
  EXPECT_EQ(view["source_lengths"], (Ids{3, 1}));
  EXPECT_EQ(view["target_lengths"], (Ids{2, 4}));
  FakeView behind({2, 4}, kRoom);
  write_sentences(kThree, Pairs{2, 0}, kRoom, behind);
  EXPECT_EQ(behind["source_lengths"], (Ids{0, 0}));
  EXPECT_EQ(behind["target_lengths"], (Ids{0, 0}));
}

TEST(WriteSentences, PassesOverWhatIsNotRead) {
  FakeView whole({1, 3}, kRoom);
  write_sentences(kThree, Pairs{0, 1, 2}, kRoom, whole);
  const std::vector<std::string> all{"source", "source_lengths", "target_input", "target_output", "target_lengths"};
  for (const std::string& unread : all) {
    FakeView view({1, 3}, kRoom, {unread});
    write_sentences(kThree, Pairs{0, 1, 2}, kRoom, view);
    for (const std::string& name : all) EXPECT_EQ(view[name], name == unread ? Ids{} : whole[name]) << name;
  }
  FakeView nothing({1, 3}, kRoom, all);
  write_sentences(kThree, Pairs{0, 1, 2}, kRoom, nothing);
}

TEST(WriteSentences, CountsTheTargetsThatAMeanIsOver) {
  EXPECT_EQ(count_targets(kThree, Pairs{0, 1, 2}), 7);
  EXPECT_EQ(count_targets(kThree, Pairs{1, 1}), 8);
  EXPECT_EQ(count_targets(kThree, Pairs{}), 0);
}

}  // namespace
}  // namespace thimble
