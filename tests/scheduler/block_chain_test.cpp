#include "../../scheduler/block_chain.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "../../scheduler/block_options.h"
#include "block_graphs.h"
#include "thimble/live_counter.h"

namespace thimble::testing {
namespace {

// Alike blocks of one option, joined by values of a byte.
std::vector<ChainBlock> alike(std::size_t count) {
  std::vector<ChainBlock> blocks(count, {Bytes{1}, 1, 0, {{Bytes{0}, Bytes{0}, 0}}});
  blocks.front().begins_with = {};
  return blocks;
}

std::int64_t binomial(std::int64_t n, std::int64_t k) {
  std::int64_t value = 1;
  for (std::int64_t i = 1; i <= k; ++i) value = value * (n - k + i) / i;
  return value;
}

// Fewest steps forwards to go back through `steps` with so many checkpoints (Griewank and Walther 2000, theorem 6.1),
// without those of the first way forward.
std::int64_t repeated_steps(std::int64_t steps, std::int64_t checkpoints) {
  std::int64_t sweeps = 0;
  while (binomial(checkpoints + sweeps, checkpoints) < steps) ++sweeps;
  return sweeps * steps - binomial(checkpoints + sweeps, sweeps - 1) - (steps - 1);
}

TEST(BlockChain, OfAlikeBlocksIsTheBinomialSchedule) {
  for (std::size_t count : {2U, 3U, 7U, 20U, 40U}) {
    const BlockChain chain(alike(count));
    for (std::size_t room = 1; room < 8; ++room) {
      ASSERT_EQ(chain.bytes_of(room), Bytes{static_cast<std::int64_t>(room)}) << "a slot is a byte";
      const auto choice = chain.within(room);
      ASSERT_TRUE(choice.has_value()) << count << " blocks, room for " << room;
      EXPECT_EQ(choice->seconds,
                static_cast<double>(repeated_steps(static_cast<std::int64_t>(count), static_cast<std::int64_t>(room))))
          << count << " blocks, room for " << room;
    }
    EXPECT_FALSE(chain.within(0).has_value());
    EXPECT_EQ(chain.within(count)->seconds, 0);
  }
}

// Parted at few places only, and still near the binomial schedule.
TEST(BlockChain, ManyBlocksLoseLittle) {
  const BlockChain chain(alike(300));
  for (std::size_t room : {10U, 30U, 100U}) {
    const double fewest = static_cast<double>(repeated_steps(300, static_cast<std::int64_t>(room)));
    const auto choice = chain.within(room);
    ASSERT_TRUE(choice.has_value()) << room;
    EXPECT_GE(choice->seconds, fewest) << room;
    EXPECT_LE(choice->seconds, 1.2 * fewest) << room;
  }
  EXPECT_EQ(chain.within(300)->seconds, 0);
}

// What one way through a part of the chain takes.
struct Way {
  Bytes need;
  double seconds;
};

// All ways, none left out for another.
std::vector<Way> all_ways(const std::vector<ChainBlock>& blocks, std::size_t first, std::size_t end) {
  std::vector<Way> ways;
  for (const BlockOption& option : blocks[first].options) {
    if (first + 1 == end) {
      ways.push_back({option.most, option.seconds});
      continue;
    }
    const Bytes held = option.held + blocks[first + 1].begins_with;
    for (const Way& rest : all_ways(blocks, first + 1, end))
      ways.push_back({std::max(option.most, held + rest.need), option.seconds + rest.seconds});
  }
  double forward = blocks[first].forward_seconds;
  for (std::size_t part = first + 2; part < end; ++part) {
    for (const Way& rest : all_ways(blocks, part, end))
      for (const Way& again : all_ways(blocks, first, part))
        ways.push_back({std::max(again.need, blocks[part].begins_with + rest.need),
                        forward + blocks[part - 1].again_seconds + rest.seconds + again.seconds});
    forward += blocks[part - 1].forward_seconds;
  }
  return ways;
}

RC_GTEST_PROP(BlockChain, FindsTheFastestOfAllWays, ()) {
  const auto small = [](int below) { return *rc::gen::inRange(0, below); };
  std::vector<ChainBlock> blocks(static_cast<std::size_t>(1 + small(5)));
  for (ChainBlock& block : blocks) {
    block = {Bytes{small(9)}, static_cast<double>(small(20)), static_cast<double>(small(20)), {}};
    const int options = 1 + small(3);
    for (int i = 0; i < options; ++i) {
      const Bytes held{small(12)};
      block.options.push_back({held, held + Bytes{small(12)}, static_cast<double>(small(20))});
    }
  }
  blocks.front().begins_with = {};
  const BlockChain chain(blocks);
  const std::vector<Way> ways = all_ways(blocks, 0, blocks.size());
  for (std::size_t room = 0; room < 60; ++room) {
    RC_ASSERT(chain.bytes_of(room) == Bytes{static_cast<std::int64_t>(room)});
    std::optional<double> fastest;
    for (const Way& way : ways)
      if (way.need <= chain.bytes_of(room)) fastest = std::min(way.seconds, fastest.value_or(way.seconds));
    const auto choice = chain.within(room);
    RC_ASSERT(choice.has_value() == fastest.has_value());
    if (choice) RC_ASSERT(choice->seconds == *fastest);
  }
}

// What the chain of a graph chooses, each choice as it is counted.
struct Chosen {
  std::vector<Way> ways;
  int counts = 0;  // of sequences, to find the options
};

Chosen choices_of(const OpRegistry& registry, const Graph& graph) {
  const Graph step = step_graph(registry, graph);
  const RecomputeBasis basis = recompute_basis(step, registry);
  const auto prices = price_ops(step, registry, {}, {kBatch});
  LiveCounter counter(step, registry, {.microbatches = {kBatch}, .workspaces = IdVector<OpId, Bytes>(step.ops.size())});
  Chosen chosen;
  const auto count = [&](const RecomputeRanks& ranks) {
    ++chosen.counts;
    const std::vector<OpId> sequence = recompute_sequence(step, basis, ranks);
    const std::vector<Bytes>& live = counter.count(sequence);
    return CountedSequence{counter.steps(), live, seconds_of_repeats(sequence, prices)};
  };
  const BlockOptions options(step, basis, basis.values, basis.between, prices, count);
  const int counts = chosen.counts;
  for (const RecomputeRanks& ranks : options.choices(32)) {
    const CountedSequence counted = count(ranks);
    chosen.ways.push_back({*std::max_element(counted.live.begin(), counted.live.end()), counted.seconds});
  }
  chosen.counts = counts;
  return chosen;
}

TEST(BlockOptions, ChoicesTakeMoreBytesAndLessTimeOneAfterTheOther) {
  const OpRegistry registry = tiny_registry();
  const std::vector<Way> ways = choices_of(registry, tower(registry, 24)).ways;
  ASSERT_GE(ways.size(), 6U);
  for (std::size_t i = 1; i < ways.size(); ++i) {
    EXPECT_GE(ways[i].need, ways[i - 1].need);
    EXPECT_LE(ways[i].seconds, ways[i - 1].seconds);
  }
  EXPECT_EQ(ways.back().seconds, 0) << "the last holds everything";
  EXPECT_LT(ways.front().need.value, ways.back().need.value * 3 / 4);
}

TEST(BlockOptions, BlocksThatAreAlikeAreCountedOnce) {
  const OpRegistry registry = tiny_registry();
  EXPECT_EQ(choices_of(registry, tower(registry, 6)).counts, choices_of(registry, tower(registry, 24)).counts);
}

}  // namespace
}  // namespace thimble::testing
