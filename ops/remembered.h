// What a library takes long to say, asked once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "thimble/op_registry.h"

namespace thimble {

/// The same function of a shape, remembered: a planner asks for thousands of ops that have the same few shapes, and
/// what oneDNN needs for one takes it a tenth of a millisecond and more. From any thread.
inline std::function<Bytes(const OpShape&)> remembered(std::function<Bytes(const OpShape&)> workspace) {
  struct Answers {
    std::mutex mutex;
    std::map<OpShape, Bytes> known;
  };
  return [workspace = std::move(workspace), answers = std::make_shared<Answers>()](const OpShape& shape) {
    {
      const std::lock_guard lock(answers->mutex);
      if (const auto found = answers->known.find(shape); found != answers->known.end()) return found->second;
    }
    const Bytes bytes = workspace(shape);
    const std::lock_guard lock(answers->mutex);
    return answers->known.emplace(shape, bytes).first->second;
  };
}

}  // namespace thimble
