// The dynamic program over a chain of blocks: which values each holds, and which blocks are gone through twice or more.
//
// A block has options (which of its values it holds from the pass that goes forward, what that takes, what it costs).
// Parts of the chain may hold nothing: behind the blocks that follow, such a part is gone through again from its first
// value, as a chain of its own with the bytes that are free then. With one option a block this is the nested
// checkpointing of Griewank and Walther (2000), for blocks that differ that of Herrmann et al. (2019).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "thimble/units.h"

namespace thimble {

/// One way to go through a block and back.
struct BlockOption {
  Bytes held;          ///< by the block between the way forward and the way back, without the value that it begins with
  Bytes most;          ///< on its way back, beside what the blocks before it hold and the value that it begins with
  double seconds = 0;  ///< of what it makes again
};

struct ChainBlock {
  Bytes begins_with;           ///< the value that joins it to the block before; none for the first
  double forward_seconds = 0;  ///< of going through it
  double again_seconds = 0;    ///< of making again what its way back reads
  std::vector<BlockOption> options;
};

/// What the program chose.
struct ChainChoice {
  struct Block {
    std::size_t option = 0;
    std::int32_t depth = 0;        ///< how many times the chain was parted around it: 0 is held from the first pass on
    std::int32_t begin_depth = 0;  ///< the same of the value that it begins with
  };
  std::vector<Block> blocks;
  double seconds = 0;  ///< of repetitions
};

/// All rooms at once, in slots: bytes are rounded to the nearest, so that what is chosen has to be counted exactly. A
/// chain of more than 64 blocks is parted at 32 places at most, and short parts anywhere.
class BlockChain {
 public:
  explicit BlockChain(const std::vector<ChainBlock>& blocks);
  std::size_t slots() const { return slots_; }
  /// The fewest seconds in that many slots; none where nothing fits.
  std::optional<ChainChoice> within(std::size_t slots) const;
  Bytes bytes_of(std::size_t slots) const { return Bytes{static_cast<std::int64_t>(slots) * slot_bytes_}; }

 private:
  // In slots.
  struct Option {
    std::size_t held, most;
    float seconds;
  };
  struct Step {  // what the first block of a part of the chain does
    std::size_t option = 0;
    std::size_t parted_at = 0;  // another part begins there; 0: the block has the option
    float seconds;
  };

  std::size_t slots_of(Bytes bytes) const;
  std::size_t size() const { return begins_.size(); }
  bool is_short(std::size_t first, std::size_t end) const { return end - first <= 2 * stride_; }
  std::size_t row(std::size_t first, std::size_t end) const { return first * (size() + 1) + end; }
  Step best(std::size_t first, std::size_t end, std::size_t room) const;
  void collect(std::size_t first, std::size_t end, std::size_t room, std::int32_t depth, ChainChoice& choice) const;

  std::size_t slots_ = 0, stride_ = 1;  // of the places where the chain may be parted
  std::int64_t slot_bytes_ = 1;
  std::vector<std::vector<Option>> options_;
  std::vector<std::size_t> begins_;
  std::vector<double> forward_until_, again_;  // seconds of all blocks before; of a block's way back
  std::vector<std::vector<float>> seconds_;    // of each part [first, end) of the chain: by slots
};

}  // namespace thimble
