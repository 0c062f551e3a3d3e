// Fixed chunks of work on a TBB arena: what a chunk computes does not depend on how many threads there are.
//
//   const Chunks chunks = Chunks::of(samples, 8);
//   parallel_chunks(threads, chunks.count, [&](std::int64_t c) { work(chunks.begin(c), chunks.end(c)); });
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

namespace thimble {

/// `total` items in at most `most` pieces of equal size, the last one shorter. Depends on nothing else.
struct Chunks {
  std::int64_t total = 0;
  std::int64_t size = 1;
  std::int64_t count = 0;

  static Chunks of(std::int64_t total, std::int64_t most) {
    const std::int64_t size = std::max<std::int64_t>(1, (total + most - 1) / most);
    return {total, size, (total + size - 1) / size};
  }
  std::int64_t begin(std::int64_t chunk) const { return chunk * size; }
  std::int64_t end(std::int64_t chunk) const { return std::min(total, (chunk + 1) * size); }
};

/// Calls `body(context, i)` for i in [0, count), on `threads` threads; one runs inline.
void run_chunks(int threads, std::int64_t count, void (*body)(void*, std::int64_t), void* context);

template <class Body>
void parallel_chunks(int threads, std::int64_t count, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  run_chunks(
      threads, count, [](void* context, std::int64_t i) { (*static_cast<Plain*>(context))(i); },
      const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

/// How many chunks are worked on at once, each in a slot of its own: so many scratches a loop needs.
constexpr std::int64_t slot_count(int threads, std::int64_t chunks) {
  return std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(1, chunks));
}

/// As parallel_chunks, calling `body(chunk, slot)` with a slot in [0, slot_count) that no other call has meanwhile.
/// Which slot a chunk meets depends on chance, so what it leaves there must not matter to the next one.
template <class Body>
void parallel_chunks_in_slots(int threads, std::int64_t count, Body&& body) {
  std::atomic<std::int64_t> next{0};
  parallel_chunks(threads, slot_count(threads, count), [&](std::int64_t slot) {
    for (std::int64_t chunk = next++; chunk < count; chunk = next++) body(chunk, slot);
  });
}

}  // namespace thimble
