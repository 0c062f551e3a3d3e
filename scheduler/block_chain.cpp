#include "block_chain.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace thimble {
namespace {

constexpr float kNever = std::numeric_limits<float>::infinity();
constexpr double kMostSteps = 1e8;  // of the program, some tenths of a second, where a block has its slots
constexpr double kMostSlots = 1024, kSlotsPerBlock = 4;
constexpr std::size_t kManyBlocks = 64, kPlaces = 32;

}  // namespace

BlockChain::BlockChain(const std::vector<ChainBlock>& blocks) {
  if (blocks.size() > kManyBlocks) stride_ = (blocks.size() + kPlaces - 1) / kPlaces;
  const auto count = static_cast<double>(blocks.size()), places = count / static_cast<double>(stride_);
  slots_ = static_cast<std::size_t>(
      std::max(kSlotsPerBlock * count, std::min(kMostSlots, kMostSteps / (count * places / 2 * (places / 3 + 4)))));
  // Who holds most at every block needs no more than this.
  Bytes held, most;
  for (const ChainBlock& block : blocks) {
    held += block.begins_with;
    Bytes of_block;
    for (const BlockOption& option : block.options) {
      most = std::max(most, held + option.most);
      of_block = std::max(of_block, option.held);
    }
    held += of_block;
  }
  slot_bytes_ = std::max<std::int64_t>(1, std::max(held, most).value / static_cast<std::int64_t>(slots_) + 1);
  forward_until_.push_back(0);
  for (const ChainBlock& block : blocks) {
    forward_until_.push_back(forward_until_.back() + block.forward_seconds);
    again_.push_back(block.again_seconds);
    begins_.push_back(slots_of(block.begins_with));
    options_.emplace_back();
    for (const BlockOption& option : block.options)
      options_.back().push_back({slots_of(option.held), slots_of(option.most), static_cast<float>(option.seconds)});
  }
  seconds_.resize((size() + 1) * (size() + 1));
  for (std::size_t first = size(); first-- > 0;)
    for (std::size_t end = first + 1; end <= size(); ++end) {
      if (end != size() && end % stride_ != 0 && !is_short(first, end)) continue;
      std::vector<float>& all = seconds_[row(first, end)];
      all.resize(slots_ + 1);
      for (std::size_t room = 0; room <= slots_; ++room) all[room] = best(first, end, room).seconds;
    }
}

std::size_t BlockChain::slots_of(Bytes bytes) const {
  return static_cast<std::size_t>((bytes.value + slot_bytes_ / 2) / slot_bytes_);
}

// The value that `first` begins with is held already.
BlockChain::Step BlockChain::best(std::size_t first, std::size_t end, std::size_t room) const {
  Step best{.seconds = kNever};
  const std::size_t next = first + 1;
  for (std::size_t k = 0; k < options_[first].size(); ++k) {
    const Option& option = options_[first][k];
    if (option.most > room) continue;
    float seconds = option.seconds;
    if (next < end) {
      const std::size_t held = option.held + begins_[next];
      if (held > room) continue;
      seconds += seconds_[row(next, end)][room - held];
    }
    if (seconds < best.seconds) best = {k, 0, seconds};
  }
  const std::size_t stride = is_short(first, end) ? 1 : stride_;
  for (std::size_t part = (first + 1) / stride * stride + stride; part < end; part += stride) {
    if (begins_[part] > room) continue;
    const double again = forward_until_[part - 1] - forward_until_[first] + again_[part - 1];
    const float seconds =
        static_cast<float>(again) + seconds_[row(part, end)][room - begins_[part]] + seconds_[row(first, part)][room];
    if (seconds < best.seconds) best = {0, part, seconds};
  }
  return best;
}

std::optional<ChainChoice> BlockChain::within(std::size_t slots) const {
  if (begins_.empty()) return std::nullopt;
  slots = std::min(slots, slots_);
  ChainChoice choice{std::vector<ChainChoice::Block>(size()), seconds_[row(0, size())][slots]};
  if (choice.seconds == kNever) return std::nullopt;
  collect(0, size(), slots, 0, choice);
  return choice;
}

void BlockChain::collect(std::size_t first, std::size_t end, std::size_t room, std::int32_t depth,
                         ChainChoice& choice) const {
  while (first < end) {
    const Step step = best(first, end, room);
    if (step.parted_at != 0) {
      collect(first, step.parted_at, room, depth + 1, choice);
      room -= begins_[step.parted_at];
      first = step.parted_at;
    } else {
      choice.blocks[first].option = step.option;
      choice.blocks[first].depth = depth;
      if (++first < end) room -= options_[first - 1][step.option].held + begins_[first];
    }
    if (first < end) choice.blocks[first].begin_depth = depth;
  }
}

}  // namespace thimble
