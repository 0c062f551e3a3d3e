#include "thimble/arena.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "thimble/error.h"

// GCC sees the pair below inlined on one side only and takes it for a mismatch.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif

namespace {
std::atomic<long> allocations{0};
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
// Replaced too, so that every delete below meets memory from malloc, under ASan as well.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size == 0 ? 1 : size);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace thimble {
namespace {

using namespace literals;

class ArenaTest : public ::testing::Test {
 protected:
  HostMemory memory_;
};

TEST_F(ArenaTest, ReturnsTheAddressOfTheOffset) {
  Arena arena(memory_, 4_KiB);
  std::byte* base = arena.grant("a", Offset{0}, 64_B);
  EXPECT_EQ(arena.grant("b", Offset{128}, 64_B), base + 128);
  EXPECT_EQ(arena.in_use(), 128_B);
}

TEST_F(ArenaTest, RefusesOverlapNamingBoth) {
  Arena arena(memory_, 4_KiB);
  arena.grant("first", Offset{64}, 100_B);
  for (const auto& [offset, size] : {std::pair{0, 65}, {64, 1}, {128, 64}, {0, 4096}}) {
    try {
      arena.grant("second", Offset{offset}, Bytes{size});
      ADD_FAILURE() << offset;
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find("'first'"), std::string::npos);
      EXPECT_NE(std::string(error.what()).find("'second'"), std::string::npos);
    }
  }
  arena.grant("below", Offset{0}, 64_B);
  arena.grant("above", Offset{192}, 64_B);
  EXPECT_EQ(arena.in_use(), 228_B);
}

TEST_F(ArenaTest, RefusesMisalignedAndOutside) {
  Arena arena(memory_, 4_KiB);
  EXPECT_THROW(arena.grant("a", Offset{32}, 1_B), InvalidArgument);
  EXPECT_THROW(arena.grant("a", Offset{-64}, 1_B), InvalidArgument);
  EXPECT_THROW(arena.grant("a", Offset{4032}, 65_B), InvalidArgument);
  EXPECT_THROW(arena.grant("a", Offset{0}, Bytes{-1}), InvalidArgument);
  EXPECT_THROW(arena.grant("a", Offset{64}, Bytes{INT64_MAX}), InvalidArgument);
  EXPECT_EQ(arena.in_use(), 0_B);
  arena.grant("all", Offset{0}, 4_KiB);
}

TEST_F(ArenaTest, ReleasedSpansCanBeGrantedAgain) {
  Arena arena(memory_, 4_KiB);
  arena.grant("a", Offset{0}, 64_B);
  EXPECT_TRUE(arena.is_granted(Offset{0}, 64_B));
  EXPECT_FALSE(arena.is_granted(Offset{0}, 63_B));
  arena.release(Offset{0});
  EXPECT_FALSE(arena.is_granted(Offset{0}, 64_B));
  EXPECT_THROW(arena.release(Offset{0}), Error);
  arena.grant("b", Offset{0}, 128_B);
}

TEST_F(ArenaTest, EmptySpansOverlapNothing) {
  Arena arena(memory_, 4_KiB);
  arena.grant("x", Offset{0}, 128_B);
  arena.grant("empty", Offset{64}, 0_B);
  EXPECT_THROW(arena.grant("y", Offset{64}, 64_B), InvalidArgument);
  arena.release(Offset{64});
  EXPECT_THROW(arena.release(Offset{64}), Error);
  EXPECT_TRUE(arena.is_granted(Offset{0}, 128_B));
}

TEST_F(ArenaTest, HighWaterIsMeasuredFromGrants) {
  Arena arena(memory_, 4_KiB);
  arena.grant("a", Offset{0}, 64_B);
  arena.grant("b", Offset{1024}, 100_B);
  arena.release(Offset{1024});
  EXPECT_EQ(arena.high_water(), 1124_B);
  arena.reset_high_water();
  EXPECT_EQ(arena.high_water(), 64_B);
}

TEST_F(ArenaTest, FindsWritesBesideASpan) {
  for (const int where : {-1, -64, 100, 163}) {
    Arena arena(memory_, 4_KiB, {.canaries = true});
    std::byte* span = arena.grant("victim", Offset{1024}, 100_B);
    span[where] = std::byte{1};
    try {
      arena.release(Offset{1024});
      ADD_FAILURE() << where;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("'victim'"), std::string::npos);
    }
    EXPECT_EQ(arena.in_use(), 0_B);
  }
}

