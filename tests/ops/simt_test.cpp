// The shim that runs kernels on the CPU: it computes what a GPU does, and it sees the bugs it is there for.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "simt_bugs.h"
#include "simt_cpu.h"
#include "simt_kernels.h"
#include "simt_places.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using simt::Order;
using testing::AllOf;
using testing::ContainsRegex;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

class InOrder {
 public:
  explicit InOrder(Order order, std::uint64_t seed = 0, int workers = 1)
      : before_(simt::set_order({order, seed, workers})) {}
  InOrder(const InOrder&) = delete;
  InOrder& operator=(const InOrder&) = delete;
  ~InOrder() { simt::set_order(before_); }

 private:
  simt::Schedule before_;
};

std::vector<float> ramp(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0F);
  return values;
}

template <class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Simt, SumsByShufflesAndSharedMemoryInEveryOrder) {
  const std::vector<float> ones(5000, 1.0F);
  for (const Order order : {Order::forward, Order::reverse, Order::random}) {
    const InOrder in_order(order, 3);
    EXPECT_EQ(simt_sum(ones, 5, 256), 5000.0F);
    EXPECT_EQ(simt_sum(ones, 1, 1024), 5000.0F);
    EXPECT_EQ(simt_sum(ones, 9, 32), 5000.0F);
  }
}

TEST(Simt, SharesBlocksOutToWorkers) {
  const InOrder in_order(Order::forward, 0, 3);
  EXPECT_EQ(simt_sum(std::vector<float>(100000, 1.0F), 50, 128), 100000.0F);
}

TEST(Simt, TransposesATileAtATime) {
  const auto out = simt_transpose(ramp(37 * 21), 37, 21);
  for (std::size_t row = 0; row < 37; ++row)
    for (std::size_t column = 0; column < 21; ++column)
      ASSERT_EQ(out[column * 37 + row], static_cast<float>(row * 21 + column));
}

TEST(Simt, DoesNotSwitchWhereNobodyWaits) {
  const InOrder in_order(Order::forward);
  EXPECT_EQ(simt_axpy(ramp(1000), ramp(1000), 2.0F)[999], 2997.0F);
  const simt::LaunchCounts counts = simt::last_launch();
  EXPECT_EQ(counts.blocks, 8);
  EXPECT_EQ(counts.threads, 1024);
#if !defined(__SANITIZE_THREAD__)
  EXPECT_EQ(counts.switches, 2 * counts.blocks);  // into the block and out of it
#endif
}

TEST(Simt, ShufflesAsTheProgrammingGuideSays) {
  for (const int width : {32, 16, 8, 4, 2, 1})
    for (int operand = 0; operand < 32; ++operand) {
      const auto index = simt_shuffle(SimtShuffle::index, operand, width);
      const auto up = simt_shuffle(SimtShuffle::up, operand, width);
      const auto down = simt_shuffle(SimtShuffle::down, operand, width);
      const auto by_xor = simt_shuffle(SimtShuffle::by_xor, operand, width);
      for (int lane = 0; lane < 32; ++lane) {
        const auto at = static_cast<std::size_t>(lane);
        const int segment = lane / width;
        ASSERT_EQ(index[at], segment * width + operand % width);
        ASSERT_EQ(up[at], (lane - operand >= segment * width) ? lane - operand : lane);
        ASSERT_EQ(down[at], (lane + operand < (segment + 1) * width) ? lane + operand : lane);
        // Lanes of earlier segments may be read, those of later ones not.
        ASSERT_EQ(by_xor[at], (lane ^ operand) / width <= segment ? (lane ^ operand) : lane);
      }
    }
}

TEST(Simt, VotesAndReducesOverAWarp) {
  const SimtVotes votes = simt_votes(0xa5000001U);
  EXPECT_EQ(votes.ballot, 0xa5000001U);
  EXPECT_EQ(votes.any, 1U);
  EXPECT_EQ(votes.none_of, 0U);
  EXPECT_EQ(votes.all, 1U);
  EXPECT_EQ(votes.not_all, 0U);
  EXPECT_EQ(votes.sum, -16);
  EXPECT_EQ(votes.least, -16);
  EXPECT_EQ(votes.most, 15);
  EXPECT_EQ(votes.least_unsigned, 0U);
  EXPECT_EQ(votes.bits_and, 0x40U);
  EXPECT_EQ(votes.bits_or, 0xffffffffU);
  EXPECT_EQ(votes.bits_xor, 32U);  // 1 ^ 2 ^ ... ^ 32
}

