#include "thimble/initialize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "thimble/error.h"

namespace thimble {
namespace {

std::vector<float> made(const char* name, std::vector<std::int64_t> shape, std::uint64_t seed = 1) {
  const TensorType type{DType::f32, std::move(shape)};
  std::vector<float> values(static_cast<std::size_t>(element_count(type)), -99.0f);
  initialize_parameter(values, name, type, seed);
  return values;
}

struct Moments {
  double mean = 0, variance = 0, beyond_two = 0;
};

Moments moments(const std::vector<float>& values) {
  const auto n = static_cast<double>(values.size());
  Moments m;
  for (float v : values) m.mean += v / n;
  for (float v : values) m.variance += (v - m.mean) * (v - m.mean) / n;
  for (float v : values) m.beyond_two += (std::abs(v) > 2 * std::sqrt(m.variance)) / n;
  return m;
}

TEST(Initialize, ConvolutionsAreNormalWithFanOut) {
  const auto values = made("block0.conv1.weight", {128, 64, 3, 3});
  const double variance = 2.0 / (9 * 128);
  const Moments m = moments(values);  // five standard errors each
  const auto n = static_cast<double>(values.size());
  EXPECT_NEAR(m.mean, 0, 5 * std::sqrt(variance / n));
  EXPECT_NEAR(m.variance, variance, 5 * variance * std::sqrt(2 / n));
  EXPECT_NEAR(m.beyond_two, 0.0455, 0.005);  // of a normal distribution
}

TEST(Initialize, LinearWeightsAreUniform) {
  const auto values = made("classifier.weight", {100, 64});
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*least, -0.125f);
  EXPECT_LE(*most, 0.125f);
  EXPECT_LT(*least, -0.12f);
  EXPECT_GT(*most, 0.12f);
  EXPECT_NEAR(moments(values).variance, 0.125 * 0.125 / 3, 0.0003);
}

TEST(Initialize, LinearWeightsOfTranslationAreGlorots) {
  const float bound = std::sqrt(6.0f / (48 + 102));
  const auto values = made("encoder.layer0.conv.in.weight", {48, 102});
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*least, -bound);
  EXPECT_LE(*most, bound);
  EXPECT_LT(*least, -0.98f * bound);
  EXPECT_GT(*most, 0.98f * bound);
}

TEST(Initialize, EmbeddingsAreNormalAndTheirPaddingIsZero) {
  for (const char* name : {"encoder.embedding.weight", "decoder.output.weight"}) {
    auto values = made(name, {200, 64});
    const bool has_padding = std::all_of(values.begin() + 64, values.begin() + 128, [](float v) { return v == 0; });
    EXPECT_EQ(has_padding, std::string(name).find("embedding") != std::string::npos);
    values.erase(values.begin() + 64, values.begin() + 128);
    EXPECT_NEAR(moments(values).variance, 1.0 / 64, 5.0 / 64 * std::sqrt(2.0 / static_cast<double>(values.size())));
    EXPECT_NEAR(moments(values).beyond_two, 0.0455, 0.01);
  }
}

TEST(Initialize, NormalisationStartsAsIdentity) {
  EXPECT_EQ(made("final.bn.weight", {5}), std::vector<float>(5, 1.0f));
  EXPECT_EQ(made("final.bn.running_variance", {5}), std::vector<float>(5, 1.0f));
  for (const char* name : {"final.bn.bias", "final.bn.running_mean", "classifier.bias", "final.bn.weight.momentum"})
    EXPECT_EQ(made(name, {5}), std::vector<float>(5, 0.0f)) << name;
  EXPECT_EQ(made("stem.weight.momentum", {4, 3, 3, 3}), std::vector<float>(108, 0.0f));
  EXPECT_EQ(made("classifier.weight.momentum", {4, 3}), std::vector<float>(12, 0.0f));
}

TEST(Initialize, DependsOnSeedAndNameOnly) {
  EXPECT_EQ(made("a.weight", {4, 4, 3, 3}), made("a.weight", {4, 4, 3, 3}));
  EXPECT_NE(made("a.weight", {4, 4, 3, 3}), made("b.weight", {4, 4, 3, 3}));
  EXPECT_NE(made("a.weight", {4, 4, 3, 3}), made("a.weight", {4, 4, 3, 3}, 2));
}

TEST(Initialize, HashIsTheStandardOne) {
  EXPECT_EQ(stable_hash(""), 0xcbf29ce484222325u);  // vectors of the FNV authors
  EXPECT_EQ(stable_hash("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(stable_hash("foobar"), 0x85944171f73967e8u);
}

TEST(Initialize, RefusesASpanOfAnotherSize) {
  std::vector<float> values(3);
  EXPECT_THROW(initialize_parameter(values, "x", {DType::f32, {4}}, 0), InvalidArgument);
}

}  // namespace
}  // namespace thimble
