#include "staging.h"

#include <algorithm>
#include <cstring>

namespace thimble {
namespace {

constexpr Bytes kScalarBytes{256};
static_assert(sizeof(StepScalars) <= 256);

}  // namespace

Staging::Staging(Device& device, const Plan& plan) : device_(device) {
  Bytes most = kScalarBytes;
  for (const Program& program : plan.programs) {
    IdVector<TensorId, Bytes> offsets(program.graph.tensors.size());
    Bytes end = kScalarBytes;
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      const Tensor& tensor = program.graph.tensors[id];
      const bool is_input = tensor.producer == kNoOp && !is_persistent(tensor);
      if (!is_input && !tensor.is_output) continue;
      offsets[id] = end;
      end += align_up(bytes_of(tensor.type), kAlignment);
    }
    most = std::max(most, end);
    offsets_.push_back(std::move(offsets));
  }
  block_ = device_.staging().allocate(most);
  scalars_ = device_.memory().allocate(kScalarBytes);
}

void Staging::set_scalars(const StepScalars& scalars) { std::memcpy(block_.data(), &scalars, sizeof scalars); }

void Staging::enqueue_scalars() { device_.copy_in(scalars_.data(), block_.data(), kScalarBytes); }

std::span<std::byte> Staging::persistent(const PersistentTensor& tensor, Arena& arena) {
  auto [found, is_new] = handed_out_.try_emplace(tensor.name);
  if (is_new) {
    const Bytes size = bytes_of(tensor.type);
    found->second.resize(static_cast<std::size_t>(size.value));
    device_.copy_out(found->second.data(), arena.address(tensor.offset), size);
    device_.synchronize();
  }
  return found->second;
}

void Staging::upload(const Plan& plan, Arena& arena) {
  if (handed_out_.empty()) return;
  for (const PersistentTensor& tensor : plan.persistent)
    if (const auto found = handed_out_.find(tensor.name); found != handed_out_.end())
      device_.copy_in(arena.address(tensor.offset), found->second.data(), bytes_of(tensor.type));
  device_.synchronize();
  handed_out_.clear();
}

}  // namespace thimble