TEST(Simt, CountsOverABlock) {
  EXPECT_THAT(simt_block_votes(37), ElementsAre(37, 1, 0));
  EXPECT_THAT(simt_block_votes(0), ElementsAre(0, 0, 0));
  EXPECT_THAT(simt_block_votes(100), ElementsAre(100, 1, 1));
}

TEST(Simt, AtomicsAreAtomic) {
  EXPECT_THAT(simt_atomics(), ElementsAre(4950, 99, -99, 7, 4294967295.0, 99, 100, 50, 25));
}

TEST(Simt, NumbersThreadsAndBlocks) {
  const auto indices = simt_indices();
  std::size_t at = 0;
  for (unsigned bz = 0; bz < 2; ++bz)
    for (unsigned by = 0; by < 3; ++by)
      for (unsigned bx = 0; bx < 2; ++bx)
        for (unsigned z = 0; z < 4; ++z)
          for (unsigned y = 0; y < 2; ++y)
            for (unsigned x = 0; x < 3; ++x)
              ASSERT_EQ(indices[at++], x + 10 * y + 100 * z + 1000 * (bx + 10 * by + 100 * bz));
}

TEST(Simt, KeepsTheOrderItIsGiven) {
  std::vector<unsigned> sorted(3 * 64);
  std::iota(sorted.begin(), sorted.end(), 0U);
  {
    const InOrder in_order(Order::forward);
    EXPECT_EQ(simt_order_of_threads(), sorted);
  }
  {
    const InOrder in_order(Order::reverse);
    EXPECT_EQ(simt_order_of_threads(), std::vector<unsigned>(sorted.rbegin(), sorted.rend()));
  }
  std::vector<std::vector<unsigned>> seen;
  for (const std::uint64_t seed : {1U, 1U, 2U}) {
    const InOrder in_order(Order::random, seed);
    seen.push_back(simt_order_of_threads());
    EXPECT_TRUE(std::is_permutation(seen.back().begin(), seen.back().end(), sorted.begin()));
  }
  EXPECT_EQ(seen[0], seen[1]);
  EXPECT_NE(seen[0], seen[2]);
  EXPECT_NE(seen[0], sorted);
  // The seed moves the lanes of a block too, not blocks only.
  const auto of_first_block = [](std::vector<unsigned> order) {
    std::erase_if(order, [](unsigned thread) { return thread >= 64; });
    return order;
  };
  EXPECT_NE(of_first_block(seen[0]), of_first_block(seen[2]));
}

TEST(Simt, FillsSharedMemoryWithNaNsBeforeEachBlock) { EXPECT_EQ(simt_fresh_nans(), 128); }

TEST(Simt, GivesInstancesOfATemplateArraysOfTheirOwn) { EXPECT_TRUE(simt_instances_have_their_own_arrays()); }

TEST(Simt, LetsTheLastBlockSumUp) { EXPECT_EQ(simt_last_block_sums(30), 435.0F); }

TEST(Simt, LoadsAndStoresVectors) {
  const std::vector<float> in = ramp(64);
  const auto out = simt_vectors(in);
  for (std::size_t i = 0; i < 64; i += 4) {
    ASSERT_THAT((std::vector<float>{out.begin() + static_cast<std::ptrdiff_t>(i),
                                    out.begin() + static_cast<std::ptrdiff_t>(i) + 4}),
                ElementsAre(in[i + 3], in[i + 2], in[i + 1], in[i]));
  }
}

TEST(Simt, RefusesShapesNoGpuTakes) {
  EXPECT_THAT(message_of([] { simt_launch_shape(0, 32, 0); }), HasSubstr("extent of 0"));
  EXPECT_THAT(message_of([] { simt_launch_shape(-1, 32, 0); }), HasSubstr("extent of -1"));
  EXPECT_THAT(message_of([] { simt_launch_shape(std::int64_t{1} << 32, 32, 0); }), HasSubstr("extent of 4294967296"));
  EXPECT_THAT(message_of([] { simt_launch_shape(std::int64_t{1} << 31, 32, 0); }), HasSubstr("too large a grid"));
  EXPECT_THAT(message_of([] { simt_launch_shape(1, 1025, 0); }), HasSubstr("block of 1025 threads"));
  EXPECT_THAT(message_of([] { simt_launch_shape(1, 32, 232449); }), HasSubstr("232449 bytes of dynamic shared memory"));
  EXPECT_THROW(simt_launch_shape(1, 1025, 0), InvalidArgument);
  EXPECT_NO_THROW(simt_launch_shape(1, 1024, 232448));
}

