// What a sequence holds when: the memory at every step, every stretch of time in which a tensor is held unread, and
// the price of giving one up.
#pragma once

#include "remat_graph.h"

namespace thimble::remat {

/// From one touch of a tensor (made or read) to the next: it is held in between for nothing but its bytes.
struct Gap {
  std::int32_t tensor, hold;
  std::int32_t from, to;  // positions; `to` is the sequence's length where it is kept to the end
};

/// One making of a tensor and its readers until it is made again.
struct Hold {
  std::int32_t tensor, made;      // made: position
  std::int32_t first_read, last;  // -1: read by nobody; the sequence's length: kept to the end
  std::int32_t next;              // hold of the same tensor after this one, -1
};

class Timeline {
 public:
  Timeline(const Graph& graph, std::int64_t budget) : graph_(graph), budget_(budget) {}

  /// Takes over a sequence in which every input is made before it is read; what nobody reads is left out of it.
  void set(Sequence sequence);

  const Sequence& sequence() const { return sequence_; }
  std::int32_t length() const { return static_cast<std::int32_t>(sequence_.size()); }
  Cost cost() const { return cost_; }
  std::int64_t peak() const { return peak_; }
  std::int32_t peak_at() const { return peak_at_; }
  bool fits() const { return peak_ <= budget_; }
  /// Sum over all steps of the bytes above the budget.
  std::int64_t overflow() const { return overflow_; }
  std::int64_t memory(std::int32_t p) const { return memory_[static_cast<std::size_t>(p)]; }
  const std::vector<Gap>& gaps() const { return gaps_; }
  const std::vector<Hold>& holds() const { return holds_; }
  /// The hold that `position`'s op makes of its output number `i`.
  std::int32_t hold_at(std::int32_t position, std::size_t i) const {
    return hold_begin_[static_cast<std::size_t>(position)] + static_cast<std::int32_t>(i);
  }
  /// The last hold of `tensor` made before `position`; -1.
  std::int32_t hold_before(std::int32_t tensor, std::int32_t position) const;
  /// What lies in memory when `position` begins, without what its op makes.
  std::int64_t held_before(std::int32_t position) const;
  /// Whether `bytes` more fit in every step of [from, to).
  bool has_room(std::int32_t from, std::int32_t to, std::int64_t bytes) const;
  /// Bytes above the budget that `bytes` less would save over the steps of [from, to).
  std::int64_t relief(std::int32_t from, std::int32_t to, std::int64_t bytes) const;
  bool is_repeated(std::int32_t position) const { return is_repeated_[static_cast<std::size_t>(position)] != 0; }

 private:
  void drop_unread();
  void find_holds();
  void add_up();

  const Graph& graph_;
  std::int64_t budget_;
  Sequence sequence_;
  Cost cost_ = 0;
  std::int64_t peak_ = 0, overflow_ = 0;
  std::int32_t peak_at_ = 0;
  std::vector<std::int64_t> memory_;
  std::vector<Gap> gaps_;
  std::vector<Hold> holds_;
  std::vector<std::int32_t> hold_begin_;              // by position
  std::vector<std::int32_t> latest_, touched_;        // by tensor
  std::vector<std::vector<std::int32_t>> of_tensor_;  // its holds in order
  std::vector<char> is_repeated_, made_;              // by position; by tensor
};

}  // namespace thimble::remat
