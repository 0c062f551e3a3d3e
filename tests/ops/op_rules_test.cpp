// What ops refuse, and promises of single ops that no row of the table shows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "guarded_run.h"
#include "test_tensors.h"
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

Attributes window(std::int64_t stride, std::int64_t padding) { return {{"stride", stride}, {"padding", padding}}; }

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
                  .inputs = {bytes_from(Floats{1, 2, 3}), ByteVector(4)},
                  .attributes = {},
                  .samples = 1,
                  .batch = 1};
    std::memcpy(run.inputs[1].data(), &label, 4);
    EXPECT_THROW(run_guarded(registry_, run), InvalidArgument) << label;
  }
}

TEST_F(OpRules, TapConvolutionsRefuseHeadsKernelsAndRatesThatCannotBe) {
  const std::vector<TensorType> inputs{batched({2, 5, 12}), plain({4, 3}), integers({2})};
  const auto with = [](std::int64_t heads, std::int64_t kernel, double rate) {
    return Attributes{{"heads", heads}, {"kernel", kernel}, {"rate", rate}, {"stream", std::int64_t{0}}};
  };
  EXPECT_EQ(refusal("light_conv", inputs, with(4, 3, 0.1)), "accepted");
  EXPECT_THAT(refusal("light_conv", inputs, with(5, 3, 0.1)), HasSubstr("5 heads"));
  EXPECT_THAT(refusal("light_conv", inputs, with(4, 65, 0.1)), HasSubstr("kernel of 65"));
  EXPECT_THAT(refusal("light_conv", inputs, with(4, 3, 1.0)), HasSubstr("rate"));
  EXPECT_THAT(refusal("light_conv", inputs, with(4, 5, 0.1)), HasSubstr("differ"));
  EXPECT_THAT(refusal("dynamic_conv", inputs, with(4, 3, 0.1)), HasSubstr("differ"));
  EXPECT_THAT(refusal("attention", {batched({2, 5, 12}), batched({3, 5, 12}), batched({3, 5, 12}), integers({2}), {}},
                      with(4, 3, 0.1)),
              HasSubstr("other batches"));
}

// What calibration fills integers with: an op that finds no sentence would be measured as one that does nothing.
TEST_F(OpRules, MeasuredSentencesAreFullAndTokensDiffer) {
  using Shape = std::vector<std::int64_t>;
  const auto filled = [&](const char* kind, const std::vector<Shape>& inputs, std::size_t input) {
    OpShape shape;
    for (const Shape& one : inputs) shape.inputs.push_back({DType::f32, one, true});
    shape.outputs.push_back({DType::f32, {3, 4}});
    std::vector<std::int32_t> values(6, 0);
    registry_.at(kind).fullest(shape, input, values);
    return values;
  };
  const Shape rows{6, 5, 8}, columns{6, 7, 8}, ids{6, 5}, lengths{6}, logits{6, 5, 3}, table{3, 8};
  const std::vector<std::int32_t> fives(6, 5), sevens(6, 7), zeros(6, 0), tokens{0, 1, 2, 0, 1, 2};
  EXPECT_EQ(filled("attention", {rows, columns, columns, lengths, lengths}, 3), fives);
  EXPECT_EQ(filled("attention", {rows, columns, columns, lengths, lengths}, 4), sevens);
  const std::vector<Shape> back{rows, rows, columns, columns, logits, lengths, lengths};
  EXPECT_EQ(filled("attention_backward", back, 5), fives);
  EXPECT_EQ(filled("attention_backward", back, 6), sevens);
  for (const std::string kind : {"dynamic_conv", "light_conv"}) {
    EXPECT_EQ(filled(kind.c_str(), {rows, logits, lengths}, 2), fives);
    EXPECT_EQ(filled((kind + "_backward").c_str(), {rows, rows, logits, lengths}, 3), fives);
  }
  EXPECT_EQ(filled("vocabulary_loss", {rows, table, ids, lengths}, 3), fives);
  EXPECT_EQ(filled("vocabulary_loss", {rows, table, ids, lengths}, 2), zeros);
  EXPECT_EQ(filled("embedding", {ids, lengths, table}, 1), fives);
  EXPECT_EQ(filled("embedding", {ids, lengths, table}, 0), tokens);
  EXPECT_EQ(filled("embedding_backward", {ids, lengths, rows}, 1), fives);
  EXPECT_EQ(filled("embedding_backward", {ids, lengths, rows}, 0), tokens);
}