// The launch, the block, the thread and the lines of the kernel.
TEST(Simt, NamesWhatIsWrongAndWhere) {
  const InOrder in_order(Order::forward);
  EXPECT_THAT(
      message_of(simt_wrong_mask),
      ContainsRegex(
          "^simt: launch at .*simt_kernels.cu:[0-9]+: block \\(0,0,0\\), thread \\(0,0,0\\): __syncwarp with mask "
          "0xffff0000 at .*simt_kernels.cu:[0-9]+ in .*wrong_mask_kernel: lane 0 is not in its own mask"));
  EXPECT_THAT(message_of(simt_two_operations),
              AllOf(HasSubstr("thread (16,0,0): __any_sync"), HasSubstr("another one")));
  EXPECT_THAT(message_of(simt_wrong_width), HasSubstr("the width is 12"));
  EXPECT_THAT(message_of(simt_absent_lane), HasSubstr("lane 20, which the block does not have"));
}

TEST(Simt, TellsWhereEachThreadOfADeadlockWaits) {
  {
    const InOrder in_order(Order::forward);
    EXPECT_THAT(message_of(simt_warp_against_block),
                AllOf(HasSubstr("deadlock"), ContainsRegex("thread \\(0,0,0\\) waits at the warp operation"),
                      ContainsRegex("thread \\(1,0,0\\) waits at the barrier .*\\(and 62 more\\)")));
  }
  const InOrder in_order(Order::reverse);
  EXPECT_THAT(message_of(simt_warp_against_block),
              ContainsRegex("thread \\(0,0,0\\): __syncwarp with .*: thread \\(1,0,0\\) waits at the barrier"));
}

// At once, by whoever comes or goes last; not as the deadlock it would end in.
TEST(Simt, NamesWhoReturnedTooEarly) {
  {
    const InOrder in_order(Order::forward);
    EXPECT_THAT(run_simt_bug("return_before_barrier", false), HasSubstr("thread (100,0,0): returns while others wait"));
    EXPECT_THAT(run_simt_bug("ballot_after_return", false), HasSubstr("thread (20,0,0): returns while its warp waits"));
  }
  const InOrder in_order(Order::reverse);
  EXPECT_THAT(run_simt_bug("return_before_barrier", false), HasSubstr("thread (100,0,0) has returned"));
  EXPECT_THAT(run_simt_bug("ballot_after_return", false), HasSubstr("the mask names lane 20, which has returned"));
}

