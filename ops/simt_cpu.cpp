// Blocks of a launch over workers, in the order asked for. Without instrumentation in ThreadSanitizer's mode, as
// simt_fiber.cpp.
#include "simt_cpu.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "simt_block.h"
#include "simt_fiber.h"
#include "simt_places.h"
#include "thimble/error.h"

#if !defined(THIMBLE_SIMT_TSAN)
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#endif

namespace thimble::simt {
namespace {

constexpr int kMostWorkers = 16;  // each keeps up to 1024 stacks

std::uint64_t number_of(const char* variable, std::uint64_t without) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return without;
  const std::string_view all = text;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(all.data(), all.data() + all.size(), value);
  if (error != std::errc() || end != all.data() + all.size())
    throw InvalidArgument(std::string(variable) + "='" + text + "' is no number");
  return value;
}

Schedule from_environment() {
  Schedule schedule;
  const char* order = std::getenv("SIMT_ORDER");
  const std::string_view name = order == nullptr ? "forward" : order;
  if (name == "reverse")
    schedule.order = Order::reverse;
  else if (name == "random")
    schedule.order = Order::random;
  else if (name != "forward")
    throw InvalidArgument("SIMT_ORDER='" + std::string(name) + "'; it is forward, reverse or random");
  schedule.seed = number_of("SIMT_SEED", 0);
  schedule.workers = static_cast<int>(std::min<std::uint64_t>(number_of("SIMT_WORKERS", 0), kMostWorkers));
  return schedule;
}

std::mutex settings_mutex;  // of the two below

Schedule& settings() {
  static Schedule schedule = from_environment();
  return schedule;
}
LaunchCounts& counts() {
  static LaunchCounts last;
  return last;
}

void check_shape(const Launch& launch) {
  const auto refuse = [&](const std::string& what) {
    throw InvalidArgument(std::string("simt: launch at ") + launch.file + ":" + std::to_string(launch.line) + " has " +
                          what);
  };
  const dim3 grid = launch.grid;
  const dim3 block = launch.block;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) refuse("an empty grid");
  if (grid.x > 0x7fffffffU || grid.y > 65535 || grid.z > 65535)
    refuse("too large a grid; it is at most 2147483647x65535x65535");
  if (block.x == 0 || block.y == 0 || block.z == 0) refuse("an empty block");
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads > 1024 || block.z > 64)
    refuse("a block of " + std::to_string(threads) + " threads; 1024 is the limit, 64 along z");
  if (launch.shared_bytes > std::size_t{227} * 1024)
    refuse(std::to_string(launch.shared_bytes) + " bytes of dynamic shared memory, too much; 232448 is the limit");
  if (BlockRunner::mine().inside()) refuse("no place inside a kernel");
}

}  // namespace

Schedule set_order(Schedule schedule) {
  const std::scoped_lock lock(settings_mutex);
  schedule.workers = std::clamp(schedule.workers, 0, kMostWorkers);
  return std::exchange(settings(), schedule);
}

LaunchCounts last_launch() {
  const std::scoped_lock lock(settings_mutex);
  return counts();
}

void run_blocks(const Launch& launch) {
  check_shape(launch);
  read_left_out();
  Schedule schedule;
  {
    const std::scoped_lock lock(settings_mutex);
    schedule = settings();
  }
  const std::uint64_t blocks = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  std::vector<std::uint64_t> shuffled;
  if (schedule.order == Order::random) {
    shuffled.resize(blocks);
    std::iota(shuffled.begin(), shuffled.end(), std::uint64_t{0});
    std::uint64_t state = schedule.seed + 1;
    for (std::uint64_t i = blocks; i > 1; --i) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      std::swap(shuffled[i - 1], shuffled[(state >> 33) % i]);
    }
  }
  std::atomic<std::int64_t> switches = 0;
  std::atomic<std::int64_t> most_shared = 0;
  const auto run = [&](std::uint64_t begin, std::uint64_t end) {
    BlockRunner& runner = BlockRunner::mine();
    const std::int64_t before = runner.switches();
    for (std::uint64_t i = begin; i < end; ++i) {
      const std::uint64_t block = schedule.order == Order::forward   ? i
                                  : schedule.order == Order::reverse ? blocks - 1 - i
                                                                     : shuffled[i];
      runner.run(launch, block, i, schedule);
      const std::int64_t used = runner.shared().used_bytes();
      std::int64_t seen = most_shared;
      while (seen < used && !most_shared.compare_exchange_weak(seen, used)) {
      }
    }
    switches += runner.switches() - before;
  };
  struct End {
    ~End() { BlockRunner::end_launch(); }
  } end;
#if defined(THIMBLE_SIMT_TSAN)
  run(0, blocks);  // one worker: its races are those between CUDA threads
#else
  const auto over_workers = [&] {
    tbb::parallel_for(tbb::blocked_range<std::uint64_t>(0, blocks),
                      [&](const tbb::blocked_range<std::uint64_t>& range) { run(range.begin(), range.end()); });
  };
  if (blocks == 1 || schedule.workers == 1) {
    run(0, blocks);
  } else {
    const int available = std::min(tbb::this_task_arena::max_concurrency(), kMostWorkers);
    const int most = schedule.workers == 0 ? available : std::min(schedule.workers, available);
    tbb::task_arena(most).execute(over_workers);
  }
#endif
  const std::scoped_lock lock(settings_mutex);
  counts() = {static_cast<std::int64_t>(blocks),
              static_cast<std::int64_t>(blocks * launch.block.x * launch.block.y * launch.block.z), switches,
              most_shared};
}

std::uint64_t warp_operation(const WarpCall& call, const Place& where) {
  if (call.op == WarpOp::sync && do_places_matter() && passes_barrier(where)) return 0;
  return BlockRunner::mine().warp_operation(call, where);
}
void block_barrier(const Place& where) {
  if (do_places_matter() && passes_barrier(where)) return;
  BlockRunner::mine().barrier(false, where, true);
}
int block_vote(bool predicate, const Place& where) {
  const bool orders = !do_places_matter() || !passes_barrier(where);
  return BlockRunner::mine().barrier(predicate, where, orders);
}
void* shared_array(const void* tag, const char* name, std::size_t bytes, std::size_t alignment, const Place& where) {
  return BlockRunner::mine().shared().array(tag, name, bytes, alignment, where);
}
void* dynamic_shared() { return BlockRunner::mine().shared().dynamic(); }

void check_alignment(const void* pointer, std::size_t bytes, const Place& where) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0) return;
  throw Error(std::string("a vector access of ") + std::to_string(bytes) + " bytes at " + where.text() +
              " is misaligned");
}

// A fence and an atomic after it order what stands before the fence. Here every fence orders all earlier ones, which is
// more than a GPU promises: the "last block sums up" pattern is no race, some wrong uses of fences are not seen.
void thread_fence() {
  static char token;
  acquire_order(&token);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  release_order(&token);
}

}  // namespace thimble::simt
