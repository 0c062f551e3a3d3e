// Where an arena is and how work gets there: its memory, one stream of work in order, and recorded work to repeat.
//
//   std::unique_ptr<Device> device = backend->open();
//   Arena arena(device->memory(), 1_GiB);
//   device->copy_in(arena.address(Offset{0}), staged.data(), 4096_B);   // in the stream's order
//   device->synchronize();                                             // until all of it is done
//
// The CPU needs none of this: HostMemory is enough for a Runtime.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "thimble/memory.h"

namespace thimble {

struct DeviceMemory {
  Bytes free, total;
};

/// Work that was recorded once, with the addresses it had, and is enqueued as a whole.
class CapturedWork {
 public:
  virtual ~CapturedWork() = default;
  virtual void launch() = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  virtual Memory& memory() = 0;
  /// Host memory that the device copies from and to without a detour.
  virtual Memory& staging() = 0;
  /// Of the device as a whole, whoever uses it.
  virtual DeviceMemory memory_info() = 0;
  /// What KernelArguments::stream is.
  virtual void* stream() = 0;
  // Both are enqueued; the host side has to stay until they are done.
  virtual void copy_in(std::byte* to, const std::byte* from, Bytes size) = 0;
  virtual void copy_out(std::byte* to, const std::byte* from, Bytes size) = 0;
  /// Waits for all that was enqueued. Throws Error where any of it failed.
  virtual void synchronize() = 0;
  /// Records what `enqueue` enqueues instead of doing it; null where the device cannot.
  virtual std::unique_ptr<CapturedWork> capture(const std::function<void()>& enqueue) = 0;
};

}  // namespace thimble
