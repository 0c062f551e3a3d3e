// Where cropped pictures come from, pixel by pixel, on the CPU and with the CUDA kernel.
#include <gtest/gtest.h>

#include <cmath>

#include "cuda_bench.h"
#include "op_table_run.h"
#include "test_tensors.h"
#include "thimble/error.h"

namespace thimble::testing {
namespace {

constexpr std::int64_t kSide = 32;

// Red counts columns, green counts rows, blue is 200.
ByteVector ramp() {
  ByteVector picture(3 * kSide * kSide, std::byte{200});
  for (std::size_t y = 0; y < kSide; ++y)
    for (std::size_t x = 0; x < kSide; ++x) {
      picture[y * kSide + x] = static_cast<std::byte>(x);
      picture[kSide * kSide + y * kSide + x] = static_cast<std::byte>(y);
    }
  return picture;
}

KernelRun ramp_run(const Ints& shift) {
  KernelRun run{.kind = "crop_pictures",
                .types = {{DType::u8, {1, 3, kSide, kSide}, true}, integers({1, 3})},
                .inputs = {ramp(), bytes_from(shift)},
                .attributes = {{"padding", std::int64_t{4}}}};
  const double mean[] = {125.3, 123.0, 113.9}, deviation[] = {63.0, 62.1, 66.7};
  for (std::size_t c = 0; c < 3; ++c) {
    run.attributes["mean_" + std::to_string(c)] = mean[c];
    run.attributes["deviation_" + std::to_string(c)] = deviation[c];
  }
  run.samples = run.batch = 1;
  return run;
}

class CropPictures : public ::testing::TestWithParam<const char*> {
 protected:
  static Floats cropped(const Ints& shift) {
    const Bench& bench = GetParam() == std::string("cpu") ? cpu_bench() : cuda_bench();
    KernelRun run = ramp_run(shift);
    run.device = bench.description;
    return values_from<float>(run_guarded(bench, run).outputs[0]);
  }
  static long column(const Floats& y, std::size_t row, std::size_t column) {
    return std::lround(y[(row * kSide + column) * 3] * 63.0 + 125.3);
  }
  static long row(const Floats& y, std::size_t row, std::size_t column) {
    return std::lround(y[(row * kSide + column) * 3 + 1] * 62.1 + 123.0);
  }
};

TEST_P(CropPictures, NormalizeToChannelsLast) {
  const Floats plain = cropped({0, 0, 0});
  EXPECT_EQ(column(plain, 5, 9), 9);
  EXPECT_EQ(row(plain, 5, 9), 5);
  EXPECT_EQ(plain[(5 * kSide + 9) * 3 + 2], static_cast<float>((200 - 113.9) / 66.7));
  EXPECT_EQ(plain[(5 * kSide + 9) * 3], static_cast<float>((9 - 125.3) / 63.0));
}

// Padded by four: columns 4 3 2 1 | 0 1 ... 31 | 30 29 28 27.
TEST_P(CropPictures, ReflectWithoutRepeatingTheBorder) {
  const Floats corner = cropped({-4, -4, 0});
  for (std::size_t i = 0; i < 8; ++i) {
    const long expected[] = {4, 3, 2, 1, 0, 1, 2, 3};
    EXPECT_EQ(column(corner, 0, i), expected[i]);
    EXPECT_EQ(row(corner, i, 0), expected[i]);
  }
  const Floats other = cropped({4, 4, 0});
  const long expected[] = {30, 31, 30, 29, 28, 27};
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(column(other, 0, 26 + i), expected[i]);
    EXPECT_EQ(row(other, 26 + i, 0), expected[i]);
  }
}

TEST_P(CropPictures, MirrorWhatIsCut) {
  const Floats straight = cropped({-2, 3, 0}), mirrored = cropped({-2, 3, 1});
  for (std::size_t x = 0; x < kSide; ++x) EXPECT_EQ(column(mirrored, 3, x), column(straight, 3, kSide - 1 - x));
  EXPECT_EQ(row(mirrored, 3, 0), row(straight, 3, 31));
}

INSTANTIATE_TEST_SUITE_P(On, CropPictures, ::testing::Values("cpu", "cuda"),
                         [](const auto& where) { return std::string(where.param); });

TEST(CropPicturesRules, AShiftBeyondThePaddingIsRefusedOrNaN) {
  KernelRun run = ramp_run({0, -5, 0});
  EXPECT_THROW(run_guarded(cpu_bench(), run), InvalidArgument);
  run.device = cuda_bench().description;
  for (float value : values_from<float>(run_guarded(cuda_bench(), run).outputs[0])) EXPECT_TRUE(std::isnan(value));
}

TEST(CropPicturesRules, WhatDoesNotFitIsRefused) {
  const OpDefinition& op = cpu_bench().registry.at("crop_pictures");
  const KernelRun good = ramp_run({0, 0, 0});
  EXPECT_EQ(op.infer(good.types, good.attributes).at(0).type, batched({1, kSide, kSide, 3}));
  const auto refused = [&](const std::vector<TensorType>& types, const Attributes& attributes) {
    EXPECT_THROW(op.infer(types, attributes), InvalidArgument);
  };
  refused({batched({1, 3, kSide, kSide})}, good.attributes);
  refused({good.types[0], integers({1, 2})}, good.attributes);
  refused({{DType::u8, {1, 9, kSide, kSide}, true}}, good.attributes);
  for (const auto& [name, value] : std::vector<std::pair<std::string, Attribute>>{
           {"padding", std::int64_t{32}}, {"padding", std::int64_t{-1}}, {"deviation_1", 0.0}}) {
    Attributes attributes = good.attributes;
    attributes[name] = value;
    refused(good.types, attributes);
  }
  Attributes without = good.attributes;
  without.erase("mean_2");
  refused(good.types, without);
}

}  // namespace
}  // namespace thimble::testing
