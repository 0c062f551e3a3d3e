// Devices that plans are made for without having one.
#include <gtest/gtest.h>

#include "thimble/cuda.h"
#include "thimble/error.h"

namespace thimble {
namespace {

TEST(CudaDevices, AreKnownByName) {
  const DeviceDescription h100 = cuda_description("h100"), h200 = cuda_description("h200");
  EXPECT_EQ(h200.name, "h200");
  EXPECT_EQ(h200.backend, kCudaBackend);
  EXPECT_LT(h100.bytes_per_second, h200.bytes_per_second);
  EXPECT_FALSE(cudnn_properties("h100").empty());
  EXPECT_TRUE(cudnn_properties("h1000").empty());
  EXPECT_THROW(cuda_description("h1000"), InvalidArgument);
}

TEST(CudaDevices, ComputeFasterOnTensorCores) {
  const DeviceDescription fp32 = cuda_description("h200"), tf32 = with_math(fp32, "tf32");
  EXPECT_EQ(tf32.math, "tf32");
  EXPECT_GT(tf32.flops_per_second, 2 * fp32.flops_per_second);
  EXPECT_EQ(tf32.bytes_per_second, fp32.bytes_per_second);
  EXPECT_EQ(with_math(fp32, "fp32"), fp32);
  EXPECT_EQ(with_math(tf32, "tf32"), tf32);
  EXPECT_EQ(with_math(tf32, "fp32"), fp32);
  EXPECT_THROW(with_math(fp32, "fp64"), InvalidArgument);
}

}  // namespace
}  // namespace thimble
