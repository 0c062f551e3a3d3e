#include "thimble/rewrite.h"

#include <gtest/gtest.h>

#include "run_plan.h"

namespace thimble::testing {
namespace {

template <class Function>
std::string message_of(Function function) {
  try {
    function();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "nothing was thrown";
}

OpId op_named(const Graph& graph, std::string_view name) {
  for (std::size_t i = 0; i < graph.ops.size(); ++i)
    if (graph.ops[static_cast<OpId>(i)].name == name) return static_cast<OpId>(i);
  return kNoOp;
}

class Rewrite : public ::testing::Test {
 protected:
  Rewrite() : registry_(tiny_registry()), graph_(step_graph(registry_, with_running_state(registry_))) {}

  // The op as it is, to be changed.
  Op op(std::string_view name) const { return graph_.ops[op_named(graph_, name)]; }
  std::string refusal(const OpChanges& changes) const {
    return message_of([&] { change_ops(graph_, registry_, changes); });
  }

  OpRegistry registry_;
  Graph graph_;
};

TEST_F(Rewrite, OfNothingIsTheGraphItself) { EXPECT_EQ(change_ops(graph_, registry_, {}), graph_); }

// The chain's scale is the identity where its factor is one: its readers may read what it reads.
TEST_F(Rewrite, RemovesAnOpAndNumbersTheRestAnew) {
  const Graph forward = chain(registry_);
  OpChanges changes;
  changes[op_named(forward, "s")] = std::nullopt;
  Op reader = forward.ops[op_named(forward, "y")];
  reader.inputs[0] = forward.find("h");
  changes[op_named(forward, "y")] = reader;
  const Graph shorter = change_ops(forward, registry_, changes);

  auto [expected, x] = start();
  const TensorId w1 = weight(expected, "w1", 4, 3), w2 = weight(expected, "w2", 2, 4);
  const TensorId h = expected.add_op(registry_, "dense", "h", {x, w1}).front();
  const TensorId y = expected.add_op(registry_, "dense", "y", {h, w2}).front();
  EXPECT_EQ(shorter, finish(registry_, std::move(expected), y));
}

TEST_F(Rewrite, AChangedOpKeepsItsPlaceAndItsOutputsName) {
  OpChanges changes;
  Op twice = op("s");
  twice.attributes["factor"] = 0.25;
  changes[op_named(graph_, "s")] = twice;
  const Graph changed = change_ops(graph_, registry_, changes);
  Graph expected = graph_;
  expected.ops[op_named(graph_, "s")].attributes["factor"] = 0.25;
  EXPECT_EQ(changed, expected);
  EXPECT_EQ(check_plan(plan_of(registry_, changed), registry_), std::vector<std::string>{});
}

TEST_F(Rewrite, RefusesToTakeAwayWhatIsRead) {
  EXPECT_EQ(refusal({{op_named(graph_, "s"), std::nullopt}}),
            "rewrite: op 'flat' reads 's', which no op makes any longer");
  EXPECT_EQ(refusal({{op_named(graph_, "loss"), std::nullopt}}), "rewrite: output 'loss' is made by no op any longer");
}

TEST_F(Rewrite, RefusesOpsThatDoNotMakeWhatTheyTakeOver) {
  Op wide = op("h");
  std::swap(wide.inputs[1], wide.inputs[0]);  // other types
  EXPECT_NE(refusal({{op_named(graph_, "h"), wide}}).find("dense"), std::string::npos);
  Op two = op("h");
  two.outputs.push_back(op("s").outputs[0]);
  EXPECT_NE(refusal({{op_named(graph_, "h"), two}}).find("'h' has other outputs than its kind 'dense' makes"),
            std::string::npos);
  Op again = op("s");
  again.outputs = op("tall").outputs;
  EXPECT_NE(refusal({{op_named(graph_, "s"), again}}).find("there without it"), std::string::npos);
  Op given = op("s");
  given.outputs = {graph_.find("x")};
  EXPECT_NE(refusal({{op_named(graph_, "s"), given}}), "nothing was thrown");
  EXPECT_NE(refusal({{OpId{999}, std::nullopt}}).find("999"), std::string::npos);
  Op outside = op("s");
  outside.inputs = {TensorId{999}};
  EXPECT_NE(refusal({{op_named(graph_, "s"), outside}}).find("'s'"), std::string::npos);
}

TEST_F(Rewrite, AnUpdatedStateStaysAVersionOfTheOld) {
  Op other = op("count");
  other.inputs[1] = graph_.find("w1");
  EXPECT_NE(refusal({{op_named(graph_, "count"), other}}), "nothing was thrown");
  OpChanges changes;
  changes[op_named(graph_, "count")] = std::nullopt;  // nobody reads the count
  const Graph without = change_ops(graph_, registry_, changes);
  EXPECT_EQ(without.find("count"), kNoTensor);
  ASSERT_NE(without.find("seen"), kNoTensor);
  EXPECT_TRUE(without.tensors[without.find("seen")].consumers.empty());
  for (const Tensor& tensor : without.tensors)
    if (tensor.version_of != kNoTensor) {
      EXPECT_EQ(tensor.type, without.tensors[tensor.version_of].type) << tensor.name;
    }
}

TEST(Registry, FindsRewritesByName) {
  OpRegistry registry = tiny_registry();
  const auto unchanged = [](const Graph& graph, const OpRegistry&) { return graph; };
  EXPECT_EQ(message_of([&] { registry.rewrite("fuse"); }), "registry: graph rewrite 'fuse' is unknown; there is none");
  registry.add_rewrite({"fuse", unchanged});
  registry.add_rewrite({"pack", unchanged});
  ASSERT_EQ(registry.rewrites().size(), 2U);
  EXPECT_EQ(registry.rewrite("pack").name, "pack");
  EXPECT_EQ(message_of([&] { registry.rewrite("melt"); }),
            "registry: graph rewrite 'melt' is unknown; there is 'fuse', 'pack'");
  EXPECT_NE(message_of([&] { registry.add_rewrite({"fuse", unchanged}); }).find("'fuse'"), std::string::npos);
  EXPECT_NE(message_of([&] { registry.add_rewrite({"empty", {}}); }).find("'empty'"), std::string::npos);
}

}  // namespace
}  // namespace thimble::testing
