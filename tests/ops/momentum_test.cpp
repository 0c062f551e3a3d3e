// Heavy-ball SGD in two ops against the one op, and against the sum of gradients over microbatches.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "thimble/error.h"
#include "thimble/ops.h"

namespace thimble {
namespace {

constexpr std::int64_t kCount = 1001;
const TensorType kType{DType::f32, {kCount}, false};
using Values = std::vector<float>;

Values random_values(unsigned seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Values values(kCount);
  for (float& value : values) value = normal(random);
  return values;
}

void run(const char* kind, const Attributes& attributes, std::vector<const Values*> in, std::vector<Values*> out,
         bool first, float learning_rate) {
  OpRegistry registry;
  register_ops(registry);
  OpShape shape{std::vector<TensorType>(in.size(), kType), std::vector<TensorType>(out.size(), kType), attributes, {}};
  std::vector<const std::byte*> inputs;
  std::vector<std::byte*> outputs;
  for (const Values* values : in) inputs.push_back(reinterpret_cast<const std::byte*>(values->data()));
  for (Values* values : out) outputs.push_back(reinterpret_cast<std::byte*>(values->data()));
  const StepScalars scalars{.learning_rate = learning_rate};
  registry.at(kind).make_kernel(shape)->run({inputs, outputs, nullptr, &scalars, {0, 1}, 1, first});
}

const Attributes kRates{{"momentum", 0.9}, {"weight_decay", 5e-4}};

TEST(Momentum, OneMicrobatchGivesTheBitsOfTheOneOp) {
  const Values w = random_values(1, 1), v = random_values(2, 0.1f), g = random_values(3, 0.01f);
  Attributes attributes = kRates;
  attributes["nesterov"] = std::int64_t{0};
  Values w1(kCount), v1(kCount), w2(kCount), v2(kCount);
  run("sgd_update", attributes, {&w, &g, &v}, {&w1, &v1}, true, 0.1f);
  run("momentum_accumulate", kRates, {&g, &v, &w}, {&v2}, true, 0.1f);
  run("momentum_update", {}, {&w, &v2}, {&w2}, true, 0.1f);
  EXPECT_EQ(v1, v2);
  EXPECT_EQ(w1, w2);
}

// Every float operation rounds by at most 2^-24 of its result: k sums and the first product and decay.
TEST(Momentum, MicrobatchesStayWithinTheRoundingOfTheirSum) {
  const Attributes no_decay{{"momentum", 0.9}, {"weight_decay", 0.0}};
  for (int k : {1, 2, 10, 100}) {
    const Values w = random_values(1, 1), v = random_values(2, 0.1f);
    Values sum = v;
    std::vector<double> exact(kCount), magnitude(kCount);
    const auto momentum = static_cast<double>(0.9f);
    for (std::size_t i = 0; i < kCount; ++i) {
      exact[i] = momentum * static_cast<double>(v[i]);
      magnitude[i] = std::abs(exact[i]);
    }
    for (int part = 0; part < k; ++part) {
      const Values g = random_values(10 + static_cast<unsigned>(part), 0.01f);
      run("momentum_accumulate", no_decay, {&g, &sum, &w}, {&sum}, part == 0, 0.1f);
      for (std::size_t i = 0; i < kCount; ++i) {
        exact[i] += static_cast<double>(g[i]);
        magnitude[i] += std::abs(static_cast<double>(g[i]));
      }
    }
    for (std::size_t i = 0; i < kCount; ++i)
      ASSERT_LE(std::abs(static_cast<double>(sum[i]) - exact[i]), 2 * k * std::ldexp(1.0, -24) * magnitude[i])
          << k << " parts, value " << i;
  }
}

TEST(Momentum, RefusesTensorsThatDiffer) {
  OpRegistry registry;
  register_ops(registry);
  EXPECT_THROW(registry.at("momentum_accumulate").infer({kType, kType, {DType::f32, {2}, false}}, kRates),
               InvalidArgument);
  EXPECT_THROW(registry.at("momentum_accumulate").infer({kType, kType, kType}, {}), InvalidArgument);
  EXPECT_THROW(registry.at("momentum_update").infer({kType}, {}), InvalidArgument);
}

}  // namespace
}  // namespace thimble
