// Every row of the op table: forward and gradient against the reference, the reference against finite differences,
// bits against thread counts, repetition and storage, and no allocation.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "op_table_run.h"

namespace thimble::testing {
namespace {

class OpTable : public ::testing::TestWithParam<Row> {};

TEST_P(OpTable, ForwardEqualsTheReference) {
  const Row& row = GetParam();
  const KernelResult result = run_guarded(cpu_bench(), run_of(row, cpu_bench()));
  const std::vector<Array> expected = forward_reference(call_of(row));
  ASSERT_EQ(result.outputs.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    expect_near(array_of(result.types[i], result.outputs[i]), expected[i], row.tolerance,
                "output " + std::to_string(i));
}

TEST_P(OpTable, BitsDoNotDependOnThreadsOrStorage) {
  const KernelRun run = run_of(GetParam(), cpu_bench());
  const KernelResult one = run_guarded(cpu_bench(), run);
  for (int threads : {2, 3})
    EXPECT_TRUE(run_guarded(cpu_bench(), run_of(GetParam(), cpu_bench(), threads)).outputs == one.outputs)
        << threads << " threads";
  for (InPlacePair pair : possible_pairs(cpu_bench().registry, run)) {
    KernelRun over = run;
    over.in_place = {pair};
    EXPECT_TRUE(run_guarded(cpu_bench(), over).outputs == one.outputs)
        << "output " << pair.output << " over input " << pair.input;
  }
}

TEST_P(OpTable, RunAllocatesNothing) {
  for (int threads : {1, 2})
    EXPECT_EQ(run_guarded(cpu_bench(), run_of(GetParam(), cpu_bench(), threads)).own_allocations, 0)
        << threads << " threads";
}

TEST_P(OpTable, GradientsEqualTheReference) {
  const Row& row = GetParam();
  if (!is_differentiated(row)) return;
  const EagerGradients one = eager_gradients(row, cpu_bench(), 1), two = eager_gradients(row, cpu_bench(), 2);
  EXPECT_TRUE(one.gradients == two.gradients) << "gradients depend on the thread count";
  const std::vector<Array> expected = gradient_reference(call_of(row), one.cotangent);
  ASSERT_EQ(one.gradients.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const TensorType type{DType::f32, row.inputs[i].shape, row.inputs[i].batched};
    expect_near(array_of(type, one.gradients[i]), expected[i], 2 * row.tolerance,
                "gradient of input " + std::to_string(i));
  }
}

// Central differences in double, at up to twelve places of every input.
TEST_P(OpTable, FiniteDifferencesConfirmTheReference) {
  const Row& row = GetParam();
  if (!is_differentiated(row)) return;
  ReferenceCall call = call_of(row);
  Array cotangent = forward_reference(call)[0];
  std::mt19937_64 random(row.seed + 2000);
  for (double& value : cotangent.values) value = std::normal_distribution<double>()(random);
  const std::vector<Array> gradients = gradient_reference(call, cotangent);
  const auto objective = [&] {
    const Array y = forward_reference(call)[0];
    double sum = 0;
    for (std::size_t i = 0; i < y.values.size(); ++i) sum += cotangent.values[i] * y.values[i];
    return sum;
  };
  constexpr double kStep = 1e-5;
  for (std::size_t input = 0; input < gradients.size(); ++input)
    for (std::size_t k = 0; k < std::min<std::size_t>(12, gradients[input].values.size()); ++k) {
      const std::size_t at = random() % gradients[input].values.size();
      double& value = call.inputs[input].values[at];
      const double kept = value;
      value = kept + kStep;
      const double above = objective();
      value = kept - kStep;
      const double below = objective();
      value = kept;
      const double slope = (above - below) / (2 * kStep);
      EXPECT_NEAR(gradients[input].values[at], slope, 1e-6 * std::max(1.0, std::fabs(slope)))
          << "input " << input << " at " << at;
    }
}

INSTANTIATE_TEST_SUITE_P(Rows, OpTable, ::testing::ValuesIn(op_table()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace thimble::testing
