#include "thimble/parallel.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <map>
#include <mutex>

#include "thimble/library_scope.h"

namespace thimble {
namespace {

tbb::task_arena& arena_of(int threads) {
  static std::mutex mutex;
  static std::map<int, tbb::task_arena> arenas;
  const std::lock_guard lock(mutex);
  return arenas.try_emplace(threads, threads).first->second;
}

}  // namespace

void run_chunks(int threads, std::int64_t count, void (*body)(void*, std::int64_t), void* context) {
  if (threads <= 1 || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) body(context, i);
    return;
  }
  const LibraryScope library;
  arena_of(threads).execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<std::int64_t>(0, count, 1),
        [&](const tbb::blocked_range<std::int64_t>& range) {
          const OwnScope own;
          for (std::int64_t i = range.begin(); i < range.end(); ++i) body(context, i);
        },
        tbb::simple_partitioner{});
  });
}

}  // namespace thimble
