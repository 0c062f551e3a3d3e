// What the blocks of a graph can hold: their options, found by counting sequences in which one block changes, and the
// ranks that the chain of all blocks makes of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "block_chain.h"
#include "op_prices.h"
#include "thimble/recompute.h"

namespace thimble {

/// A sequence as it was counted; valid until the next one is.
struct CountedSequence {
  const std::vector<OpId>& steps;
  const std::vector<Bytes>& live;  ///< by step
  double seconds;                  ///< of repetitions
};

class BlockOptions {
 public:
  using Count = std::function<CountedSequence(const RecomputeRanks&)>;

  /// `values` need not be kept, `between` are those of them that join blocks, both in order of id. Counts 50 sequences
  /// at most for each block that is like none before it. `graph` and `basis` have to outlive this.
  BlockOptions(const Graph& graph, const RecomputeBasis& basis, const std::vector<TensorId>& values,
               const std::vector<TensorId>& between, const IdVector<OpId, OpPrice>& prices, const Count& count);

  /// What the chain of blocks chooses for up to so many rooms, from the least that anything fits in to the most that
  /// can be used, each choice once.
  std::vector<RecomputeRanks> choices(std::size_t most) const;

 private:
  struct Block {
    TensorId begins_with = kNoTensor;  // none for the first
    std::vector<TensorId> inside;
    std::string made_of;  // its ops on both ways
    double forward_seconds = 0;
    std::size_t like = 0;  // the first block that is made of the same
  };
  // One choice of ranks inside a block, and what is live with it: all that persists and later blocks hold included.
  struct Look {
    std::vector<std::int32_t> ranks;
    BlockOption option;
  };

  void find_blocks(const std::vector<TensorId>& values, const std::vector<TensorId>& between,
                   const IdVector<OpId, OpPrice>& prices);
  void find_ways_back(const std::vector<OpId>& steps);
  RecomputeRanks alone(std::size_t block) const;
  std::vector<Look> look_at(std::size_t block, const Count& count) const;
  BlockOption counted(std::size_t block, const CountedSequence& sequence) const;
  Bytes begin_of(std::size_t block, const Count& count) const;
  ChainBlock chain_block(std::size_t block, Bytes persistent, const Count& count) const;
  void make_chain(const Count& count);
  RecomputeRanks ranks_of(const ChainChoice& choice) const;

  const Graph& graph_;
  const RecomputeBasis& basis_;
  std::vector<Block> blocks_;
  IdVector<TensorId, std::int32_t> block_of_value_;
  IdVector<OpId, std::int32_t> block_of_op_;  // of an op of the backward phase: on the way back of which it runs
  std::vector<std::vector<Look>> looks_;      // of each block that is like none before it
  BlockChain chain_{{}};
};

}  // namespace thimble
