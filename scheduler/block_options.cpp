#include "block_options.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace thimble {
namespace {

constexpr std::int32_t kNoBlock = -1;
constexpr std::size_t kMostLooks = 48;  // at one block: at all that it can hold where it has three values, else a beam
constexpr std::size_t kMostOptions = 12;  // of one block in the chain
constexpr std::array<std::int32_t, 3> kStates{0, kWithinBlock, kOnDemand};

bool beats(const BlockOption& a, const BlockOption& b) {
  return a.held <= b.held && a.most <= b.most && a.seconds <= b.seconds;
}

void describe(const Graph& graph, OpId id, std::string& text) {
  const Op& op = graph.ops[id];
  text += op.kind;
  for (const std::vector<TensorId>* tensors : {&op.inputs, &op.outputs}) {
    text += '(';
    for (TensorId t : *tensors) {
      for (std::int64_t size : graph.tensors[t].type.shape) text += std::to_string(size) + ',';
      text += ';';
    }
  }
}

}  // namespace

BlockOptions::BlockOptions(const Graph& graph, const RecomputeBasis& basis, const std::vector<TensorId>& values,
                           const std::vector<TensorId>& between, const IdVector<OpId, OpPrice>& prices,
                           const Count& count)
    : graph_(graph),
      basis_(basis),
      block_of_value_(graph.tensors.size(), kNoBlock),
      block_of_op_(graph.ops.size(), kNoBlock) {
  find_blocks(values, between, prices);
  find_ways_back(count(keep_everything(graph)).steps);
  std::map<std::string, std::size_t> known;
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    Block& block = blocks_[b];
    block.made_of += (b == 0 ? "first " : "") + std::to_string(block.inside.size());
    block.like = known.emplace(block.made_of, b).first->second;
  }
  make_chain(count);
}

void BlockOptions::find_blocks(const std::vector<TensorId>& values, const std::vector<TensorId>& between,
                               const IdVector<OpId, OpPrice>& prices) {
  blocks_.emplace_back();
  for (OpId op : basis_.order) {
    if (graph_.ops[op].phase != Phase::forward) continue;
    describe(graph_, op, blocks_.back().made_of);
    if (basis_.may_repeat[op] != 0) blocks_.back().forward_seconds += prices[op].seconds;
    TensorId joint = kNoTensor;
    for (TensorId t : graph_.ops[op].outputs) {
      if (std::binary_search(between.begin(), between.end(), t)) joint = t;
      if (t == joint) continue;
      if (std::binary_search(values.begin(), values.end(), t)) blocks_.back().inside.push_back(t);
      if (!std::binary_search(basis_.side.begin(), basis_.side.end(), t) && graph_.tensors[t].type.batched)
        block_of_value_[t] = static_cast<std::int32_t>(blocks_.size()) - 1;
    }
    if (joint == kNoTensor) continue;
    block_of_value_[joint] = static_cast<std::int32_t>(blocks_.size());
    blocks_.emplace_back().begins_with = joint;
  }
}

// The way back is in a block from the first op that reads a value of it until one reads a value of a block before.
void BlockOptions::find_ways_back(const std::vector<OpId>& steps) {
  auto block = static_cast<std::int32_t>(blocks_.size()) - 1;
  for (OpId op : steps) {
    if (graph_.ops[op].phase != Phase::backward) continue;
    for (TensorId t : graph_.ops[op].inputs)
      if (block_of_value_[t] != kNoBlock) block = std::min(block, block_of_value_[t]);
    block_of_op_[op] = block;
    describe(graph_, op, blocks_[static_cast<std::size_t>(block)].made_of);
  }
}

// `held` is what is live when the way back begins, `most` what is on the way back through the block: with all that
// persists and that other blocks hold.
BlockOption BlockOptions::counted(std::size_t block, const CountedSequence& sequence) const {
  BlockOption option{{}, {}, sequence.seconds};
  Bytes since;  // the most since the last op of either way: repetitions belong to the next on the way back
  IdVector<OpId, char> ran(graph_.ops.size(), 0);
  for (std::size_t i = 0; i < sequence.steps.size(); ++i) {
    const OpId op = sequence.steps[i];
    since = std::max(since, sequence.live[i]);
    if (graph_.ops[op].phase == Phase::forward && ran[op] == 0) {
      option.held = sequence.live[i];
      since = {};
    }
    ran[op] = 1;
    if (graph_.ops[op].phase != Phase::backward) continue;
    if (block_of_op_[op] == static_cast<std::int32_t>(block)) option.most = std::max(option.most, since);
    since = {};
  }
  return option;
}

// Nothing of the blocks before is held but the value that the block begins with, all of the others.
RecomputeRanks BlockOptions::alone(std::size_t block) const {
  RecomputeRanks ranks = keep_everything(graph_);
  for (std::size_t b = 0; b < block; ++b) {
    for (TensorId t : blocks_[b].inside) ranks[t] = 1;
    if (b > 0) ranks[blocks_[b].begins_with] = 1;
  }
  return ranks;
}