TEST_F(ArenaTest, FindsADamagedCanaryWhenItsBytesAreGranted) {
  Arena arena(memory_, 4_KiB, {.canaries = true});
  std::byte* span = arena.grant("victim", Offset{0}, 64_B);
  span[64] = std::byte{1};
  EXPECT_THROW(arena.grant("next", Offset{64}, 64_B), Error);
}

TEST_F(ArenaTest, LawfulWritesLeaveCanariesAlone) {
  Arena arena(memory_, 4_KiB, {.poison = true, .canaries = true});
  for (const int gap : {0, 64, 128}) {
    std::byte* a = arena.grant("a", Offset{0}, 64_B);
    std::byte* b = arena.grant("b", Offset{64 + gap}, 100_B);
    std::byte* c = arena.grant("c", Offset{64 + gap + 128}, 64_B);
    std::memset(a, 1, 64);
    std::memset(b, 2, 100);
    std::memset(c, 3, 64);
    EXPECT_NO_THROW(arena.release(Offset{64 + gap}));
    EXPECT_NO_THROW(arena.release(Offset{0}));
    EXPECT_NO_THROW(arena.release(Offset{64 + gap + 128}));
  }
}

TEST_F(ArenaTest, PoisonMakesReleasedFloatsNaN) {
  Arena arena(memory_, 4_KiB, {.poison = true});
  std::byte* span = arena.grant("a", Offset{0}, 64_B);
  std::memset(span, 0, 64);
  arena.release(Offset{0});
  float value = 0;
  std::memcpy(&value, span + 60, sizeof value);
  EXPECT_TRUE(std::isnan(value));
}

TEST_F(ArenaTest, GrantAndReleaseDoNotAllocate) {
  Arena arena(memory_, 1_MiB, {.poison = true, .canaries = true, .max_spans = 100});
  const long before = allocations;
  for (int i = 0; i < 100; ++i) arena.grant("span", Offset{(i * 37 % 100) * 128}, 64_B);
  for (int i = 0; i < 100; ++i) arena.release(Offset{i * 128});
  EXPECT_EQ(allocations, before);
}

TEST_F(ArenaTest, RefusesMoreSpansThanItHasRoomFor) {
  Arena arena(memory_, 4_KiB, {.max_spans = 1});
  arena.grant("a", Offset{0}, 64_B);
  EXPECT_THROW(arena.grant("b", Offset{64}, 64_B), InvalidArgument);
}

TEST_F(ArenaTest, TouchingPagesKeepsTheirBytes) {
  Arena arena(memory_, 64_KiB);
  std::byte* span = arena.grant("a", Offset{0}, 64_KiB);
  span[4096] = std::byte{9};
  arena.touch_all_pages();
  EXPECT_EQ(span[4096], std::byte{9});
}

TEST(ArenaOnFakeMemory, KeepsTheBookWithoutTouchingBytes) {
  FakeMemory memory;
  Arena arena(memory, Bytes{std::int64_t{1} << 40}, {.poison = true, .canaries = true});
  arena.grant("a", Offset{0}, 1_MiB);
  arena.grant("b", Offset{std::int64_t{1} << 39}, 1_MiB);
  arena.touch_all_pages();
  arena.release(Offset{0});
  EXPECT_EQ(arena.high_water().value, (std::int64_t{1} << 39) + (1 << 20));
}

}  // namespace
}  // namespace thimble
