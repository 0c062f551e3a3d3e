// The program that saves: it reads the persistent tensors where they lie, so it has no steps and no bytes of its own.
#pragma once

#include "thimble/training_plan.h"

namespace thimble {

/// For a plan whose programs have the persistent tensors of `step`.
inline ProgramRequest save_program(const Graph& step) {
  ProgramRequest program{.name = kSaveProgram, .graph = {}, .microbatches = {}};
  for (const Tensor& tensor : step.tensors)
    if (tensor.producer == kNoOp && is_persistent(tensor))
      program.graph.add_input(tensor.name, tensor.type, tensor.role);
  return program;
}

}  // namespace thimble
