#include "thimble/parallel.h"

#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <tbb/task_scheduler_observer.h>

#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "thimble/library_scope.h"

namespace thimble {

#if defined(__SANITIZE_THREAD__)

// TBB is not compiled for ThreadSanitizer, which does not see how its threads wait for each other: these it sees.
void run_chunks(int threads, std::int64_t count, void (*body)(void*, std::int64_t), void* context) {
  const LibraryScope library;
  std::atomic<std::int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr thrown;
  const auto work = [&] {
    try {
      const OwnScope own;
      for (std::int64_t i = next++; i < count; i = next++) body(context, i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      thrown = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads && i < count; ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  if (thrown) std::rethrow_exception(thrown);
}

#else

namespace {

// What a worker does between our bodies is TBB's doing, not ours.
class WorkerScope final : public tbb::task_scheduler_observer {
 public:
  explicit WorkerScope(tbb::task_arena& arena) : task_scheduler_observer(arena) { observe(true); }
  ~WorkerScope() override { observe(false); }
  void on_scheduler_entry(bool is_worker) override { library_depth() += is_worker ? 1 : 0; }
  void on_scheduler_exit(bool is_worker) override { library_depth() -= is_worker ? 1 : 0; }
};

struct Workers {
  explicit Workers(int threads) : arena(threads), scope(arena) {}
  tbb::task_arena arena;
  WorkerScope scope;
};

tbb::task_arena& arena_of(int threads) {
  // Who asks for more threads than cores gets them; else TBB warns on stderr and gives fewer.
  if (threads > tbb::info::default_concurrency()) {
    static const tbb::global_control more(tbb::global_control::max_allowed_parallelism, 256);
  }
  static std::mutex mutex;
  static std::map<int, Workers> workers;
  const std::lock_guard lock(mutex);
  return workers.try_emplace(threads, threads).first->second.arena;
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

#endif

}  // namespace thimble
