#include <gtest/gtest.h>

#include <cmath>

#include "run_plan.h"

namespace thimble::testing {
namespace {

double loss_with(const Graph& forward, const OpRegistry& registry, const std::string& name, std::size_t at,
                 float delta) {
  HostMemory memory;
  Runtime runtime(plan_of(registry, forward), registry, memory);
  fill_persistent(runtime);
  reinterpret_cast<float*>(runtime.persistent(name).data())[at] += delta;
  return static_cast<double>(run_once(runtime, "train").at("loss")[0]);
}

void expect_finite_differences(const Graph& forward, const OpRegistry& registry) {
  const Graph graph = differentiate(forward, registry, forward.find("loss"));
  const Values values = run_plan(plan_of(registry, graph), registry);
  std::size_t gradients = 0;
  for (const std::string name : {"w1", "w2"}) {
    const Tensor& w = forward.tensors[forward.find(name)];
    for (const Tensor& tensor : graph.tensors) {
      if (!tensor.is_output || tensor.type != w.type) continue;
      ++gradients;
      const std::vector<float>& gradient = values.at(tensor.name);
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        const double slope =
            (loss_with(forward, registry, name, i, 0.125F) - loss_with(forward, registry, name, i, -0.125F)) / 0.25;
        EXPECT_NEAR(static_cast<double>(gradient[i]), slope, 1e-4)
            << name << ' ' << i;  // the loss is quadratic: exact but for rounding
      }
    }
  }
  EXPECT_EQ(gradients, 2U);
}

TEST(Differentiate, GradientsOfTheChainAreFiniteDifferences) {
  const OpRegistry registry = tiny_registry();
  expect_finite_differences(chain(registry), registry);
}

TEST(Differentiate, ValuesReadTwiceGetTheSumOfTheirGradients) {
  const OpRegistry registry = tiny_registry();
  expect_finite_differences(diamond(registry), registry);
}

TEST(Differentiate, AForwardOpCanBeAskedForOneMoreOutput) {
  const OpRegistry registry = tiny_registry();
  const Graph forward = chain(registry);
  const Graph graph = differentiate(forward, registry, forward.find("loss"));
  EXPECT_EQ(forward.find("loss.difference"), kNoTensor);
  ASSERT_NE(graph.find("loss.difference"), kNoTensor);
  EXPECT_EQ(graph.tensors[graph.find("loss.difference")].consumers.size(), 1U);
}

TEST(Differentiate, NamesTheOpWithoutAGradientRule) {
  OpRegistry registry;
  OpDefinition mute = scale_op();
  mute.gradient = {};
  for (OpDefinition op : {mute, add_op(), dense_op(), dense_input_gradient_op(), dense_weight_gradient_op(),
                          square_loss_op(), loss_gradient_op()})
    registry.add(op);
  const Graph forward = chain(registry);
  try {
    differentiate(forward, registry, forward.find("loss"));
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("'s'"), std::string::npos);
  }
  EXPECT_THROW(differentiate(forward, registry, kNoTensor), InvalidArgument);
}

TEST(Differentiate, StateHasTheNameAndTypeOfItsWeight) {
  const OpRegistry registry = tiny_registry();
  const Graph graph = step_graph(registry, chain(registry));
  const TensorId momentum = graph.find("w1.momentum");
  ASSERT_NE(momentum, kNoTensor);
  EXPECT_EQ(graph.tensors[momentum].type, graph.tensors[graph.find("w1")].type);
  EXPECT_EQ(graph.tensors[momentum].role, Role::optimizer);
}

}  // namespace
}  // namespace thimble::testing
