// A block's shared memory: NaN in every float before the block, a red zone around each array, a GPU's limits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "simt_cpu.h"

namespace thimble::simt {

class SharedMemory {
 public:
  SharedMemory() = default;
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();

  void begin_block(std::size_t dynamic_bytes);
  void* dynamic() const { return base_ + arrays_.front().begin; }
  void* array(const void* tag, const char* name, std::size_t bytes, std::size_t alignment, const Place& where);
  /// The array with a damaged red zone, described; empty if there is none.
  std::string damage() const;
  std::int64_t used_bytes() const { return static_cast<std::int64_t>(static_bytes_ + dynamic_bytes_); }

  /// Addresses that stand for a barrier in ThreadSanitizer's books, new in every block.
  void* block_token(unsigned parity) const { return base_ + 8 * std::size_t{parity}; }
  void* warp_token(unsigned warp, unsigned lane, unsigned parity) const {
    return base_ + 16 + 8 * (std::size_t{parity} + 2 * (lane + std::size_t{32} * warp));
  }

 private:
  struct Array {
    const void* tag;
    const char* name;
    std::size_t begin, end;  // in the arena
    Place where;
  };
  std::size_t place(std::size_t bytes, std::size_t alignment);
  void renew(std::size_t end);

  char* base_ = nullptr;
  std::size_t top_ = 0;  // end of the last red zone
  std::size_t static_bytes_ = 0;
  std::size_t dynamic_bytes_ = 0;
  // The first is the dynamic one. No vector: it would grow in a CUDA thread, and ThreadSanitizer sees who allocates.
  std::array<Array, 64> arrays_;
  std::size_t count_ = 0;
};

}  // namespace thimble::simt
