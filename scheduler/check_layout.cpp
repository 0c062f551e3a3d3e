// Where storages lie: apart while they live together, persistent ones where the plan says, and what the program claims
// of it.
#include <algorithm>
#include <map>

#include "program_check.h"
#include "thimble/placement.h"

namespace thimble {
namespace {

Bytes padded(const TensorType& type) { return align_up(bytes_of(type), kAlignment); }

using KnownTensors = std::map<std::string_view, const PersistentTensor*>;

void check_persistent_storage(ProgramCheck& check, const Storage& storage, const KnownTensors& known) {
  const auto found = known.find(storage.name);
  if (found == known.end()) return check.report("persistent storage '" + storage.name + "' is not in the plan's list");
  if (found->second->offset != storage.offset || padded(found->second->type) != storage.size)
    check.report("persistent tensor '" + storage.name + "' lies elsewhere than the plan says");
}

void check_given(ProgramCheck& check, const Tensor& tensor, const Storage& storage, const KnownTensors& known) {
  if (is_persistent(tensor) != storage.persistent)
    check.report("'" + tensor.name + "' and its storage disagree on whether they are persistent");
  const auto found = known.find(tensor.name);
  if (!storage.persistent || found == known.end()) return;
  if (found->second->type != tensor.type || found->second->role != tensor.role)
    check.report("persistent tensor '" + tensor.name + "' has another type or role than the plan says");
}

// Only new versions and views may be made over what persists.
void check_made(ProgramCheck& check, const Tensor& tensor, const Storage& storage) {
  if (!storage.persistent || tensor.version_of != kNoTensor) return;
  if (!check.registry.at(check.graph.ops[tensor.producer].kind).view)
    check.report("'" + tensor.name + "' is made in the storage of the persistent '" + storage.name + "'");
}

struct Claims {
  Bytes highest;
  Bytes most_live;
  Step peak{};
};

// Persistent tensors count at every step, with the gaps between them.
Claims derive_claims(const ProgramCheck& check) {
  Bytes base;
  for (const PersistentTensor& tensor : check.plan.persistent)
    base = std::max(base, align_up(tensor.offset + bytes_of(tensor.type), kAlignment) - Offset{});
  Claims claims{.highest = base, .most_live = base};
  std::vector<Bytes> change(check.schedule.steps.size() + 1);
  for (const Storage& storage : check.schedule.storages) {
    if (storage.persistent) continue;
    claims.highest = std::max(claims.highest, storage.offset + storage.size - Offset{});
    change[static_cast<std::size_t>(index(storage.lifetime.begin))] += storage.size;
    change[static_cast<std::size_t>(index(storage.lifetime.end))] -= storage.size;
  }
  Bytes live = base;
  for (std::int32_t i = 0; i < check.step_count(); ++i) {
    live += change[static_cast<std::size_t>(i)];
    if (live > claims.most_live) claims.peak = Step{i};
    claims.most_live = std::max(claims.most_live, live);
  }
  return claims;
}

}  // namespace

void check_overlaps(ProgramCheck& check) {
  PlacementProblem problem{.buffers = {}, .alignment = kAlignment};
  std::vector<Offset> offsets;
  for (const PersistentTensor& tensor : check.plan.persistent) {
    problem.buffers.push_back({tensor.name, {Step{0}, Step{check.step_count()}}, padded(tensor.type)});
    offsets.push_back(tensor.offset);
  }
  for (const Storage& storage : check.schedule.storages) {
    if (storage.persistent) continue;
    problem.buffers.push_back({storage.name, storage.lifetime, storage.size});
    offsets.push_back(storage.offset);
  }
  for (const std::string& message : check_placement(problem, offsets, check.plan.arena)) check.report(message);
}

void check_persistent(ProgramCheck& check) {
  KnownTensors known;
  for (const PersistentTensor& tensor : check.plan.persistent) known[tensor.name] = &tensor;
  for (const Storage& storage : check.schedule.storages)
    if (storage.persistent) check_persistent_storage(check, storage, known);
  for (const Instance& instance : check.schedule.instances) {
    const Tensor& tensor = check.graph.tensors[instance.tensor];
    const Storage& storage = check.schedule.storages[instance.storage];
    if (tensor.producer == kNoOp)
      check_given(check, tensor, storage, known);
    else
      check_made(check, tensor, storage);
  }
}

void check_claims(ProgramCheck& check) {
  const Program& program = check.program;
  const auto [highest, most_live, peak] = derive_claims(check);
  if (program.planned != highest)
    check.report("states " + to_string(program.planned) + ", its highest byte is at " + to_string(highest));
  if (program.lower_bound != most_live)
    check.report("states a lower bound of " + to_string(program.lower_bound) + ", it is " + to_string(most_live));
  if (program.peak_step != peak)
    check.report("states its peak at step " + std::to_string(index(program.peak_step)) + ", it is at step " +
                 std::to_string(index(peak)));
}

}  // namespace thimble