TEST_F(OpRules, StepsOfADecoderRefusePoolsAndAncestorsThatDoNotFit) {
  const TensorType position{DType::i32, {1}, false}, x = batched({3, 4, 12});
  const Attributes taps{{"heads", std::int64_t{2}}, {"kernel", std::int64_t{5}}};
  const auto step = [&](TensorType logits, std::int64_t rows, std::int64_t slots, std::int64_t depth, TensorType at) {
    return refusal("step_conv", {x, logits, plain({rows, slots, 12}), integers({3, 4, depth}), integers({3}), at},
                   taps);
  };
  EXPECT_EQ(step(batched({3, 4, 10}), 12, 5, 4, position), "accepted");
  EXPECT_THAT(step(batched({3, 4, 8}), 12, 5, 4, position), HasSubstr("differ"));
  EXPECT_THAT(step(batched({3, 4, 10}), 11, 5, 4, position), HasSubstr("pool of 11 rows"));
  EXPECT_THAT(step(batched({3, 4, 10}), 12, 4, 4, position), HasSubstr("whose rows do not fit"));
  EXPECT_THAT(step(batched({3, 4, 10}), 12, 5, 3, position), HasSubstr("4 positions or more"));
  EXPECT_THAT(step(batched({3, 4, 10}), 12, 5, 4, integers({1})), HasSubstr("the position"));

  EXPECT_EQ(refusal("keep_rows", {x, plain({12, 12})}), "accepted");
  EXPECT_THAT(refusal("keep_rows", {x, plain({11, 12})}), HasSubstr("3 sentences of 4 rows"));
  EXPECT_THAT(refusal("keep_rows", {x, plain({12, 11})}), HasSubstr("whose rows do not fit"));
  EXPECT_THAT(refusal("keep_rows", {x, batched({12, 12})}), HasSubstr("batched"));

  const auto attend = [&](const TensorType& keys, const TensorType& values, std::int64_t room) {
    return refusal("pool_attention", {x, keys, values, integers({3}), integers({3})},
                   {{"heads", std::int64_t{2}}, {"room", room}});
  };
  EXPECT_EQ(attend(plain({27, 12}), plain({27, 12}), 9), "accepted");
  EXPECT_THAT(attend(plain({26, 12}), plain({26, 12}), 9), HasSubstr("3 sentences of 9 rows"));
  EXPECT_THAT(attend(plain({27, 12}), plain({28, 12}), 9), HasSubstr("differ"));
  EXPECT_THAT(attend(plain({27, 12}), plain({27, 12}), 0), HasSubstr("room for 0 keys"));
  EXPECT_THAT(attend(plain({9999, 12}), plain({9999, 12}), 1025), HasSubstr("room for 1025 keys"));

  EXPECT_THAT(refusal("embedding_at", {integers({3, 4}), integers({3}), plain({9, 8}), integers({1})},
                      {{"scale", 1.0}, {"first_position", std::int64_t{2}}}),
              HasSubstr("the position"));
}

TEST_F(OpRules, BestTokensRefusesMoreThanThereAre) {
  const auto best = [&](std::int64_t channels, std::int64_t count, std::int64_t first, std::int64_t slice) {
    return refusal("best_tokens", {batched({3, 4, 12}), plain({9, channels}), integers({3})},
                   {{"count", count}, {"first", first}, {"slice", slice}});
  };
  EXPECT_EQ(best(12, 7, 2, 1), "accepted");
  EXPECT_THAT(best(12, 8, 2, 1), HasSubstr("8 of the 9 entries"));
  EXPECT_THAT(best(12, 0, 2, 1), HasSubstr("0 of the 9 entries"));
  EXPECT_THAT(best(12, 1, -1, 1), HasSubstr("from entry -1"));
  EXPECT_THAT(best(12, 7, 2, 0), HasSubstr("slice of 0"));
  EXPECT_THAT(best(11, 7, 2, 1), HasSubstr("output matrix"));
}

