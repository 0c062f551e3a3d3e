// One block on one worker: whose turn it is, who waits for whom, and what is wrong with that.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "simt_cpu.h"
#include "simt_fiber.h"
#include "simt_shared_memory.h"

namespace thimble::simt {

/// The same line of the source.
bool same_place(const Place& a, const Place& b);

class BlockRunner {
 public:
  /// The calling worker's.
  static BlockRunner& mine();

  /// Throws what the kernel did wrong. `number` is the block's place in the launch's order.
  void run(const Launch& launch, std::uint64_t block, std::uint64_t number, const Schedule& schedule);

  /// After the last block: what the blocks did comes before what the host does.
  static void end_launch();

  // From inside a CUDA thread.
  std::uint64_t warp_operation(const WarpCall& call, const Place& where);
  int barrier(bool predicate, const Place& where, bool orders);
  SharedMemory& shared() { return shared_; }
  bool inside() const { return launch_ != nullptr; }

  std::int64_t switches() const { return switches_; }

 private:
  static constexpr unsigned kLanes = 32;
  static constexpr unsigned kWarps = 32;
  enum class State : std::uint8_t { not_started, runs, waits_for_block, waits_for_warp, can_go_on, returned };
  struct Thread {
    State state;
    uint3 index;
    Fiber* fiber;
    std::uint64_t result;
    Place where;  // it waits at
    WarpCall call;
  };
  struct Warp {
    unsigned runnable;  // lanes that run next if they are chosen
    unsigned present;   // lanes the block has
    unsigned returned;
    unsigned waiting;                    // at an operation of the warp
    unsigned at_block;                   // at a barrier of the block
    std::array<unsigned, kLanes> syncs;  // with this lowest lane
  };

  static void fiber_main();
  void begin(std::uint64_t block, std::uint64_t number);
  void run_threads();
  void run_thread();
  void thread_returned();
  void yield();
  void leave_for(Fiber& from, unsigned next);
  [[nodiscard]] bool choose(unsigned& next);
  unsigned choose_bit(unsigned bits);
  void set_runnable(unsigned thread);
  void become(unsigned thread);
  Fiber& fiber_of(unsigned thread);

  void check_call(const WarpCall& call, const Place& where) const;
  void check_same(unsigned other, const WarpCall& call, const Place& where) const;
  void finish_group(unsigned warp, const WarpCall& call);
  void check_barrier(const Place& where) const;

  std::string describe(unsigned thread) const;
  std::string waiting() const;
  std::string prefix(bool with_thread) const;

  FiberPool fibers_;
  SharedMemory shared_;
  std::vector<Thread> threads_;
  dim3 numbered_{0, 0, 0};  // the block that the threads' indices are of
  std::array<Warp, kWarps> warps_{};
  unsigned runnable_warps_ = 0;
  unsigned current_ = 0;
  unsigned live_ = 0;  // have not returned
  unsigned at_barrier_ = 0;
  Place barrier_place_;  // of the first that waits
  unsigned predicates_ = 0;
  int barrier_result_ = 0;
  unsigned barriers_ = 0;
  std::size_t rotation_ = 0;  // ThreadSanitizer: which fiber the first thread has
  const Launch* launch_ = nullptr;
  Order order_ = Order::forward;
  std::uint64_t random_ = 0;
  std::exception_ptr failure_;
  std::int64_t switches_ = 0;
};

}  // namespace thimble::simt
