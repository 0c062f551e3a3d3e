#include "thimble/parallel.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>

#include "thimble/library_scope.h"

namespace thimble {
namespace {

TEST(Chunks, CoverEverythingOnceWithAShorterLast) {
  for (std::int64_t total : {1, 7, 8, 9, 17, 100})
    for (std::int64_t most : {1, 4, 8, 16}) {
      const Chunks chunks = Chunks::of(total, most);
      EXPECT_LE(chunks.count, most);
      std::int64_t next = 0;
      for (std::int64_t c = 0; c < chunks.count; ++c) {
        EXPECT_EQ(chunks.begin(c), next);
        EXPECT_GT(chunks.end(c), chunks.begin(c));
        next = chunks.end(c);
      }
      EXPECT_EQ(next, total);
    }
  EXPECT_EQ(Chunks::of(0, 8).count, 0);
}

TEST(ParallelChunks, CallsEveryIndexOnceAsOurCode) {
  for (int threads : {1, 2, 4}) {
    std::array<std::atomic<int>, 100> calls{};
    std::atomic<int> inside_library = 0;
    parallel_chunks(threads, 100, [&](std::int64_t i) {
      ++calls[static_cast<std::size_t>(i)];
      inside_library += library_depth();
    });
    for (const auto& count : calls) EXPECT_EQ(count, 1);
    EXPECT_EQ(inside_library, 0);
    EXPECT_EQ(library_depth(), 0);
  }
}

TEST(ParallelChunks, PassesOnWhatABodyThrows) {
  for (int threads : {1, 2}) {
    EXPECT_THROW(parallel_chunks(threads, 8,
                                 [](std::int64_t i) {
                                   if (i == 5) throw 5;
                                 }),
                 int);
    EXPECT_EQ(library_depth(), 0);
  }
}

}  // namespace
}  // namespace thimble
