#include "thimble/arena.h"

#include <algorithm>
#include <cstring>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::byte kCanary{0xa5};
constexpr std::byte kPoison{0xff};

std::string span_text(std::string_view name, Offset begin, Bytes size) {
  return "'" + std::string(name) + "' (" + to_string(size) + " at offset " + std::to_string(begin.value) + ")";
}

bool all_canary(const std::byte* data, std::int64_t size) {
  return std::all_of(data, data + size, [](std::byte b) { return b == kCanary; });
}

}  // namespace

Arena::Arena(Memory& memory, Bytes size, Options options)
    : block_(memory.allocate(size)), options_(options), is_host_accessible_(memory.is_host_accessible()) {
  spans_.reserve(options_.max_spans);
  empty_spans_.reserve(options_.max_spans);
}

std::size_t Arena::position(Offset offset) const {
  const auto found = std::lower_bound(spans_.begin(), spans_.end(), offset,
                                      [](const Span& span, Offset begin) { return span.begin < begin; });
  return static_cast<std::size_t>(found - spans_.begin());
}

void Arena::refuse_overlap(std::string_view name, Offset offset, Bytes size, std::size_t at) const {
  const Span* other = nullptr;
  if (at < spans_.size() && spans_[at].begin < offset + size) other = &spans_[at];
  if (at > 0 && spans_[at - 1].begin + spans_[at - 1].size > offset) other = &spans_[at - 1];
  if (other)
    throw InvalidArgument("arena: " + span_text(name, offset, size) + " overlaps " +
                          span_text(other->name, other->begin, other->size) + ", which is still granted");
}

std::byte* Arena::grant(std::string_view name, Offset offset, Bytes size) {
  if (size.value < 0 || offset.value < 0 || offset.value > this->size().value - size.value)
    throw InvalidArgument("arena: " + span_text(name, offset, size) + " leaves the arena of " +
                          to_string(this->size()));
  if (offset.value % kAlignment.value != 0)
    throw InvalidArgument("arena: " + span_text(name, offset, size) + " does not begin at a multiple of " +
                          std::to_string(kAlignment.value) + " bytes");
  if (spans_.size() + empty_spans_.size() >= options_.max_spans)
    throw InvalidArgument("arena: " + span_text(name, offset, size) + " would be span number " +
                          std::to_string(options_.max_spans + 1) + "; raise max_spans");
  if (size.value == 0) {
    empty_spans_.push_back(offset);
    return address(offset);
  }
  const std::size_t at = position(offset);
  refuse_overlap(name, offset, size, at);
  if (watches_canaries()) {  // before the newcomer covers them
    if (const Span* victim = damaged(at == 0 ? 0 : at - 1, at + 1))
      throw Error("arena: bytes beside " + span_text(victim->name, victim->begin, victim->size) +
                  " were overwritten; found when granting " + span_text(name, offset, size));
  }
  spans_.insert(spans_.begin() + static_cast<std::ptrdiff_t>(at), Span{offset, size, name});
  if (watches_canaries()) write_canaries(at);
  in_use_ += size;
  high_water_ = std::max(high_water_, offset + size - Offset{});
  return address(offset);
}

void Arena::release(Offset offset) {
  const auto empty = std::find(empty_spans_.begin(), empty_spans_.end(), offset);
  if (empty != empty_spans_.end()) {
    empty_spans_.erase(empty);
    return;
  }
  const std::size_t at = position(offset);
  if (at == spans_.size() || spans_[at].begin != offset)
    throw Error("arena: no span granted at offset " + std::to_string(offset.value) + " can be released");
  const Span span = spans_[at];
  const std::size_t first = at == 0 ? 0 : at - 1;
  const Span* victim = watches_canaries() ? damaged(first, at + 2) : nullptr;
  const Span reported = victim ? *victim : Span{};
  spans_.erase(spans_.begin() + static_cast<std::ptrdiff_t>(at));
  in_use_ -= span.size;
  if (options_.poison && is_host_accessible_)
    std::memset(address(offset), static_cast<int>(kPoison), static_cast<std::size_t>(span.size.value));
  if (watches_canaries())  // what was the span's is now free beside its neighbours
    for (std::size_t i = first; i < std::min(at + 1, spans_.size()); ++i) write_canaries(i);
  if (victim)
    throw Error("arena: bytes beside " + span_text(reported.name, reported.begin, reported.size) +
                " were overwritten; found when releasing " + span_text(span.name, span.begin, span.size));
}

bool Arena::is_granted(Offset offset, Bytes size) const {
  if (size.value == 0) return std::find(empty_spans_.begin(), empty_spans_.end(), offset) != empty_spans_.end();
  const std::size_t at = position(offset);
  return at < spans_.size() && spans_[at].begin == offset && spans_[at].size == size;
}

void Arena::reset_high_water() {
  high_water_ = Bytes{};
  if (!spans_.empty()) high_water_ = spans_.back().begin + spans_.back().size - Offset{};
}

void Arena::touch_all_pages() {
  if (!is_host_accessible_) return;
  constexpr std::int64_t kPage = 4096;
  for (std::int64_t at = 0; at < size().value; at += kPage) {
    volatile std::byte* byte = address(Offset{at});  // volatile: writing back what was read must not be dropped
    *byte = *byte;
  }
}

/// Fills the free bytes beside span `at`, at most kAlignment on each side.
void Arena::write_canaries(std::size_t at) {
  const std::int64_t begin = spans_[at].begin.value;
  const std::int64_t end = begin + spans_[at].size.value;
  const std::int64_t low = at == 0 ? 0 : (spans_[at - 1].begin + spans_[at - 1].size).value;
  const std::int64_t high = at + 1 == spans_.size() ? size().value : spans_[at + 1].begin.value;
  const std::int64_t before = std::min(kAlignment.value, begin - low);
  const std::int64_t after = std::min(kAlignment.value, high - end);
  std::fill_n(block_.data() + (begin - before), before, kCanary);
  std::fill_n(block_.data() + end, after, kCanary);
}

/// The first of the spans [first, last) beside which a canary is gone, or null.
const Arena::Span* Arena::damaged(std::size_t first, std::size_t last) const {
  for (std::size_t at = first; at < std::min(last, spans_.size()); ++at) {
    const std::int64_t begin = spans_[at].begin.value;
    const std::int64_t end = begin + spans_[at].size.value;
    const std::int64_t low = at == 0 ? 0 : (spans_[at - 1].begin + spans_[at - 1].size).value;
    const std::int64_t high = at + 1 == spans_.size() ? size().value : spans_[at + 1].begin.value;
    const std::int64_t before = std::min(kAlignment.value, begin - low);
    const std::int64_t after = std::min(kAlignment.value, high - end);
    if (!all_canary(block_.data() + (begin - before), before) || !all_canary(block_.data() + end, after))
      return &spans_[at];
  }
  return nullptr;
}

}  // namespace thimble
