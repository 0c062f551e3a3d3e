#include <gtest/gtest.h>

#include "tiny_ops.h"

namespace thimble::testing {
namespace {

template <class Function>
std::string message_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

std::size_t position(const std::vector<OpId>& order, const Graph& graph, std::string_view name) {
  for (std::size_t i = 0; i < order.size(); ++i)
    if (graph.ops[order[i]].name == name) return i;
  return SIZE_MAX;
}

TEST(Graph, ErrorsNameTheKindTheOpAndTheAttribute) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  EXPECT_NE(message_of([&] { g.add_op(registry, "warp", "w", {x}); }).find("'warp'"), std::string::npos);
  EXPECT_NE(message_of([&] { g.add_op(registry, "scale", "s", {x}); }).find("'factor'"), std::string::npos);
  EXPECT_NE(message_of([&] {
              g.add_op(registry, "scale", "s", {x}, {{"factor", std::int64_t{1}}});
            }).find("another type"),
            std::string::npos);
  EXPECT_NE(message_of([&] {
              g.add_op(registry, "add", "plus", {x, TensorId{99}});
            }).find("'plus'"),
            std::string::npos);
  EXPECT_NE(message_of([&] { g.add_op(registry, "add", "plus", {x}); }).find("add"), std::string::npos);
  EXPECT_EQ(g.ops.size(), 0U);
}

TEST(Graph, RefusesASecondTensorOfOneName) {
  auto [g, x] = start();
  EXPECT_NE(message_of([&] { g.add_input("x", {DType::f32, {1}}, Role::input); }).find("'x'"), std::string::npos);
}

TEST(Graph, RefusesAKindRegisteredTwiceOrWithoutInfer) {
  OpRegistry registry = tiny_registry();
  EXPECT_NE(message_of([&] { registry.add(scale_op()); }).find("'scale'"), std::string::npos);
  EXPECT_NE(message_of([&] {
              registry.add({.kind = "empty",
                            .infer = {},
                            .gradient = {},
                            .cost = {},
                            .workspace = {},
                            .make_kernel = {},
                            .faster = {},
                            .in_place = {}});
            }).find("'empty'"),
            std::string::npos);
}

TEST(Graph, RunsUpdatesAsSoonAsTheyMay) {
  const OpRegistry registry = tiny_registry();
  const Graph g = step_graph(registry, chain(registry));
  const auto order = topological_order(g);
  EXPECT_EQ(position(order, g, "w2.update"), std::max(position(order, g, "y.dw"), position(order, g, "y.dx")) + 1);
  EXPECT_LT(position(order, g, "w2.update"), position(order, g, "h.dw"));
}

TEST(Graph, RunsReadersOfAnOldValueBeforeItsNewVersion) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId state = g.add_input("seen", {DType::f32, {1}}, Role::statistic);
  g.add_op(registry, "counter", "count", {x, state});
  g.add_op(registry, "scale", "late", {state}, {{"factor", 2.0}});
  const auto order = topological_order(g);
  EXPECT_LT(position(order, g, "late"), position(order, g, "count"));
}

TEST(Graph, NamesAnOpThatWaitsForItself) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId state = g.add_input("seen", {DType::f32, {1}}, Role::statistic);
  const TensorId next = g.add_op(registry, "counter", "count", {x, state}).front();
  g.add_op(registry, "add", "both", {state, next});  // reads the old value, after the new one was made
  const std::string message = message_of([&] { topological_order(g); });
  EXPECT_NE(message.find("cycle"), std::string::npos);
  EXPECT_NE(message.find("'"), std::string::npos);
}

}  // namespace
}  // namespace thimble::testing
