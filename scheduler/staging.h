// What a device's programs and the host exchange, in host memory: inputs and outputs of the program at hand, the step's
// scalars, and persistent tensors while the caller looks at them.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "thimble/arena.h"
#include "thimble/device.h"
#include "thimble/plan.h"

namespace thimble {

class Staging {
 public:
  Staging(Device& device, const Plan& plan);

  Device& device() const { return device_; }
  /// Where the whole batch of an input or output of the program is staged.
  std::byte* tensor(std::size_t program, TensorId id) const { return block_.data() + offsets_[program][id].value; }

  /// Enqueues the copy of the scalars to where device_scalars() is.
  void enqueue_scalars();
  void set_scalars(const StepScalars& scalars);
  const StepScalars* device_scalars() const { return reinterpret_cast<const StepScalars*>(scalars_.data()); }

  /// A copy of a persistent tensor that the caller may change until `upload`.
  std::span<std::byte> persistent(const PersistentTensor& tensor, Arena& arena);
  /// Copies back what was handed out since the last call; the copies end.
  void upload(const Plan& plan, Arena& arena);

 private:
  Device& device_;
  std::vector<IdVector<TensorId, Bytes>> offsets_;  // by program, then tensor
  MemoryBlock block_;                               // staged: scalars first, then a program's tensors
  MemoryBlock scalars_;                             // on the device
  std::map<std::string, std::vector<std::byte>, std::less<>> handed_out_;
};

}  // namespace thimble
