// Fixed chunks of work on a TBB arena: what a chunk computes does not depend on how many threads there are.
//
//   const Chunks chunks = Chunks::of(samples, 8);
//   parallel_chunks(threads, chunks.count, [&](std::int64_t c) { work(chunks.begin(c), chunks.end(c)); });
#pragma once

#include <algorithm>
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
  run_chunks(threads, count, [](void* context, std::int64_t i) { (*static_cast<Plain*>(context))(i); },
             const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

}  // namespace thimble
