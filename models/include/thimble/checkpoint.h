// Checkpoints: everything a run needs to go on, as safetensors; one tensor per parameter and state, unpadded, under
// the names of the graph (`block3.conv1.weight`, `block3.conv1.weight.momentum`).
//
//   save_checkpoint("c.safetensors", views, {.seed = 1, .step = 40});
//   CheckpointRecord record = load_checkpoint("c.safetensors", views);   // fills the views
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thimble/tensor.h"

namespace thimble {

/// A persistent tensor where it lies in the arena.
struct CheckpointTensor {
  std::string name;
  TensorType type;
  Role role;
  std::byte* data;
};

struct CheckpointRecord {
  std::string graph_hash;       ///< of the persistent tensors' names and shapes: going on needs the same
  std::string arithmetic_hash;  ///< of the plan that made it, for information
  std::string data_name;
  std::uint64_t seed = 0;
  std::int64_t step = 0;        ///< done; with the batch it is the position in the data
  std::int64_t total_steps = 0;
  std::int64_t batch = 0;
  bool operator==(const CheckpointRecord&) const = default;
};

/// Writes straight from the views; nothing is copied. Throws EnvironmentError.
void save_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors,
                     const CheckpointRecord& record);

/// Throws BadInput, before it touches a view, where a tensor is missing, surplus, or of another type.
CheckpointRecord load_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors);

/// Fills what the file has by name; weights must all be there, state and statistics may be missing. Returns the names
/// it did not find. Surplus tensors in the file are left alone.
std::vector<std::string> load_weights(const std::string& path, const std::vector<CheckpointTensor>& tensors);

}  // namespace thimble
