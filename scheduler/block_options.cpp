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
  Bytes since;  // the most since the last op of the backward phase: repetitions belong to the next
  bool is_backward = false;
  for (std::size_t i = 0; i < sequence.steps.size(); ++i) {
    const OpId op = sequence.steps[i];
    if (graph_.ops[op].phase == Phase::forward && !is_backward) option.held = sequence.live[i];
    is_backward = is_backward || graph_.ops[op].phase == Phase::backward;
    since = std::max(since, sequence.live[i]);
    if (graph_.ops[op].phase != Phase::backward) continue;
    if (block_of_op_[op] == static_cast<std::int32_t>(block)) option.most = std::max(option.most, since);
    since = {};
  }
  return option;
}

// All that the block can hold, or from the plainest on what is one value away from the best known so far.
std::vector<BlockOptions::Look> BlockOptions::look_at(std::size_t block, const Count& count) const {
  const std::vector<TensorId>& inside = blocks_[block].inside;
  std::vector<Look> looks;
  std::set<std::vector<std::int32_t>> seen;
  const auto look = [&](const std::vector<std::int32_t>& ranks) {
    if (looks.size() >= kMostLooks || !seen.insert(ranks).second) return;
    RecomputeRanks all = keep_everything(graph_);
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

// While the block before holds nothing: else that would hold what the value is made of instead. A value that is smaller
// than what it is made of is held for nothing.
Bytes BlockOptions::begin_of(std::size_t block, const Count& count) const {
  RecomputeRanks ranks = keep_everything(graph_);
  for (TensorId t : blocks_[block - 1].inside) ranks[t] = kWithinBlock;
  const Bytes with = counted(block, count(ranks)).held;
  ranks[blocks_[block].begins_with] = kWithinBlock;
  return std::max(Bytes{}, with - counted(block, count(ranks)).held);
}

void BlockOptions::make_chain(const Count& count) {
  const BlockOption everything = counted(0, count(keep_everything(graph_)));
  const std::size_t blocks = blocks_.size();
  looks_.resize(blocks);
  std::vector<ChainBlock> chain(blocks);
  std::vector<Bytes> inside(blocks);  // held of the values inside where all are kept
  for (std::size_t b = 0; b < blocks; ++b) {
    chain[b].forward_seconds = blocks_[b].forward_seconds;
    if (const std::size_t like = blocks_[b].like; like != b) {
      chain[b] = chain[like];
      inside[b] = inside[like];
      continue;
    }
    if (b > 0) chain[b].begins_with = begin_of(b, count);
    looks_[b] = look_at(b, count);
    Bytes least = everything.held;
    for (const Look& look : looks_[b]) {
      least = std::min(least, look.option.held);
      chain[b].again_seconds = std::max(chain[b].again_seconds, look.option.seconds);
    }
    inside[b] = everything.held - least;
    for (const Look& look : looks_[b])
      chain[b].options.push_back({look.option.held - least, look.option.most, look.option.seconds});
  }
  // What is held before a block's own values: all that persists, the blocks before, and the value that it begins with.
  Bytes before = everything.held;
  std::vector<Bytes> base(blocks);
  for (std::size_t b = blocks; b-- > 0;) {
    before -= inside[b];
    base[b] = before;
    before -= chain[b].begins_with;
  }
  for (std::size_t b = 0; b < blocks; ++b)
    for (BlockOption& option : chain[b].options)
      option.most = std::max(option.held, option.most - base[blocks_[b].like]);
  chain_ = BlockChain(std::move(chain));
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