// All that the block can hold, or from the plainest on what is one value away from the best known so far.
std::vector<BlockOptions::Look> BlockOptions::look_at(std::size_t block, const Count& count) const {
  const std::vector<TensorId>& inside = blocks_[block].inside;
  std::vector<Look> looks;
  std::set<std::vector<std::int32_t>> seen;
  const auto look = [&](const std::vector<std::int32_t>& ranks) {
    if (looks.size() >= kMostLooks || !seen.insert(ranks).second) return;
    RecomputeRanks all = alone(block);
    for (std::size_t i = 0; i < inside.size(); ++i) all[inside[i]] = ranks[i];
    looks.push_back({ranks, counted(block, count(all))});
  };
  for (std::int32_t state : kStates) look(std::vector<std::int32_t>(inside.size(), state));
  for (std::size_t next = 0; next < looks.size(); ++next) {
    const std::vector<std::int32_t> from = looks[next].ranks;
    const BlockOption option = looks[next].option;
    if (std::any_of(looks.begin(), looks.end(),
                    [&](const Look& other) { return beats(other.option, option) && !beats(option, other.option); }))
      continue;
    for (std::size_t i = 0; i < inside.size(); ++i)
      for (std::int32_t state : kStates) {
        std::vector<std::int32_t> changed = from;
        changed[i] = state;
        look(changed);
      }
  }
  std::vector<Look> kept;
  for (const Look& one : looks)
    if (std::none_of(kept.begin(), kept.end(), [&](const Look& other) { return beats(other.option, one.option); })) {
      std::erase_if(kept, [&](const Look& other) { return beats(one.option, other.option); });
      kept.push_back(one);
    }
  if (kept.size() > kMostOptions) kept.resize(kMostOptions);
  return kept;
}

// What it takes to hold the value that the block begins with, where what follows is made again from it. Nothing where
// it is smaller than what it would be made of.
Bytes BlockOptions::begin_of(std::size_t block, const Count& count) const {
  RecomputeRanks ranks = alone(block);
  for (TensorId t : blocks_[block].inside) ranks[t] = kWithinBlock;
  if (block + 1 < blocks_.size()) ranks[blocks_[block + 1].begins_with] = kWithinBlock;
  const Bytes with = counted(block, count(ranks)).held;
  ranks[blocks_[block].begins_with] = 1;
  return std::max(Bytes{}, with - counted(block, count(ranks)).held);
}

ChainBlock BlockOptions::chain_block(std::size_t block, Bytes persistent, const Count& count) const {
  ChainBlock chain;
  if (block > 0) chain.begins_with = begin_of(block, count);
  chain.forward_seconds = blocks_[block].forward_seconds;
  BlockOption least = looks_[block].front().option, most = least;
  for (const Look& look : looks_[block]) {
    least.held = std::min(least.held, look.option.held);
    least.seconds = std::min(least.seconds, look.option.seconds);
    most.seconds = std::max(most.seconds, look.option.seconds);
  }
  chain.again_seconds = most.seconds - least.seconds;
  for (const Look& look : looks_[block]) {
    const Bytes held = look.option.held - least.held;
    chain.options.push_back(
        {held, std::max(held, look.option.most - persistent - chain.begins_with), look.option.seconds - least.seconds});
  }
  return chain;
}

void BlockOptions::make_chain(const Count& count) {
  const Bytes persistent = counted(0, count(alone(blocks_.size()))).held;
  looks_.resize(blocks_.size());
  std::vector<ChainBlock> chain;
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    if (const std::size_t like = blocks_[b].like; like != b) {
      chain.push_back(chain[like]);
      continue;
    }
    looks_[b] = look_at(b, count);
    chain.push_back(chain_block(b, persistent, count));
  }
  chain_ = BlockChain(chain);
}

std::vector<RecomputeRanks> BlockOptions::choices(std::size_t most) const {
  std::vector<RecomputeRanks> all;
  for (std::size_t i = 1; i <= most; ++i) {
    const auto choice = chain_.within(i * chain_.slots() / most);
    if (!choice) continue;
    RecomputeRanks ranks = ranks_of(*choice);
    if (std::find(all.begin(), all.end(), ranks) == all.end()) all.push_back(std::move(ranks));
  }
  return all;
}

RecomputeRanks BlockOptions::ranks_of(const ChainChoice& choice) const {
  RecomputeRanks ranks = keep_everything(graph_);
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    const ChainChoice::Block& chosen = choice.blocks[b];
    if (b > 0) ranks[blocks_[b].begins_with] = chosen.begin_depth;
    const std::vector<std::int32_t>& states = looks_[blocks_[b].like][chosen.option].ranks;
    for (std::size_t i = 0; i < states.size(); ++i)
      ranks[blocks_[b].inside[i]] = states[i] == 0 ? chosen.depth : states[i];
  }
  return ranks;
}

}  // namespace thimble
