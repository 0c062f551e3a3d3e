// Where an arena's bytes come from. HostMemory is real; FakeMemory hands out addresses only, so that plans of
// any size can be replayed anywhere.
//
//   HostMemory memory;
//   MemoryBlock block = memory.allocate(1_MiB);   // 4096-byte aligned, touched by nobody yet
#pragma once

#include <memory>
#include <string_view>

#include "thimble/units.h"

namespace thimble {

class Memory;

/// Owns one range of a Memory; gives it back when destroyed.
class MemoryBlock {
 public:
  MemoryBlock() = default;
  MemoryBlock(Memory& memory, std::byte* data, Bytes size) : memory_(&memory), data_(data), size_(size) {}
  MemoryBlock(MemoryBlock&& other) noexcept;
  MemoryBlock& operator=(MemoryBlock&& other) noexcept;
  ~MemoryBlock();
  std::byte* data() const { return data_; }
  Bytes size() const { return size_; }

 private:
  Memory* memory_ = nullptr;
  std::byte* data_ = nullptr;
  Bytes size_;
};

class Memory {
 public:
  virtual ~Memory() = default;
  virtual std::string_view name() const = 0;
  /// Whether the CPU may read and write through the addresses.
  virtual bool is_host_accessible() const = 0;
  /// Throws EnvironmentError with the size asked for where the memory cannot be had.
  virtual MemoryBlock allocate(Bytes size) = 0;

 private:
  friend class MemoryBlock;
  virtual void release(std::byte* data, Bytes size) noexcept = 0;
};

/// Anonymous pages of this process.
class HostMemory final : public Memory {
 public:
  std::string_view name() const override { return "host"; }
  bool is_host_accessible() const override { return true; }
  MemoryBlock allocate(Bytes size) override;

 private:
  void release(std::byte* data, Bytes size) noexcept override;
};

/// Addresses without bytes behind them; reading one is a bug. `capacity` limits the sum of live blocks.
class FakeMemory final : public Memory {
 public:
  explicit FakeMemory(Bytes capacity = Bytes{std::int64_t{1} << 46}) : capacity_(capacity) {}
  std::string_view name() const override { return "fake"; }
  bool is_host_accessible() const override { return false; }
  MemoryBlock allocate(Bytes size) override;
  Bytes in_use() const { return in_use_; }

 private:
  void release(std::byte* data, Bytes size) noexcept override;
  Bytes capacity_;
  Bytes in_use_;
  std::int64_t next_ = std::int64_t{1} << 40;
};

}  // namespace thimble
