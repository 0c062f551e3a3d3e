#include "thimble/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "thimble/error.h"

namespace thimble {
namespace {

void refuse_negative(std::string_view memory, Bytes size) {
  if (size.value < 0)
    throw InvalidArgument(std::string(memory) + " memory: the size " + std::to_string(size.value) + " is negative");
}

}  // namespace

MemoryBlock::MemoryBlock(MemoryBlock&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, Bytes{})) {}

MemoryBlock& MemoryBlock::operator=(MemoryBlock&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  MemoryBlock ended(std::move(other));  // what this block held ends here
  return *this;
}

MemoryBlock::~MemoryBlock() {
  if (memory_) memory_->release(data_, size_);
}

MemoryBlock HostMemory::allocate(Bytes size) {
  refuse_negative(name(), size);
  if (size.value == 0) return MemoryBlock(*this, nullptr, size);
  void* pages =
      mmap(nullptr, static_cast<std::size_t>(size.value), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED)
    throw EnvironmentError("host memory: " + to_string(size) + " cannot be had: " + std::strerror(errno));
  return MemoryBlock(*this, static_cast<std::byte*>(pages), size);
}

void HostMemory::release(std::byte* data, Bytes size) noexcept {
  if (data) munmap(data, static_cast<std::size_t>(size.value));
}

MemoryBlock FakeMemory::allocate(Bytes size) {
  refuse_negative(name(), size);
  if (size > capacity_ - in_use_)
    throw EnvironmentError("fake memory: " + to_string(size) + " cannot be had: " + to_string(capacity_ - in_use_) +
                           " of " + to_string(capacity_) + " are free");
  constexpr std::int64_t kPage = 4096;
  if (size.value > (std::int64_t{1} << 62) - next_)
    throw EnvironmentError("fake memory: " + to_string(size) + " cannot be had: its addresses are used up");
  // An address is only a number here; nobody may read through it.
  auto* data = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(next_));
  next_ = align_up(Bytes{next_ + size.value + 1}, Bytes{kPage}).value;  // + 1: no two blocks share an address
  in_use_ += size;
  return MemoryBlock(*this, data, size);
}

void FakeMemory::release(std::byte*, Bytes size) noexcept { in_use_ -= size; }

}  // namespace thimble
