#include "thimble/memory.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "thimble/error.h"

namespace thimble {
namespace {

using namespace literals;

struct MemoryCase {
  const char* name;
  std::unique_ptr<Memory> (*make)();
};

class MemoryContract : public ::testing::TestWithParam<MemoryCase> {
 protected:
  std::unique_ptr<Memory> memory_ = GetParam().make();
};

std::uintptr_t number(const std::byte* p) { return reinterpret_cast<std::uintptr_t>(p); }

TEST_P(MemoryContract, BlocksBeginAtPages) {
  const MemoryBlock a = memory_->allocate(1_B);
  const MemoryBlock b = memory_->allocate(10000_B);
  EXPECT_EQ(number(a.data()) % 4096, 0u);
  EXPECT_EQ(number(b.data()) % 4096, 0u);
  EXPECT_EQ(b.size(), 10000_B);
}

TEST_P(MemoryContract, LiveBlocksAreDisjoint) {
  const MemoryBlock a = memory_->allocate(8192_B);
  const MemoryBlock b = memory_->allocate(8192_B);
  const bool apart = number(a.data()) + 8192 <= number(b.data()) || number(b.data()) + 8192 <= number(a.data());
  EXPECT_TRUE(apart);
}

TEST_P(MemoryContract, MovingABlockMovesItsOwnership) {
  MemoryBlock a = memory_->allocate(64_B);
  std::byte* const data = a.data();
  MemoryBlock b = std::move(a);
  EXPECT_EQ(a.data(), nullptr);
  EXPECT_EQ(b.data(), data);
  MemoryBlock c = memory_->allocate(64_B);
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.size(), 64_B);
}

TEST_P(MemoryContract, NothingIsABlockToo) { EXPECT_EQ(memory_->allocate(0_B).size(), 0_B); }

TEST_P(MemoryContract, RefusesNegativeSizes) { EXPECT_THROW(memory_->allocate(Bytes{-1}), InvalidArgument); }

TEST_P(MemoryContract, SaysWhatCouldNotBeHad) {
  try {
    const MemoryBlock block = memory_->allocate(Bytes{std::int64_t{1} << 60});
    FAIL() << "2^60 bytes were granted";
  } catch (const EnvironmentError& error) {
    EXPECT_NE(std::string(error.what()).find("1152921504606846976"), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, MemoryContract,
    ::testing::Values(MemoryCase{"host", [] { return std::unique_ptr<Memory>(std::make_unique<HostMemory>()); }},
                      MemoryCase{"fake", [] { return std::unique_ptr<Memory>(std::make_unique<FakeMemory>()); }}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(HostMemory, CanBeWrittenFromEndToEnd) {
  HostMemory memory;
  const MemoryBlock block = memory.allocate(10000_B);
  EXPECT_EQ(block.data()[0], std::byte{0});
  block.data()[9999] = std::byte{7};
  EXPECT_EQ(block.data()[9999], std::byte{7});
}

TEST(FakeMemory, CountsLiveBlocksAgainstItsCapacity) {
  FakeMemory memory(100_B);
  {
    const MemoryBlock block = memory.allocate(100_B);
    EXPECT_EQ(memory.in_use(), 100_B);
    EXPECT_THROW(memory.allocate(1_B), EnvironmentError);
  }
  EXPECT_EQ(memory.in_use(), 0_B);
  EXPECT_EQ(memory.allocate(100_B).size(), 100_B);
}

}  // namespace
}  // namespace thimble
