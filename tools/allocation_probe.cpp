#include "allocation_probe.h"

#include <errno.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "thimble/library_scope.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THIMBLE_PROBE 0
#else
#define THIMBLE_PROBE 1
#endif

namespace thimble {
namespace {

std::atomic<std::int64_t> own_count{0};
std::atomic<std::int64_t> library_count{0};
std::atomic<std::int64_t> library_largest{0};
std::atomic<std::int64_t> library_live{0};

[[maybe_unused]] void count(void* granted, std::size_t size) {
  if (granted == nullptr) return;
  if (library_depth() == 0) {
    own_count.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  library_count.fetch_add(1, std::memory_order_relaxed);
  library_live.fetch_add(static_cast<std::int64_t>(malloc_usable_size(granted)), std::memory_order_relaxed);
  std::int64_t largest = library_largest.load(std::memory_order_relaxed);
  while (static_cast<std::int64_t>(size) > largest &&
         !library_largest.compare_exchange_weak(largest, static_cast<std::int64_t>(size)))
    ;
}

[[maybe_unused]] void count_free(void* granted) {
  if (granted != nullptr && library_depth() != 0)
    library_live.fetch_sub(static_cast<std::int64_t>(malloc_usable_size(granted)), std::memory_order_relaxed);
}

}  // namespace

bool allocation_probe_works() { return THIMBLE_PROBE != 0; }

AllocationCounts allocation_counts() {
  return {own_count.load(), library_count.load(), library_largest.load(), library_live.load()};
}

void reset_allocation_counts() {
  own_count = 0;
  library_count = 0;
  library_largest = 0;
}

std::int64_t resident_bytes() {
  long pages = 0, resident = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return static_cast<std::int64_t>(resident) * sysconf(_SC_PAGESIZE);
}

}  // namespace thimble

#if THIMBLE_PROBE
// glibc lets a program define these; its own implementations stay reachable under the names below.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* granted);

void* malloc(std::size_t size) {
  void* granted = __libc_malloc(size);
  thimble::count(granted, size);
  return granted;
}
void* calloc(std::size_t n, std::size_t size) {
  void* granted = __libc_calloc(n, size);
  thimble::count(granted, n * size);
  return granted;
}
void* realloc(void* old, std::size_t size) {
  thimble::count_free(old);
  void* granted = __libc_realloc(old, size);
  thimble::count(granted, size);
  return granted;
}
void* memalign(std::size_t alignment, std::size_t size) {
  void* granted = __libc_memalign(alignment, size);
  thimble::count(granted, size);
  return granted;
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** granted, std::size_t alignment, std::size_t size) {
  *granted = memalign(alignment, size);
  return *granted == nullptr ? ENOMEM : 0;
}
void free(void* granted) {
  thimble::count_free(granted);
  __libc_free(granted);
}
}
#endif
