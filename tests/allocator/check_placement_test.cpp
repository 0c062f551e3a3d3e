#include <gtest/gtest.h>

#include "problems.h"
#include "thimble/placement.h"

namespace thimble {
namespace {

using testing::buffer;

const PlacementProblem kPair{{buffer("a", 0, 4, 100), buffer("b", 3, 5, 100)}, Bytes{1}};

void expect_one(const std::vector<std::string>& messages, const std::string& part) {
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_NE(messages[0].find(part), std::string::npos) << messages[0];
}

TEST(CheckPlacement, AcceptsAGoodOne) {
  EXPECT_TRUE(check_placement(kPair, {Offset{0}, Offset{100}}, Bytes{200}).empty());
}

TEST(CheckPlacement, AcceptsSharedBytesWhereLifetimesOnlyTouch) {
  EXPECT_TRUE(
      check_placement({{buffer("a", 0, 4, 100), buffer("b", 4, 5, 100)}, Bytes{1}}, {Offset{0}, Offset{0}}).empty());
}

TEST(CheckPlacement, FindsOneSharedByte) {
  const auto messages = check_placement(kPair, {Offset{0}, Offset{99}});
  expect_one(messages, "share bytes");
  if (messages.empty()) return;
  EXPECT_NE(messages[0].find("'a'"), std::string::npos);
  EXPECT_NE(messages[0].find("'b'"), std::string::npos);
  EXPECT_NE(messages[0].find("step 3"), std::string::npos);
}

TEST(CheckPlacement, FindsABufferInsideAnother) {
  expect_one(check_placement({{buffer("a", 0, 9, 100), buffer("b", 3, 5, 10)}, Bytes{1}}, {Offset{0}, Offset{50}}),
             "share bytes");
  expect_one(check_placement({{buffer("a", 0, 9, 10), buffer("b", 3, 5, 100)}, Bytes{1}}, {Offset{50}, Offset{0}}),
             "share bytes");
}

TEST(CheckPlacement, FindsMisalignedOffsets) {
  expect_one(check_placement({{buffer("a", 0, 1, 4)}, Bytes{64}}, {Offset{32}}), "not aligned to 64");
}

TEST(CheckPlacement, FindsNegativeOffsets) {
  expect_one(check_placement({{buffer("a", 0, 1, 4)}, Bytes{1}}, {Offset{-1}}), "negative offset");
}

TEST(CheckPlacement, FindsMovedFixedBuffers) {
  expect_one(check_placement({{buffer("a", 0, 1, 4, Offset{8})}, Bytes{1}}, {Offset{0}}), "fixed offset 8");
}

TEST(CheckPlacement, FindsBytesBeyondTheCapacity) {
  EXPECT_TRUE(check_placement({{buffer("a", 0, 1, 4)}, Bytes{1}}, {Offset{6}}, Bytes{10}).empty());
  expect_one(check_placement({{buffer("a", 0, 1, 4)}, Bytes{1}}, {Offset{7}}, Bytes{10}), "capacity 10");
  expect_one(check_placement({{buffer("a", 0, 1, 4)}, Bytes{1}}, {Offset{INT64_MAX}}, Bytes{10}), "capacity 10");
}

TEST(CheckPlacement, FindsMissingOffsets) { expect_one(check_placement(kPair, {Offset{0}}), "1 offsets for 2"); }

TEST(CheckPlacement, StopsAtTwentyMessages) {
  PlacementProblem problem;
  for (int i = 0; i < 100; ++i) problem.buffers.push_back(buffer("b", 0, 1, 4));
  EXPECT_EQ(check_placement(problem, std::vector<Offset>(100)).size(), 20u);
}

}  // namespace
}  // namespace thimble
