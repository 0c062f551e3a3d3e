// One range of memory, granted and taken back span by span at offsets decided beforehand.
//
//   HostMemory memory;
//   Arena arena(memory, 1_MiB);
//   std::byte* x = arena.grant("x", Offset{0}, 64_KiB);   // throws if any byte is already granted
//   arena.release(Offset{0});
//   arena.high_water();                                   // 64 KiB: measured from what was granted
//
// The arena never chooses an offset. It keeps the book of what is granted, refuses overlaps, measures the high
// water and, where the memory is the CPU's, can fill released spans with NaN and watch canaries: the free bytes beside
// a span carry a pattern that is compared whenever they change hands, so a write outside a span is found.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "thimble/memory.h"
#include "thimble/units.h"

namespace thimble {

class Arena {
 public:
  struct Options {
    bool poison = false;           ///< released bytes become 0xff: NaN in every float format
    bool canaries = false;         ///< kAlignment bytes on each side of a span, where free, are checked at its release
    std::size_t max_spans = 4096;  ///< spans granted at the same time; grant never allocates
  };

  /// Takes `size` bytes of `memory` at once. Throws EnvironmentError.
  Arena(Memory& memory, Bytes size, Options options);
  Arena(Memory& memory, Bytes size) : Arena(memory, size, Options{}) {}

  /// Books [offset, offset + size). Throws InvalidArgument, naming both spans, if it is misaligned, leaves the
  /// arena, shares a byte with a granted span or exceeds max_spans. A size of zero is granted and never overlaps.
  /// `name` is kept as a view: it has to outlive the span.
  std::byte* grant(std::string_view name, Offset offset, Bytes size);

  /// Ends the span that begins at `offset` (an empty one first, where two begin there). Throws Error if there is
  /// none, or if a canary beside it or beside its neighbours was overwritten; the span is ended even then.
  void release(Offset offset);

  /// Checks that exactly this span is granted. Used by callers that hold plans, not spans.
  bool is_granted(Offset offset, Bytes size) const;

  std::byte* address(Offset offset) const { return block_.data() + offset.value; }
  Bytes size() const { return block_.size(); }
  Bytes in_use() const { return in_use_; }
  /// Largest end of any span granted since the last reset_high_water (spans granted then included).
  Bytes high_water() const { return high_water_; }
  void reset_high_water();
  /// Writes one byte of every page that holds no granted byte and reads the others, so that later steps fault none in.
  void touch_all_pages();

 private:
  struct Span {
    Offset begin;
    Bytes size;
    std::string_view name;
  };
  std::size_t position(Offset offset) const;  // of the first span that begins at or after `offset`
  void refuse_overlap(std::string_view name, Offset offset, Bytes size, std::size_t at) const;
  void write_canaries(std::size_t at);
  const Span* damaged(std::size_t first, std::size_t last) const;
  bool watches_canaries() const { return options_.canaries && is_host_accessible_; }

  MemoryBlock block_;
  Options options_;
  bool is_host_accessible_;
  std::vector<Span> spans_;          // sorted by begin, none empty
  std::vector<Offset> empty_spans_;  // only counted: they share no byte with anybody
  Bytes in_use_;
  Bytes high_water_;
};

}  // namespace thimble
