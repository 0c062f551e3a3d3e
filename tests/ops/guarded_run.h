// Runs one kernel between guard bands: outputs and workspace are NaN beforehand, every byte outside of them has to
// survive, and so have the inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "thimble/op_registry.h"

namespace thimble::testing {

using ByteVector = std::vector<std::byte>;

struct KernelRun {
  std::string kind;
  std::vector<TensorType> types;
  std::vector<ByteVector> inputs;
  Attributes attributes;
  int threads = 1;
  StepScalars scalars{};
  std::int64_t first_sample = 0;
  std::int64_t samples = 0;
  std::int64_t batch = 0;
  bool first_microbatch = true;
  ByteVector sum_so_far{};              // where an output begins as something else than NaN
  std::size_t sum_output = 0;           // which
  std::vector<InPlacePair> in_place{};  // outputs that lie over their inputs
};

struct KernelResult {
  std::vector<TensorType> types;
  std::vector<ByteVector> outputs;
  std::int64_t own_allocations = 0;  // calls of operator new in the second of two runs, outside of libraries
};

/// Runs twice on the same kernel and compares the bits. Damage is reported as gtest failures.
KernelResult run_guarded(const OpRegistry& registry, const KernelRun& run);

/// How often this executable called operator new outside of libraries (see library_scope.h).
std::int64_t own_allocations();

}  // namespace thimble::testing
