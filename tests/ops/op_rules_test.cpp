// What ops refuse, and promises of single ops that no row of the table shows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "guarded_run.h"
#include "thimble/error.h"
#include "thimble/ops.h"

namespace thimble::testing {
namespace {

using ::testing::HasSubstr;

class OpRules : public ::testing::Test {
 protected:
  OpRules() { register_ops(registry_); }

  std::string refusal(const std::string& kind, const std::vector<TensorType>& inputs,
                      const Attributes& attributes = {}) {
    try {
      registry_.at(kind).infer(inputs, attributes);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  }

  OpRegistry registry_;
};

TensorType batched(std::vector<std::int64_t> shape) { return {DType::f32, std::move(shape), true}; }
TensorType plain(std::vector<std::int64_t> shape) { return {DType::f32, std::move(shape), false}; }
Attributes window(std::int64_t stride, std::int64_t padding) { return {{"stride", stride}, {"padding", padding}}; }

ByteVector bytes_from(const std::vector<float>& values) {
  ByteVector bytes(4 * values.size());
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<float> floats_from(const ByteVector& bytes) {
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST_F(OpRules, ConvolutionRefusesAWindowLargerThanItsInput) {
  // Off by less than a stride: truncating division would make one output row of it.
  EXPECT_THAT(refusal("conv2d", {batched({1, 2, 2, 4}), plain({4, 4, 3, 3})}, window(2, 0)), HasSubstr("window"));
  EXPECT_EQ(refusal("conv2d", {batched({1, 3, 3, 4}), plain({4, 4, 3, 3})}, window(2, 0)), "accepted");
}

TEST_F(OpRules, ConvolutionRefusesOtherChannelsStridesAndRanks) {
  EXPECT_THAT(refusal("conv2d", {batched({1, 8, 8, 3}), plain({4, 4, 3, 3})}, window(1, 1)), HasSubstr("3 channels"));
  EXPECT_THAT(refusal("conv2d", {batched({1, 8, 8, 4}), plain({4, 4, 3, 3})}, window(0, 1)), HasSubstr("stride 0"));
  EXPECT_THAT(refusal("conv2d", {plain({1, 8, 8, 4}), plain({4, 4, 3, 3})}, window(1, 1)), HasSubstr("not batched"));
  EXPECT_THAT(refusal("conv2d", {batched({1, 8, 8, 4})}, window(1, 1)), HasSubstr("takes 2"));
  EXPECT_THAT(refusal("conv2d", {batched({1, 8, 8, 4}), plain({4, 4, 3, 3})}), HasSubstr("'stride'"));
}

TEST_F(OpRules, DropoutRefusesRatesOutsideOfZeroToOne) {
  for (double rate : {-0.1, 1.0, 1.5})
    EXPECT_THAT(refusal("dropout", {batched({2, 3})}, {{"rate", rate}, {"stream", std::int64_t{1}}}),
                HasSubstr("rate"));
}

TEST_F(OpRules, AccumulateRefusesWhatCountsSamples) {
  EXPECT_THAT(refusal("accumulate", {batched({2, 3})}), HasSubstr("batched"));
}

TEST_F(OpRules, CrossEntropyRefusesLabelsThatAreNoClass) {
  for (std::int32_t label : {-1, 3}) {
    KernelRun run{.kind = "softmax_cross_entropy",
                  .types = {batched({1, 3}), {DType::i32, {1}, true}},
                  .inputs = {bytes_from({1, 2, 3}), ByteVector(4)},
                  .attributes = {},
                  .samples = 1,
                  .batch = 1};
    std::memcpy(run.inputs[1].data(), &label, 4);
    EXPECT_THROW(run_guarded(registry_, run), InvalidArgument) << label;
  }
}

TEST_F(OpRules, AMaskSetsNoBitBehindTheLastElement) {
  const KernelRun run{.kind = "relu",
                      .types = {batched({2, 5})},
                      .inputs = {bytes_from({1, -1, 2, -2, 3, -3, 4, 0, 5, 6})},
                      .attributes = {{"mask", std::int64_t{1}}},
                      .samples = 2,
                      .batch = 2};
  const KernelResult result = run_guarded(registry_, run);
  std::uint32_t words[2];
  ASSERT_EQ(result.outputs.at(1).size(), sizeof words);  // a word per sample
  std::memcpy(words, result.outputs[1].data(), sizeof words);
  EXPECT_EQ(words[0], 0b10101u);
  EXPECT_EQ(words[1], 0b11010u);
}

TEST_F(OpRules, ReluKeepsNaN) {
  const KernelResult result = run_guarded(registry_, {.kind = "relu",
                                                      .types = {batched({1, 2})},
                                                      .inputs = {bytes_from({std::nanf(""), -1})},
                                                      .attributes = {},
                                                      .samples = 1,
                                                      .batch = 1});
  EXPECT_TRUE(std::isnan(floats_from(result.outputs[0])[0]));
  EXPECT_EQ(floats_from(result.outputs[0])[1], 0);
}

TEST_F(OpRules, DropoutDoesNotNoticeWhereABatchIsCut) {
  std::vector<float> ones(6 * 130, 1.0f);
  KernelRun run{.kind = "dropout",
                .types = {batched({6, 130})},
                .inputs = {bytes_from(ones)},
                .attributes = {{"rate", 0.5}, {"stream", std::int64_t{9}}},
                .scalars = {.seed = 4, .step = 2},
                .first_sample = 0,
                .samples = 6,
                .batch = 6};
  const auto whole = floats_from(run_guarded(registry_, run).outputs[0]);
  run.types = {batched({2, 130})};
  run.inputs = {bytes_from(std::vector<float>(2 * 130, 1.0f))};
  run.first_sample = 4;
  run.samples = 2;
  const auto part = floats_from(run_guarded(registry_, run).outputs[0]);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 4 * 130));
  run.scalars.step = 3;
  EXPECT_NE(floats_from(run_guarded(registry_, run).outputs[0]), part);
}

TEST_F(OpRules, RegistersTheEnginesThatDecideBits) {
  EXPECT_THAT(registry_.engines().at("onednn"), HasSubstr("."));
  EXPECT_FALSE(registry_.engines().at("isa").empty());
  EXPECT_FALSE(registry_.engines().at("kernels").empty());
}

TEST_F(OpRules, ConvolutionsCountTwoFlopsPerProduct) {
  const OpShape shape{{batched({2, 4, 4, 3}), plain({5, 3, 3, 3})}, {batched({2, 4, 4, 5})}, window(1, 1), {}};
  EXPECT_EQ(registry_.cost("conv2d", shape).flops, 2.0 * 2 * 4 * 4 * 5 * 3 * 9);
}

}  // namespace
}  // namespace thimble::testing
