// Without instrumentation in ThreadSanitizer's mode (ops/simt.cmake): the scheduler's own data are no kernel's race.
#include "simt_fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <boost/context/detail/fcontext.hpp>
#include <cerrno>
#include <cstring>
#include <string>

#include "thimble/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SIMT_ASAN 1
#else
#define SIMT_ASAN 0
#endif
#if defined(THIMBLE_SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace thimble::simt {
namespace {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr std::size_t kStackBytes = 128 * 1024;  // pages that are not touched cost nothing

struct Jump {
  Fiber* from;
  Fiber* to;
  void (*entry)();
};

void arrive(const Jump& jump, void* left_context) {
  jump.from->context = left_context;
#if SIMT_ASAN
  const void* bottom = nullptr;
  __sanitizer_finish_switch_fiber(jump.to->fake_stack, &bottom, &jump.from->stack_bytes);
  jump.from->stack = static_cast<char*>(const_cast<void*>(bottom));  // how the worker's own stack becomes known
#endif
}

void start(transfer_t transfer) {
  const Jump jump = *static_cast<const Jump*>(transfer.data);
  arrive(jump, transfer.fctx);
  jump.entry();
}

void make_stack(Fiber& fiber) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  // The lowest page stays closed: a kernel with too large a local array stops there.
  if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0)
    throw EnvironmentError(std::string("simt: no stack for another fiber: ") + std::strerror(errno));
  fiber.stack = static_cast<char*>(memory) + page;
  fiber.stack_bytes = kStackBytes;
}

void free_stack(Fiber& fiber) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  munmap(fiber.stack - page, fiber.stack_bytes + page);
}

}  // namespace

void switch_fiber(Fiber& from, Fiber& to, void (*entry)()) {
  if (to.context == nullptr) to.context = make_fcontext(to.stack + to.stack_bytes, to.stack_bytes, start);
  Jump jump{&from, &to, entry};
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(THIMBLE_SIMT_TSAN)
  if (from.sanitizer_fiber == nullptr) from.sanitizer_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.sanitizer_fiber, 1 /* orders nothing */);
#endif
  const transfer_t transfer = jump_fcontext(to.context, &jump);
  arrive(*static_cast<const Jump*>(transfer.data), transfer.fctx);
}

FiberPool::~FiberPool() {
  for (auto& fiber : fibers_) {
#if defined(THIMBLE_SIMT_TSAN)
    __tsan_destroy_fiber(fiber->sanitizer_fiber);
#endif
    free_stack(*fiber);
  }
}

Fiber& FiberPool::at(std::size_t index) {
  while (fibers_.size() <= index) {
    auto fiber = std::make_unique<Fiber>();
    make_stack(*fiber);
#if defined(THIMBLE_SIMT_TSAN)
    fiber->sanitizer_fiber = __tsan_create_fiber(0);
#endif
    fibers_.push_back(std::move(fiber));
  }
  return *fibers_[index];
}

Fiber& FiberPool::take() {
  if (idle_.empty()) return at(fibers_.size());
  Fiber& fiber = *idle_.back();
  idle_.pop_back();
  return fiber;
}

void FiberPool::abandon([[maybe_unused]] void* end_token) {
  idle_.clear();
  for (auto& fiber : fibers_) {
    fiber->context = nullptr;
    fiber->fake_stack = nullptr;
#if SIMT_ASAN
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
#endif
#if defined(THIMBLE_SIMT_TSAN)
    __tsan_switch_to_fiber(fiber->sanitizer_fiber, 1);
    __tsan_release(end_token);
    __tsan_switch_to_fiber(host_.sanitizer_fiber, 1);
    __tsan_destroy_fiber(fiber->sanitizer_fiber);
    fiber->sanitizer_fiber = __tsan_create_fiber(0);
#endif
    idle_.push_back(fiber.get());
  }
}

#if defined(THIMBLE_SIMT_TSAN)
void release_order(void* token) { __tsan_release(token); }
void acquire_order(void* token) { __tsan_acquire(token); }
#else
void release_order(void* /*token*/) {}
void acquire_order(void* /*token*/) {}
#endif

}  // namespace thimble::simt