// Ids, lengths and the count of tokens come from data: a kernel checks them before it reads by them.
TEST_F(OpRules, KernelsOnSentencesRefuseWhatDataMayNotHold) {
  const auto refusal_of = [&](std::int32_t id, std::int32_t length, std::int64_t terms) {
    KernelRun run{.kind = "vocabulary_loss",
                  .types = {batched({1, 2, 4}), plain({3, 4}), integers({1, 2}), integers({1})},
                  .inputs = {bytes_from(std::vector<float>(8)), bytes_from(std::vector<float>(12)),
                             bytes_from(Ints{id, id}), bytes_from(Ints{length})},
                  .attributes = {{"smoothing", 0.1}, {"slice", std::int64_t{8}}}};
    run.scalars.loss_terms = terms;
    run.samples = run.batch = 1;
    try {
      run_guarded(registry_, run);
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refusal_of(2, 2, 2), "accepted");
  EXPECT_THAT(refusal_of(3, 2, 2), HasSubstr("target 3"));
  EXPECT_THAT(refusal_of(-1, 2, 2), HasSubstr("target -1"));
  EXPECT_THAT(refusal_of(2, 3, 2), HasSubstr("length of 3"));
  EXPECT_THAT(refusal_of(2, -1, 2), HasSubstr("length of -1"));
  EXPECT_THAT(refusal_of(2, 2, 0), HasSubstr("loss_terms"));
}

TEST_F(OpRules, EmbeddingRefusesIdsThatNoRowHas) {
  for (std::int32_t id : {-1, 5}) {
    KernelRun run{.kind = "embedding",
                  .types = {integers({1, 1}), integers({1}), plain({5, 4})},
                  .inputs = {bytes_from(Ints{id}), bytes_from(Ints{1}), bytes_from(std::vector<float>(20))},
                  .attributes = {{"scale", 1.0}, {"first_position", std::int64_t{2}}}};
    run.samples = run.batch = 1;
    EXPECT_THROW(run_guarded(registry_, run), InvalidArgument) << id;
  }
}

TEST_F(OpRules, AMaskSetsNoBitBehindTheLastElement) {
  const KernelRun run{.kind = "relu",
                      .types = {batched({2, 5})},
                      .inputs = {bytes_from(Floats{1, -1, 2, -2, 3, -3, 4, 0, 5, 6})},
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
                                                      .inputs = {bytes_from(Floats{std::nanf(""), -1})},
                                                      .attributes = {},
                                                      .samples = 1,
                                                      .batch = 1});
  EXPECT_TRUE(std::isnan(values_from<float>(result.outputs[0])[0]));
  EXPECT_EQ(values_from<float>(result.outputs[0])[1], 0);
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
  const auto whole = values_from<float>(run_guarded(registry_, run).outputs[0]);
  run.types = {batched({2, 130})};
  run.inputs = {bytes_from(std::vector<float>(2 * 130, 1.0f))};
  run.first_sample = 4;
  run.samples = 2;
  const auto part = values_from<float>(run_guarded(registry_, run).outputs[0]);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 4 * 130));
  run.scalars.step = 3;
  EXPECT_NE(values_from<float>(run_guarded(registry_, run).outputs[0]), part);
}

TEST_F(OpRules, RegistersTheEnginesThatDecideBits) {
  EXPECT_THAT(registry_.engines({}).at("onednn"), HasSubstr("."));
  EXPECT_FALSE(registry_.engines({}).at("isa").empty());
  EXPECT_FALSE(registry_.engines({}).at("kernels").empty());
}

TEST_F(OpRules, ConvolutionsCountTwoFlopsPerProduct) {
  const OpShape shape{{batched({2, 4, 4, 3}), plain({5, 3, 3, 3})}, {batched({2, 4, 4, 5})}, window(1, 1), {}};
  EXPECT_EQ(registry_.cost("conv2d", shape).flops, 2.0 * 2 * 4 * 4 * 5 * 3 * 9);
}

}  // namespace
}  // namespace thimble::testing
