// Runs a row of the op table on a bench: forward, and the gradient rule with every op that it emits.
#pragma once

#include "guarded_run.h"
#include "op_table.h"
#include "reference_ops.h"

namespace thimble::testing {

/// The ops as they are on the CPU.
const Bench& cpu_bench();

/// The row's inputs, the same on every bench; `threads` of the CPU.
KernelRun run_of(const Row& row, const Bench& bench, int threads = 1);
ReferenceCall call_of(const Row& row);
Array array_of(const TensorType& type, const ByteVector& bytes);

/// `tolerance` is of the largest value expected.
void expect_near(const Array& got, const Array& expected, double tolerance, const std::string& what);

/// Outputs that may lie over inputs of this run: the in-place pairs that fit, and new versions.
std::vector<InPlacePair> possible_pairs(const OpRegistry& registry, const KernelRun& run);

/// What is a sum already is no op of a forward graph.
bool is_differentiated(const Row& row);

struct EagerGradients {
  std::vector<ByteVector> gradients;  ///< one per input, empty where the rule set none
  Array cotangent;
};
/// One op and its gradient rule, where every op the rule emits runs at once. Findings are gtest failures.
EagerGradients eager_gradients(const Row& row, const Bench& bench, int threads = 1);

}  // namespace thimble::testing
