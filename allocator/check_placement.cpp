// The independent check. It shares neither code nor data structure with place_buffers: a sweep over time with the
// live buffers in a map by offset.
#include <map>
#include <queue>

#include "thimble/placement.h"

namespace thimble {
namespace {

constexpr std::size_t kMostMessages = 20;

std::string span_text(const Buffer& b, Offset at) {
  return "'" + b.name + "' at [" + std::to_string(at.value) + ", " + std::to_string(at.value) + " + " +
         std::to_string(b.size.value) + ")";
}

class Messages {
 public:
  void add(std::string message) {
    if (list_.size() < kMostMessages) list_.push_back("placement: " + std::move(message));
  }
  bool full() const { return list_.size() >= kMostMessages; }
  std::vector<std::string> take() { return std::move(list_); }

 private:
  std::vector<std::string> list_;
};

void check_alone(const PlacementProblem& problem, const Buffer& b, Offset at, std::optional<Bytes> capacity,
                 Messages& messages) {
  if (at.value < 0) messages.add(span_text(b, at) + " has a negative offset");
  if (problem.alignment.value > 0 && at.value % problem.alignment.value != 0)
    messages.add(span_text(b, at) + " is not aligned to " + std::to_string(problem.alignment.value) + " bytes");
  if (b.fixed && *b.fixed != at)
    messages.add(span_text(b, at) + " was moved from its fixed offset " + std::to_string(b.fixed->value));
  // Written as a difference: offset + size may not fit 64 bits when the offsets come from a file.
  if (b.size.value < 0) messages.add(span_text(b, at) + " has a negative size");
  if (capacity && at.value > capacity->value - b.size.value)
    messages.add(span_text(b, at) + " ends beyond the capacity " + std::to_string(capacity->value));
}

bool meet(Offset a, Bytes a_size, Offset b, Bytes b_size) {
  return a < b ? b.value - a.value < a_size.value : a.value - b.value < b_size.value;
}

using Live = std::multimap<std::int64_t, std::size_t>;  // by offset

/// Compares one buffer with the live ones beside it. While no violation was found live spans are disjoint, so the
/// neighbours are enough; after one, a hidden second violation may go unreported, the verdict stays.
void check_neighbours(const PlacementProblem& problem, const std::vector<Offset>& offsets, const Live& live,
                      std::size_t i, Messages& messages) {
  const auto compare = [&](std::size_t other) {
    if (meet(offsets[i], problem.buffers[i].size, offsets[other], problem.buffers[other].size))
      messages.add(span_text(problem.buffers[i], offsets[i]) + " and " +
                   span_text(problem.buffers[other], offsets[other]) + " share bytes while both are live at step " +
                   std::to_string(index(problem.buffers[i].lifetime.begin)));
  };
  auto next = live.lower_bound(offsets[i].value);
  if (next != live.end()) compare(next->second);
  if (next != live.begin()) compare(std::prev(next)->second);
}

}  // namespace

std::vector<std::string> check_placement(const PlacementProblem& problem, const std::vector<Offset>& offsets,
                                         std::optional<Bytes> capacity) {
  Messages messages;
  if (offsets.size() != problem.buffers.size()) {
    messages.add("there are " + std::to_string(offsets.size()) + " offsets for " +
                 std::to_string(problem.buffers.size()) + " buffers");
    return messages.take();
  }
  std::multimap<std::int32_t, std::size_t> by_begin;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const Buffer& b = problem.buffers[i];
    check_alone(problem, b, offsets[i], capacity, messages);
    const bool occupies = b.lifetime.begin < b.lifetime.end && b.size.value > 0;
    if (occupies && offsets[i].value >= 0) by_begin.emplace(index(b.lifetime.begin), i);
  }
  using Ending = std::pair<std::int32_t, Live::iterator>;
  const auto later = [](const Ending& a, const Ending& b) { return a.first > b.first; };
  std::priority_queue<Ending, std::vector<Ending>, decltype(later)> endings(later);
  Live live;
  for (const auto& [begin, i] : by_begin) {
    if (messages.full()) break;
    for (; !endings.empty() && endings.top().first <= begin; endings.pop()) live.erase(endings.top().second);
    check_neighbours(problem, offsets, live, i, messages);
    endings.emplace(index(problem.buffers[i].lifetime.end), live.emplace(offsets[i].value, i));
  }
  return messages.take();
}

}  // namespace thimble
