// Stacks that the shim switches between, and what the sanitizers have to be told about it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace thimble::simt {

#if defined(THIMBLE_SIMT_TSAN)
constexpr bool kRaceDetection = true;
#else
constexpr bool kRaceDetection = false;
#endif

/// A stack with what runs on it, or the worker's own stack.
struct Fiber {
  void* context = nullptr;  // null: starts anew at the next switch
  char* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* sanitizer_fiber = nullptr;  // ThreadSanitizer's, which tells threads apart by it
  void* fake_stack = nullptr;       // AddressSanitizer's
};

/// Goes on in `to`; returns when somebody switches back. A switch orders nothing for ThreadSanitizer.
void switch_fiber(Fiber& from, Fiber& to, void (*entry)());

/// Fibers of one worker. They are kept: making one costs more than a block.
class FiberPool {
 public:
  FiberPool() = default;
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;
  ~FiberPool();

  Fiber& host() { return host_; }
  Fiber& at(std::size_t index);  // makes what is missing below
  Fiber& take();
  void give_back(Fiber& fiber) { idle_.push_back(&fiber); }
  /// Forgets what ran on the stacks; for a block that ended in the middle. What it did comes before whoever acquires
  /// the token.
  void abandon(void* end_token);

 private:
  Fiber host_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
};

/// What ThreadSanitizer takes as order between CUDA threads; nothing elsewhere.
void release_order(void* token);
void acquire_order(void* token);

}  // namespace thimble::simt
