// Other valid placements of a plan than the planner's. Bits must not depend on which one a run has.
#pragma once

#include <algorithm>

#include "thimble/plan.h"

namespace thimble::testing {

inline Bytes padded(const PersistentTensor& tensor) { return align_up(bytes_of(tensor.type), kAlignment); }

/// Persistent tensors in the opposite order, at the bottom of the arena still. Returns where they end.
inline Offset reverse_persistent(Plan& plan) {
  Offset end;
  for (auto tensor = plan.persistent.rbegin(); tensor != plan.persistent.rend(); ++tensor) {
    tensor->offset = end;
    end = end + padded(*tensor);
    for (Program& program : plan.programs)
      for (Storage& storage : program.schedule.storages)
        if (storage.persistent && storage.name == tensor->name) storage.offset = tensor->offset;
  }
  return end;
}

/// States again what follows from the offsets.
inline void restate(Plan& plan, Offset persistent_end) {
  plan.arena = Bytes{};
  for (Program& program : plan.programs) {
    program.planned = persistent_end - Offset{};
    for (const Storage& storage : program.schedule.storages)
      program.planned = std::max(program.planned, storage.offset + storage.size - Offset{});
    plan.arena = std::max(plan.arena, program.planned);
  }
}

/// Upside down: whoever lay at the end of the persistent bytes lies at the arena's, and the other way round.
inline void turn_over(Plan& plan) {
  const Offset base = reverse_persistent(plan);
  for (Program& program : plan.programs)
    for (Storage& storage : program.schedule.storages)
      if (!storage.persistent) storage.offset = base + (Offset{} + program.planned - (storage.offset + storage.size));
  restate(plan, base);
}

/// Side by side: every storage has bytes of its own, so that nothing is ever written over anything else.
inline void spread_out(Plan& plan) {
  const Offset base = reverse_persistent(plan);
  for (Program& program : plan.programs) {
    Offset end = base;
    for (Storage& storage : program.schedule.storages) {
      if (storage.persistent) continue;
      storage.offset = end;
      end = end + storage.size;
    }
  }
  restate(plan, base);
}

}  // namespace thimble::testing
