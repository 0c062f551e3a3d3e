#include "thimble/shuffle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "thimble/error.h"

namespace thimble {
namespace {

std::vector<std::int64_t> order(std::uint64_t seed, std::int64_t epoch, std::int64_t size) {
  std::vector<std::int64_t> indices;
  for (std::int64_t p = 0; p < size; ++p) indices.push_back(shuffled_index(seed, epoch, p, size));
  return indices;
}

TEST(Shuffle, IsAPermutation) {
  for (std::int64_t size : {1, 2, 3, 10, 255, 256, 257, 2000, 50000}) {
    std::vector<std::int64_t> sorted = order(7, 3, size);
    std::sort(sorted.begin(), sorted.end());
    std::vector<std::int64_t> all(static_cast<std::size_t>(size));
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(sorted, all) << size;
  }
}

TEST(Shuffle, DependsOnSeedAndEpoch) {
  EXPECT_EQ(order(1, 0, 500), order(1, 0, 500));
  EXPECT_NE(order(1, 0, 500), order(2, 0, 500));
  EXPECT_NE(order(1, 0, 500), order(1, 1, 500));
}

// Uniform: a position's index has mean n/2; neighbours are far apart (n/3 on average) and few stay in place (1
// expected).
TEST(Shuffle, Mixes) {
  constexpr std::int64_t kSize = 2000;
  const auto indices = order(5, 0, kSize);
  double distance = 0, first_half = 0;
  int in_place = 0;
  for (std::size_t i = 0; i < kSize; ++i) {
    in_place += indices[i] == static_cast<std::int64_t>(i);
    if (i > 0) distance += static_cast<double>(std::abs(indices[i] - indices[i - 1])) / (kSize - 1);
    if (i < kSize / 2) first_half += static_cast<double>(indices[i]) / (kSize / 2);
  }
  EXPECT_NEAR(distance, kSize / 3.0, 40);
  EXPECT_NEAR(first_half, kSize / 2.0, 60);
  EXPECT_LE(in_place, 8);
}

TEST(Shuffle, RefusesPositionsOutside) {
  EXPECT_THROW(shuffled_index(0, 0, 10, 10), InvalidArgument);
  EXPECT_THROW(shuffled_index(0, 0, -1, 10), InvalidArgument);
  EXPECT_THROW(shuffled_index(0, 0, 0, 0), InvalidArgument);
}

}  // namespace
}  // namespace thimble
