// Checkpoints: safetensors with one tensor for each parameter and state, and a record in `__metadata__`.
//
//   save_checkpoint("run.safetensors", views, record);
//   load_checkpoint("run.safetensors", views).step;       // where to go on
//
// Seed, step and batch are the data position: the order of samples is a function of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "thimble/runtime.h"

namespace thimble {

/// A persistent tensor where it lies, unpadded.
struct CheckpointTensor {
  std::string name;
  TensorType type;
  Role role = Role::weight;
  std::byte* data = nullptr;
};

/// The persistent tensors of a runtime.
std::vector<CheckpointTensor> persistent_views(Runtime& runtime);

struct CheckpointRecord {
  std::string graph_hash{};
  std::string arithmetic_hash{};
  std::string data_name{};
  std::string learning_rate{};   ///< the schedule, as text
  std::string optimizer{};       ///< its kind, momentum and weight decay
  std::string regularization{};  ///< dropout and augmentation
  std::uint64_t seed = 0;
  std::int64_t step = 0;         ///< steps done
  std::int64_t total_steps = 0;  ///< length of the run
  std::int64_t batch = 0;
  bool operator==(const CheckpointRecord&) const = default;
};

/// Copies no tensor; temporary name, then rename. Throws EnvironmentError where the file cannot be written.
void save_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors,
                     const CheckpointRecord& record);

/// Loads every tensor. Throws BadInput, before any tensor is touched, where the file is no checkpoint of this version
/// or its tensors are not exactly these: it names those that are missing, left over, of another type or shape. `accept`
/// sees the record then, still before any tensor is touched, and refuses by throwing.
CheckpointRecord load_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors,
                                 const std::function<void(const CheckpointRecord&)>& accept = nullptr);

struct InitialWeights {
  std::vector<std::string> missing;  ///< optimizer state that the file lacks; left as it was
  std::vector<std::string> unused;   ///< in the file only
};

/// Loads by name from any safetensors file. Throws BadInput, before any tensor is touched, where a weight or a
/// statistic is missing or a tensor that is there has another type or shape.
InitialWeights load_weights(const std::string& path, const std::vector<CheckpointTensor>& tensors);

/// Writes the mean of what several files hold, tensor by tensor, added up in double. State is left out (a tensor named
/// `w.momentum` where there is a `w`): the result is weights to start from or to evaluate, no checkpoint to go on from.
/// Throws InvalidArgument where there is no file; BadInput where files have not the same ones, state aside, or one is
/// not F32; EnvironmentError where a file cannot be read or written.
void average_checkpoints(const std::vector<std::string>& paths, const std::string& to);

}  // namespace thimble
