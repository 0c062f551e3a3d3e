#include "simt_shared_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "simt_fiber.h"
#include "thimble/error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define SIMT_ASAN 1
#else
#define SIMT_ASAN 0
#endif

namespace thimble::simt {
namespace {

constexpr std::size_t kBlockLimit = 227 * 1024;  // sm_90
constexpr std::size_t kStaticLimit = 48 * 1024;  // what ptxas takes
constexpr std::size_t kRedZone = 128;
constexpr std::size_t kTokens = kRaceDetection ? 20 * 1024 : 0;
constexpr std::size_t kArena = 512 * 1024;  // with the red zones of all arrays there can be
constexpr char kCanary = '\xc5';
constexpr int kEmpty = 0xff;

// Not memset: ThreadSanitizer would take it for a kernel's.
void fill_canary(char* from, std::size_t bytes) {
  for (volatile char* p = from; p != from + bytes; ++p) *p = kCanary;
}

}  // namespace

SharedMemory::~SharedMemory() {
  if (base_ != nullptr) munmap(base_, kArena);
}

// Empty memory up to `end`. ThreadSanitizer forgets who wrote what only when pages are mapped anew.
void SharedMemory::renew(std::size_t end) {
  constexpr std::size_t kPage = 4096;
  end = (end + kPage - 1) / kPage * kPage;
  const bool first = base_ == nullptr;
  if (first) end = kArena;
  if (first || kRaceDetection) {
    if (!first) munmap(base_, end);
    void* memory =
        mmap(base_, end, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (first ? 0 : MAP_FIXED), -1, 0);
    if (memory == MAP_FAILED) throw EnvironmentError(std::string("simt: no shared memory: ") + std::strerror(errno));
    base_ = static_cast<char*>(memory);
  }
#if SIMT_ASAN
  __asan_unpoison_memory_region(base_, end);
#endif
  std::memset(base_ + kTokens, kEmpty, end - kTokens);
#if SIMT_ASAN
  __asan_poison_memory_region(base_, kArena);
#endif
}

void SharedMemory::begin_block(std::size_t dynamic_bytes) {
  if (dynamic_bytes > kBlockLimit)
    throw InvalidArgument(std::to_string(dynamic_bytes) + " bytes of dynamic shared memory; a block has " +
                          std::to_string(kBlockLimit));
  renew(top_ < kTokens + 1 ? kTokens + 1 : top_);
  count_ = 0;
  static_bytes_ = 0;
  dynamic_bytes_ = dynamic_bytes;
  top_ = kTokens;
  const std::size_t begin = place(dynamic_bytes, 16);
  arrays_[count_++] = {nullptr, "dynamic shared memory", begin, begin + dynamic_bytes, Place{}};
}

std::size_t SharedMemory::place(std::size_t bytes, std::size_t alignment) {
  if (count_ == 0) {
    if (!SIMT_ASAN) fill_canary(base_ + top_, kRedZone);
    top_ += kRedZone;
  }
  const std::size_t begin = (top_ + alignment - 1) / alignment * alignment;
  const std::size_t end = begin + bytes;
#if SIMT_ASAN
  __asan_unpoison_memory_region(base_ + begin, bytes);
#endif
  if (!SIMT_ASAN) fill_canary(base_ + end, kRedZone);
  top_ = end + kRedZone;
  return begin;
}

void* SharedMemory::array(const void* tag, const char* name, std::size_t bytes, std::size_t alignment,
                          const Place& where) {
  for (std::size_t i = 1; i < count_; ++i)
    if (arrays_[i].tag == tag) return base_ + arrays_[i].begin;
  if (count_ == arrays_.size()) throw Error("a block with more than 63 shared arrays, at " + where.text());
  static_bytes_ += bytes;
  const auto bytes_here = [&] { return std::to_string(bytes) + " bytes at " + where.text(); };
  if (static_bytes_ > kStaticLimit)
    throw Error("too much shared memory: with '" + std::string(name) + "' (" + bytes_here() + ") a block has " +
                std::to_string(static_bytes_) + " static bytes, the limit is " + std::to_string(kStaticLimit));
  if (static_bytes_ + dynamic_bytes_ > kBlockLimit)
    throw Error("too much shared memory: with '" + std::string(name) + "' (" + bytes_here() + ") a block has " +
                std::to_string(static_bytes_ + dynamic_bytes_) + " bytes, the limit is " + std::to_string(kBlockLimit));
  const std::size_t begin = place(bytes, alignment < 16 ? 16 : alignment);
  arrays_[count_++] = {tag, name, begin, begin + bytes, where};
  return base_ + begin;
}

std::string SharedMemory::damage() const {
  if (SIMT_ASAN) return {};
  const auto damaged = [&](std::size_t begin) {
    for (std::size_t i = begin; i < begin + kRedZone; ++i)
      if (base_[i] != kCanary) return true;
    return false;
  };
  if (damaged(arrays_.front().begin - kRedZone)) return "a write before the dynamic shared memory";
  for (std::size_t i = 0; i < count_; ++i) {
    const Array& array = arrays_[i];
    if (!damaged(array.end)) continue;
    std::string found = "a write past the end of shared '" + std::string(array.name) + "' (" +
                        std::to_string(array.end - array.begin) + " bytes";
    return array.tag == nullptr ? found + ")" : found + ", " + array.where.text() + ")";
  }
  return {};
}

}  // namespace thimble::simt
