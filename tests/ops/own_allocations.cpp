// operator new of this executable, counted where no library is at work.
#include <atomic>
#include <cstdlib>
#include <new>

#include "guarded_run.h"
#include "thimble/library_scope.h"

namespace {
std::atomic<std::int64_t> own{0};

void* counted(std::size_t size) {
  if (thimble::library_depth() == 0) ++own;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

std::int64_t thimble::testing::own_allocations() { return own; }
