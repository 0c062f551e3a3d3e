#include "remat_timeline.h"

#include <algorithm>

namespace thimble::remat {

void Timeline::set(Sequence sequence) {
  sequence_ = std::move(sequence);
  drop_unread();
  find_holds();
  add_up();
}

// From the end: a step stays when one of its outputs is read, or kept, before it is made again.
void Timeline::drop_unread() {
  made_.assign(graph_.bytes.size(), 0);  // here: wanted later
  for (std::size_t t = 0; t < made_.size(); ++t) made_[t] = graph_.keep[t];
  std::size_t to = sequence_.size();
  for (std::size_t p = sequence_.size(); p-- > 0;) {
    const auto op = static_cast<std::size_t>(sequence_[p]);
    bool is_read = false;
    for (std::int32_t t : graph_.out[op]) is_read |= made_[static_cast<std::size_t>(t)] != 0;
    if (!is_read) continue;
    for (std::int32_t t : graph_.out[op]) made_[static_cast<std::size_t>(t)] = 0;
    for (std::int32_t t : graph_.in[op]) made_[static_cast<std::size_t>(t)] = 1;
    sequence_[--to] = sequence_[p];
  }
  sequence_.erase(sequence_.begin(), sequence_.begin() + static_cast<std::ptrdiff_t>(to));
}

void Timeline::find_holds() {
  const std::int32_t end = length();
  const std::size_t n = graph_.bytes.size();
  holds_.clear();
  gaps_.clear();
  hold_begin_.clear();
  is_repeated_.assign(sequence_.size(), 0);
  latest_.assign(n, -1);
  touched_.assign(n, -1);
  of_tensor_.resize(n);
  for (auto& list : of_tensor_) list.clear();
  cost_ = 0;
  for (std::int32_t p = 0; p < end; ++p) {
    const auto op = static_cast<std::size_t>(sequence_[static_cast<std::size_t>(p)]);
    cost_ += graph_.cost[op];
    for (std::int32_t t : graph_.in[op]) {
      const auto i = static_cast<std::size_t>(t);
      Hold& hold = holds_[static_cast<std::size_t>(latest_[i])];
      if (hold.first_read < 0) hold.first_read = p;
      hold.last = p;
      if (p - touched_[i] > 1) gaps_.push_back({t, latest_[i], touched_[i], p});
      touched_[i] = p;
    }
    hold_begin_.push_back(static_cast<std::int32_t>(holds_.size()));
    for (std::int32_t t : graph_.out[op]) {
      const auto i = static_cast<std::size_t>(t);
      const auto index = static_cast<std::int32_t>(holds_.size());
      if (latest_[i] >= 0) {
        holds_[static_cast<std::size_t>(latest_[i])].next = index;
        is_repeated_[static_cast<std::size_t>(p)] = 1;
      }
      holds_.push_back({t, p, -1, -1, -1});
      of_tensor_[i].push_back(index);
      latest_[i] = index;
      touched_[i] = p;
    }
  }
  for (std::size_t t = 0; t < n; ++t) {
    if (!graph_.keep[t] || latest_[t] < 0) continue;
    holds_[static_cast<std::size_t>(latest_[t])].last = end;
    gaps_.push_back({static_cast<std::int32_t>(t), latest_[t], touched_[t], end});
  }
}

void Timeline::add_up() {
  memory_.assign(sequence_.size() + 2, 0);
  for (const Hold& hold : holds_) {
    const std::int64_t bytes = graph_.bytes[static_cast<std::size_t>(hold.tensor)];
    memory_[static_cast<std::size_t>(hold.made)] += bytes;
    memory_[static_cast<std::size_t>(std::max(hold.made, hold.last)) + 1] -= bytes;
  }
  std::int64_t held = 0;
  peak_ = overflow_ = 0;
  peak_at_ = 0;
  for (std::size_t p = 0; p < sequence_.size(); ++p) {
    held += memory_[p];
    memory_[p] = held + graph_.workspace[static_cast<std::size_t>(sequence_[p])];
    overflow_ += std::max<std::int64_t>(0, memory_[p] - budget_);
    if (memory_[p] > peak_) {
      peak_ = memory_[p];
      peak_at_ = static_cast<std::int32_t>(p);
    }
  }
}

std::int32_t Timeline::hold_before(std::int32_t tensor, std::int32_t position) const {
  const auto& list = of_tensor_[static_cast<std::size_t>(tensor)];
  std::int32_t found = -1;
  for (std::size_t i = list.size(); i-- > 0;) {
    if (holds_[static_cast<std::size_t>(list[i])].made >= position) continue;
    found = list[i];
    break;
  }
  return found;
}

std::int64_t Timeline::held_before(std::int32_t position) const {
  if (position >= length()) {
    std::int64_t kept = 0;
    for (std::size_t t = 0; t < graph_.bytes.size(); ++t) kept += graph_.keep[t] ? graph_.bytes[t] : 0;
    return kept;
  }
  const auto op = static_cast<std::size_t>(sequence_[static_cast<std::size_t>(position)]);
  std::int64_t held = memory(position) - graph_.workspace[op];
  for (std::int32_t t : graph_.out[op]) held -= graph_.bytes[static_cast<std::size_t>(t)];
  return held;
}

bool Timeline::has_room(std::int32_t from, std::int32_t to, std::int64_t bytes) const {
  const std::int64_t most = budget_ - bytes;
  for (std::int32_t p = from; p < to; ++p)
    if (memory_[static_cast<std::size_t>(p)] > most) return false;
  return true;
}

std::int64_t Timeline::relief(std::int32_t from, std::int32_t to, std::int64_t bytes) const {
  std::int64_t sum = 0;
  for (std::int32_t p = from; p < to; ++p)
    sum += std::clamp<std::int64_t>(memory_[static_cast<std::size_t>(p)] - budget_, 0, bytes);
  return sum;
}

}  // namespace thimble::remat
