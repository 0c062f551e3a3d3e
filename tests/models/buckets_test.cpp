#include "thimble/buckets.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "thimble/error.h"

namespace thimble {
namespace {

std::int64_t padded_ids(const std::vector<std::int64_t>& lengths, const std::vector<std::int64_t>& rooms) {
  std::int64_t ids = 0;
  for (std::int64_t length : lengths) ids += *std::lower_bound(rooms.begin(), rooms.end(), length);
  return ids;
}

TEST(Buckets, HoldAsManySentencesAsFitTheTokens) {
  const std::vector<std::int64_t> rooms{10, 33, 176, 700};
  EXPECT_EQ(make_buckets(rooms, 4000), (std::vector<Bucket>{{10, 400}, {33, 120}, {176, 16}, {700, 5}}));
  EXPECT_THROW(make_buckets(rooms, 699), InvalidArgument);
  EXPECT_THROW(make_buckets(std::vector<std::int64_t>{3, 3}, 100), InvalidArgument);
  EXPECT_THROW(make_buckets(std::vector<std::int64_t>{0}, 100), InvalidArgument);
}

TEST(Buckets, UsualRoomsHoldTheRecipesSentences) {
  const std::vector<std::int64_t> rooms = usual_rooms();
  EXPECT_EQ(rooms.back(), 176);
  EXPECT_EQ(make_buckets(rooms, 4000).size(), rooms.size());
}

TEST(Buckets, RefuseLengthsThatCannotBe) {
  EXPECT_THROW(choose_rooms({}, 3), InvalidArgument);
  EXPECT_THROW(choose_rooms(std::vector<std::int64_t>{3}, 0), InvalidArgument);
  EXPECT_THROW(choose_rooms(std::vector<std::int64_t>{0}, 1), InvalidArgument);
  EXPECT_THROW(choose_rooms(std::vector<std::int64_t>{1025}, 1), InvalidArgument);
}

// Against every subset of the lengths.
RC_GTEST_PROP(Buckets, RoomsPadLeast, ()) {
  const auto lengths = *rc::gen::nonEmpty(rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange(1, 12)));
  const auto most = *rc::gen::inRange(1, 6);
  const std::vector<std::int64_t> rooms = choose_rooms(lengths, most);
  RC_ASSERT(std::is_sorted(rooms.begin(), rooms.end()));
  RC_ASSERT(static_cast<std::int64_t>(rooms.size()) <= most);
  RC_ASSERT(rooms.back() == *std::max_element(lengths.begin(), lengths.end()));
  std::int64_t least = INT64_MAX;
  for (unsigned set = 1; set < 1u << 12; ++set) {
    std::vector<std::int64_t> some;
    for (int length = 1; length < 12; ++length)
      if ((set >> length & 1) != 0) some.push_back(length);
    if (some.empty() || static_cast<std::int64_t>(some.size()) > most || some.back() < rooms.back()) continue;
    least = std::min(least, padded_ids(lengths, some));
  }
  RC_ASSERT(padded_ids(lengths, rooms) == least);
}

}  // namespace
}  // namespace thimble