TEST(Simt, WorksAgainAfterAFinding) {
  for (const int workers : {1, 3}) {
    const InOrder in_order(Order::forward, 0, workers);
    EXPECT_THAT(message_of([] { simt_fails_in_block(11, 20); }), HasSubstr("block (11,0,0), thread (3,0,0)"));
    EXPECT_EQ(simt_sum(std::vector<float>(3000, 1.0F), 20, 128), 3000.0F);
  }
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(Simt, SeesAWriteBeforeSharedMemory) {
  EXPECT_THAT(message_of(simt_write_before_shared), HasSubstr("a write before the dynamic shared memory"));
}
#endif

// The only barrier that the calls pass.
template <class Call>
std::string barrier_of(Call call) {
  simt::record_places(true);
  call();
  const std::vector<std::string> places = simt::passed_places();
  simt::record_places(false);
  return places.size() == 1 ? places[0] : std::to_string(places.size()) + " places";
}

TEST(Simt, SaysWhichBarriersArePassed) {
  EXPECT_THAT(barrier_of([] { simt_transpose(ramp(9), 3, 3); }), ContainsRegex("simt_kernels.cu:[0-9]+$"));
  EXPECT_EQ(barrier_of([] { simt_axpy(ramp(9), ramp(9), 2); }), "0 places");
  simt::record_places(true);
  simt_block_votes(37);
  simt::record_places(true);
  EXPECT_EQ(simt::passed_places().size(), 0U);
  simt::record_places(false);
}

#if !defined(__SANITIZE_THREAD__)
TEST(Simt, LeavesOutTheBarrierItIsTold) {
  const InOrder in_order(Order::forward);
  const auto transposed = [] { return simt_transpose(ramp(37 * 21), 37, 21); };
  const std::vector<float> right = transposed();
  const std::string place = barrier_of(transposed);
  for (const std::string& name : {place, place.substr(place.rfind('/') + 1)}) {
    simt::leave_out(name);
    EXPECT_NE(transposed(), right);
  }
  for (const std::string& other : {std::string(), place + "0", "x" + place.substr(place.rfind('/') + 1)}) {
    simt::leave_out(other);
    EXPECT_EQ(transposed(), right) << other;
  }
  simt::leave_out("");
  for (const char* wrong : {"simt_kernels.cu", "simt_kernels.cu:", "simt_kernels.cu:4x", ":4", "simt_kernels.cu:0"})
    EXPECT_THAT(message_of([&] { simt::leave_out(wrong); }), HasSubstr("is no <file>:<line>"));
}
#endif

// What each configuration makes of a bug: README.md's table.
struct Expected {
  std::string_view bug, forward, reverse, random, address, thread;
};
constexpr std::array kExpected = {
    Expected{"missing_barrier", "wrong", "right", "wrong", "wrong", "race"},
    Expected{"reused_buffer", "wrong", "wrong", "wrong", "wrong", "race"},
    Expected{"missing_syncwarp", "wrong", "right", "wrong", "wrong", "race"},
    Expected{"shuffle_as_fence", "right", "right", "right", "right", "race"},
    Expected{"plain_increment", "right", "right", "right", "right", "race"},
    Expected{"plain_sum", "right", "right", "right", "right", "race"},
    Expected{"block_order", "right", "wrong", "wrong", "right", "race"},
    Expected{"barrier_in_branches", "caught", "caught", "caught", "caught", "caught"},
    Expected{"barrier_in_if", "caught", "caught", "caught", "caught", "caught"},
    Expected{"return_before_barrier", "caught", "caught", "caught", "caught", "caught"},
    Expected{"ballot_in_if", "caught", "caught", "caught", "caught", "caught"},
    Expected{"ballot_after_return", "caught", "caught", "caught", "caught", "caught"},
    Expected{"shuffle_outside_mask", "caught", "caught", "caught", "caught", "caught"},
    Expected{"shared_index", "caught", "caught", "caught", "undefined", "caught"},
    Expected{"dynamic_shared_index", "wrong", "wrong", "wrong", "address", "wrong"},
    Expected{"counters_not_cleared", "wrong", "wrong", "wrong", "wrong", "wrong"},
    Expected{"global_index", "wrong", "wrong", "wrong", "address", "wrong"},
    Expected{"index_overflow", "wrong", "wrong", "wrong", "undefined", "wrong"},
    Expected{"misaligned_vector", "caught", "caught", "caught", "caught", "caught"},
    Expected{"too_much_shared", "caught", "caught", "caught", "caught", "caught"},
    Expected{"not_written", "wrong", "wrong", "wrong", "wrong", "wrong"},
};

void PrintTo(const Expected& row, std::ostream* out) { *out << row.bug; }

class SimtBugs : public testing::TestWithParam<Expected> {};

TEST(SimtBugs, AllStandInTheTable) {
  ASSERT_EQ(simt_bugs().size(), kExpected.size());
  for (std::size_t i = 0; i < kExpected.size(); ++i) EXPECT_EQ(simt_bugs()[i].name, kExpected[i].bug);
}

std::string outcome(std::string_view bug, Order order, std::uint64_t seed, bool mended) {
  const InOrder in_order(order, seed);
  const std::string result = run_simt_bug(bug, mended);
  return result.substr(0, result.find(':'));
}

TEST_P(SimtBugs, AreSeenInTheOrdersThatShowThem) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "this build's sanitizer would end the test";
#else
  const Expected& row = GetParam();
  EXPECT_EQ(outcome(row.bug, Order::forward, 0, false), row.forward);
  EXPECT_EQ(outcome(row.bug, Order::reverse, 0, false), row.reverse);
  int seen = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    seen += outcome(row.bug, Order::random, seed, false) == row.random ? 1 : 0;
  EXPECT_GE(seen, 19);
#endif
}

