// Which of cuDNN's engines a plan may choose for a GPU that is not there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conv2d_cudnn.h"
#include "cuda_bench.h"
#include "test_tensors.h"

namespace thimble::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

OpShape convolution(const std::string& device, const std::string& math, std::int64_t channels) {
  OpShape shape{.inputs = {batched({100, 16, 16, channels}), plain({64, channels, 3, 3})},
                .outputs = {batched({100, 16, 16, 64})},
                .attributes = {{"stride", std::int64_t{1}}, {"padding", std::int64_t{1}}},
                .device = cuda_description(device)};
  shape.device.math = math;
  return shape;
}

TEST(CudnnChoices, AreEnginesOfAVersionWithNextToNoWorkspace) {
  std::string reason;
  const auto cudnn = open_cudnn(cudnn_properties("h200"), reason);
  if (!cudnn) GTEST_SKIP() << reason;
  const OpRegistry& registry = cuda_registry();
  for (const char* device : {"h100", "h200"}) {
    OpShape shape = convolution(device, "tf32", 64);
    const auto choices = registry.faster("conv2d", shape);
    ASSERT_EQ(choices.size(), 1U);
    const std::string engine = std::get<std::string>(choices[0].at(kCudnnEngine));
    EXPECT_THAT(engine, StartsWith(cudnn->version() + "/"));
    EXPECT_THAT(engine, Not(HasSubstr(",25=0")));
    const OpCost own = registry.cost("conv2d", shape);
    shape.attributes = choices[0];
    EXPECT_EQ(registry.workspace("conv2d", shape), Bytes{4 * 64 * 64 * 9 + 1024});
    EXPECT_LT(predicted_seconds(registry.cost("conv2d", shape), shape.device), predicted_seconds(own, shape.device));
  }
}

TEST(CudnnChoices, AreNoneForFloatsOddChannelsAndUnknownDevices) {
  const OpRegistry& registry = cuda_registry();
  OpShape unknown = convolution("h200", "tf32", 64);
  unknown.device.name = "abacus";
  for (const OpShape& shape : {convolution("h200", "fp32", 64), convolution("h200", "tf32", 3), unknown})
    EXPECT_TRUE(registry.faster("conv2d", shape).empty());
}

}  // namespace
}  // namespace thimble::testing
