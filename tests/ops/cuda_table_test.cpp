// Every row of the op table again with the CUDA kernels: on the device where THIMBLE_TEST_DEVICE is `cuda`, else on
// this CPU, a fiber per CUDA thread.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "cuda_bench.h"
#include "op_table_run.h"

namespace thimble::testing {
namespace {

TEST(CudaKernels, AreThereForAllThatTheCpuHas) {
  const OpRegistry& registry = cuda_bench().registry;
  for (const std::string& kind : registry.kinds())
    EXPECT_EQ(registry.has_kernels(kind, kCudaBackend), registry.has_kernels(kind, "cpu")) << kind;
}

class CudaTable : public ::testing::TestWithParam<Row> {};

TEST_P(CudaTable, ForwardEqualsTheReference) {
  const Row& row = GetParam();
  const KernelResult result = run_guarded(cuda_bench(), run_of(row, cuda_bench()));
  const std::vector<Array> expected = forward_reference(call_of(row));
  ASSERT_EQ(result.outputs.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    expect_near(array_of(result.types[i], result.outputs[i]), expected[i], row.tolerance,
                "output " + std::to_string(i));
}

TEST_P(CudaTable, BitsDoNotDependOnStorage) {
  const KernelRun run = run_of(GetParam(), cuda_bench());
  const KernelResult apart = run_guarded(cuda_bench(), run);
  for (InPlacePair pair : possible_pairs(cuda_bench().registry, run)) {
    KernelRun over = run;
    over.in_place = {pair};
    EXPECT_TRUE(run_guarded(cuda_bench(), over).outputs == apart.outputs)
        << "output " << pair.output << " over input " << pair.input;
  }
}

TEST_P(CudaTable, GradientsEqualTheReference) {
  const Row& row = GetParam();
  if (!is_differentiated(row)) return;
  const EagerGradients got = eager_gradients(row, cuda_bench());
  const std::vector<Array> expected = gradient_reference(call_of(row), got.cotangent);
  ASSERT_EQ(got.gradients.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const TensorType type{DType::f32, row.inputs[i].shape, row.inputs[i].batched};
    expect_near(array_of(type, got.gradients[i]), expected[i], 2 * row.tolerance,
                "gradient of input " + std::to_string(i));
  }
}

// What is made element by element is one formula on both (formulas.h, crop_pictures.h), random numbers included.
TEST(CudaKernels, GiveTheBitsOfTheCpuElementByElement) {
  std::set<std::string> left{"relu",           "add",
                             "accumulate",     "dropout",
                             "sgd_update",     "momentum_accumulate",
                             "momentum_decay", "momentum_update",
                             "adam_update",    "crop_pictures"};
  const std::set<std::string> kinds = left;
  for (const Row& row : op_table()) {
    if (kinds.count(row.kind) == 0) continue;
    EXPECT_TRUE(run_guarded(cuda_bench(), run_of(row, cuda_bench())).outputs ==
                run_guarded(cpu_bench(), run_of(row, cpu_bench())).outputs)
        << row.name;
    left.erase(row.kind);
  }
  EXPECT_TRUE(left.empty()) << "no row of " << *left.begin();
}

INSTANTIATE_TEST_SUITE_P(Rows, CudaTable, ::testing::ValuesIn(op_table()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace thimble::testing