TEST_P(SimtBugs, AreGoneOnceMended) {
  EXPECT_EQ(outcome(GetParam().bug, Order::forward, 0, true), "right");
  EXPECT_EQ(outcome(GetParam().bug, Order::reverse, 0, true), "right");
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    EXPECT_EQ(outcome(GetParam().bug, Order::random, seed, true), "right");
}

#if defined(THIMBLE_SIMT_BUGS_ASAN)
std::string output_of(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return "cannot run " + command;
  std::string output;
  std::array<char, 4096> part{};
  for (std::size_t read = 0; (read = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    output.append(part.data(), read);
  pclose(pipe);
  return output;
}

std::string sanitized(const char* program, std::string_view bug, const char* variant, const std::string& without = "") {
  const std::string output =
      output_of((without.empty() ? "" : "SIMT_WITHOUT=" + without + " ") + "SIMT_ORDER=forward SIMT_WORKERS=1 " +
                std::string(program) + " " + std::string(bug) + " " + variant);
  const auto says = [&](const char* text) { return output.find(text) != std::string::npos; };
  const bool names_kernel = says((std::string(bug) + "_kernel").c_str()) && says("simt_bugs.cu:");
  if (says("WARNING: ThreadSanitizer: data race")) return names_kernel ? "race" : output;
  if (says("ERROR: AddressSanitizer")) return names_kernel ? "address" : output;
  if (says("runtime error:")) return says("simt_bugs.cu:") ? "undefined" : output;
  for (const char* result : {"right", "wrong", "caught"})
    if (output.starts_with(result)) return result;
  return output;
}

TEST_P(SimtBugs, AreSeenByAddressSanitizer) {
  EXPECT_EQ(sanitized(THIMBLE_SIMT_BUGS_ASAN, GetParam().bug, "broken"), GetParam().address);
  EXPECT_EQ(sanitized(THIMBLE_SIMT_BUGS_ASAN, GetParam().bug, "mended"), "right");
}

TEST_P(SimtBugs, AreSeenByThreadSanitizer) {
  EXPECT_EQ(sanitized(THIMBLE_SIMT_BUGS_TSAN, GetParam().bug, "broken"), GetParam().thread);
  EXPECT_EQ(sanitized(THIMBLE_SIMT_BUGS_TSAN, GetParam().bug, "mended"), "right");
}

// A mended kernel without its barrier is the broken one.
TEST(Simt, ABarrierLeftOutIsARace) {
  for (const char* bug : {"missing_barrier", "missing_syncwarp"}) {
    const std::string place = barrier_of([&] { run_simt_bug(bug, true); });
    const std::string barrier = place.substr(place.rfind('/') + 1);  // another program may have another path
    EXPECT_EQ(sanitized(THIMBLE_SIMT_BUGS_TSAN, bug, "mended", barrier), "race") << barrier;
    EXPECT_EQ(sanitized(THIMBLE_SIMT_BUGS_TSAN, bug, "mended", barrier + "0"), "right");
  }
}

TEST(Simt, RefusesAnEnvironmentItDoesNotUnderstand) {
  const std::string run = std::string(THIMBLE_SIMT_BUGS_ASAN) + " not_written mended";
  EXPECT_THAT(output_of("SIMT_ORDER=sideways " + run),
              HasSubstr("SIMT_ORDER='sideways'; it is forward, reverse or random"));
  EXPECT_THAT(output_of("SIMT_SEED=x " + run), HasSubstr("SIMT_SEED='x' is no number"));
  EXPECT_THAT(output_of("SIMT_WITHOUT=simt_bugs.cu " + run),
              HasSubstr("SIMT_WITHOUT='simt_bugs.cu' is no <file>:<line>"));
  EXPECT_THAT(output_of("SIMT_ORDER=random SIMT_SEED=5 SIMT_WORKERS=2 " + run), HasSubstr("right"));
}
#endif

INSTANTIATE_TEST_SUITE_P(All, SimtBugs, testing::ValuesIn(kExpected),
                         [](const auto& row) { return std::string(row.param.bug); });

}  // namespace
}  // namespace thimble
