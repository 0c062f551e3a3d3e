// Times kernels alone on a device: enqueued many times as one graph where the device records one, over buffers that
// change from run to run, so that none is found in the cache.
//
//   KernelTimer timer(registry, device, description, 2_GiB);
//   const KernelTime time = timer.measure("relu", shape);
#pragma once

#include <optional>

#include "thimble/device.h"
#include "thimble/op_registry.h"

namespace thimble {

struct KernelTime {
  double seconds = 0;  ///< of one run
  OpCost cost;
  Bytes workspace;
  double gigabytes_per_second() const { return cost.bytes / seconds / 1e9; }
  double teraflops_per_second() const { return cost.flops / seconds / 1e12; }
};

class KernelTimer {
 public:
  /// All but the description have to outlive it. `pool` bytes are allocated on the device and filled with values in
  /// [-1, 1); labels are from 4 to 8, ids from 4 to 6003, sentences fill their room.
  KernelTimer(const OpRegistry& registry, Device& device, DeviceDescription description, Bytes pool);

  /// Throws InvalidArgument where the op's tensors are more than the pool.
  KernelTime measure(const std::string& kind, const OpShape& shape);
  /// Seconds of the driver's own copy of so many bytes within the device; nothing where it cannot be asked.
  std::optional<double> copy_seconds(Bytes size);

 private:
  /// `run` enqueues its i-th run.
  double seconds_of(const std::function<void(int)>& run);
  double elapsed(const std::function<void()>& enqueue);
  /// Ids where the rank is 2; else lengths, or labels where `room` is 0.
  const std::byte* integers(const TensorType& type, std::int64_t room);

  const OpRegistry& registry_;
  Device& device_;
  DeviceDescription description_;
  MemoryBlock pool_, ids_, labels_, lengths_, scalars_, staged_;
  std::int64_t room_ = 0;  // what lies in lengths_
};

}  // namespace thimble
