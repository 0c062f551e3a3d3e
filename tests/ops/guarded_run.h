// Runs one kernel between guard bands: outputs and workspace are NaN beforehand, every byte outside of them has to
// survive, and so have the inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "thimble/device.h"
#include "thimble/op_registry.h"

namespace thimble::testing {

using ByteVector = std::vector<std::byte>;

/// Where kernels run.
struct Bench {
  Bench(const OpRegistry& ops) : registry(ops) {}  // NOLINT: the CPU, which needs nothing else
  Bench(const OpRegistry& ops, DeviceDescription d, Device* on)
      : registry(ops), description(std::move(d)), device(on) {}
  const OpRegistry& registry;
  DeviceDescription description{};
  Device* device = nullptr;  ///< null: the CPU, in place
};

struct KernelRun {
  std::string kind;
  std::vector<TensorType> types;
  std::vector<ByteVector> inputs;
  Attributes attributes;
  DeviceDescription device{};
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
KernelResult run_guarded(const Bench& bench, const KernelRun& run);

/// How often this executable called operator new outside of libraries (see library_scope.h).
std::int64_t own_allocations();

}  // namespace thimble::testing
