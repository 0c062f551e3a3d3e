// The shape of the graph: which shortcut, which names, which outputs.
#include <gtest/gtest.h>

#include <set>

#include "temporary_folder.h"
#include "thimble/error.h"
#include "thimble/ops.h"
#include "thimble/wide_resnet.h"

namespace thimble {
namespace {

Graph graph_of(const WideResNet& model, Mode mode = Mode::train, std::int64_t batch = 4) {
  OpRegistry registry;
  register_ops(registry);
  return build_wide_resnet(model, registry, batch, mode);
}

const Op& op_named(const Graph& graph, const std::string& name) {
  for (const Op& op : graph.ops)
    if (op.name == name) return op;
  throw InvalidArgument("no op " + name);
}

std::vector<std::string> input_names(const Graph& graph, const std::string& op) {
  std::vector<std::string> names;
  for (TensorId id : op_named(graph, op).inputs) names.push_back(graph.tensors[id].name);
  return names;
}

std::set<std::pair<std::string, Role>> persistent(const Graph& graph) {
  std::set<std::pair<std::string, Role>> all;
  for (const Tensor& tensor : graph.tensors)
    if (tensor.producer == kNoOp && is_persistent(tensor)) all.insert({tensor.name, tensor.role});
  return all;
}

// Counted from the definition: convolutions, two vectors a normalisation, the classifier.
std::int64_t formula(std::int64_t depth, std::int64_t width, std::int64_t classes) {
  const std::int64_t blocks = (depth - 4) / 6;
  std::int64_t count = 3 * 3 * 3 * 16, in = 16;
  for (std::int64_t base : {16, 32, 64})
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t out = base * width;
      count += 2 * in + 9 * in * out + 2 * out + 9 * out * out;
      if (in != out) count += in * out;
      in = out;
    }
  return count + 2 * in + classes * in + classes;
}

TEST(WideResNetGraph, CountsAsTheFormulaDoes) {
  EXPECT_EQ(formula(28, 2, 10), 1467610);
  for (const WideResNet& model :
       {WideResNet{}, WideResNet{10, 1, 10}, WideResNet{16, 4, 100}, WideResNet{40, 1, 10, false}})
    EXPECT_EQ(parameter_count(graph_of(model)), formula(model.depth, model.width, model.classes));
}

TEST(WideResNetGraph, ShortcutIsRawOrAConvolutionOfTheRectified) {
  const Graph wide = graph_of({});
  EXPECT_EQ(input_names(wide, "block0.shortcut"), (std::vector<std::string>{"block0.bn1", "block0.shortcut.weight"}));
  EXPECT_EQ(input_names(wide, "block0.conv1")[0], "block0.bn1");
  EXPECT_EQ(input_names(wide, "block0.add"), (std::vector<std::string>{"block0.conv2", "block0.shortcut"}));
  EXPECT_EQ(input_names(wide, "block1.add"), (std::vector<std::string>{"block1.conv2", "block0.add"}));
  std::vector<std::string> with_shortcut;
  for (const Op& op : wide.ops)
    if (op.name.ends_with(".shortcut")) with_shortcut.push_back(op.name);
  EXPECT_EQ(with_shortcut, (std::vector<std::string>{"block0.shortcut", "block4.shortcut", "block8.shortcut"}));
  // Width 1: the first group changes neither channels nor stride.
  EXPECT_EQ(input_names(graph_of({.depth = 10, .width = 1}), "block0.add"),
            (std::vector<std::string>{"block0.conv2", "stem"}));
}

TEST(WideResNetGraph, ShapesHalveAtEveryGroup) {
  const Graph g = graph_of({});
  const auto shape = [&](const char* name) { return g.tensors[g.find(name)].type.shape; };
  EXPECT_EQ(shape("stem"), (std::vector<std::int64_t>{4, 32, 32, 16}));
  EXPECT_EQ(shape("block3.add"), (std::vector<std::int64_t>{4, 32, 32, 32}));
  EXPECT_EQ(shape("block4.shortcut"), (std::vector<std::int64_t>{4, 16, 16, 64}));
  EXPECT_EQ(shape("block11.add"), (std::vector<std::int64_t>{4, 8, 8, 128}));
  EXPECT_EQ(shape("block4.conv1.weight"), (std::vector<std::int64_t>{64, 32, 3, 3}));
  EXPECT_EQ(shape("classifier.weight"), (std::vector<std::int64_t>{10, 128}));
}

TEST(WideResNetGraph, BothModesHaveTheSamePersistentTensorsAndOutputs) {
  for (bool fuse : {true, false}) {
    const Graph train = graph_of({.depth = 10, .fuse = fuse}),
                evaluate = graph_of({.depth = 10, .fuse = fuse}, Mode::evaluate);
    EXPECT_EQ(persistent(train), persistent(evaluate));
    EXPECT_EQ(persistent(train).count({"final.bn.running_variance", Role::statistic}), 1u);
    for (const Graph& g : {train, evaluate})
      for (const char* name : {"loss", "correct"}) {
        ASSERT_NE(g.find(name), kNoTensor);
        EXPECT_TRUE(g.tensors[g.find(name)].is_output);
      }
    for (const Op& op : evaluate.ops) EXPECT_TRUE(op.kind != "batch_norm" && op.kind != "running_statistics");
  }
}

TEST(WideResNetGraph, WithoutFusionEveryNormalisationHasItsReLU) {
  const Graph g = graph_of({.depth = 10, .fuse = false});
  int norms = 0, relus = 0;
  for (const Op& op : g.ops) {
    if (op.kind == "batch_norm") {
      EXPECT_EQ(int_attribute(op.attributes, "relu"), 0);
    }
    norms += op.kind == "batch_norm";
    relus += op.kind == "relu";
  }
  EXPECT_EQ(norms, 7);
  EXPECT_EQ(relus, 7);
  EXPECT_EQ(input_names(g, "block0.conv1")[0], "block0.relu1");
  EXPECT_EQ(input_names(g, "pool")[0], "final.relu");
}

TEST(WideResNetGraph, GroupNormalisationHasNothingThatRuns) {
  for (bool fuse : {true, false}) {
    const WideResNet model{.fuse = fuse, .norm = Norm::group};
    const Graph train = graph_of(model), evaluate = graph_of(model, Mode::evaluate);
    EXPECT_EQ(parameter_count(train), 1467610);
    EXPECT_EQ(persistent(train), persistent(evaluate));
    ASSERT_EQ(train.ops.size(), evaluate.ops.size());
    for (std::size_t i = 1; i < train.ops.size(); ++i) {  // all but the pictures' crops
      const Op &a = train.ops[static_cast<OpId>(i)], &b = evaluate.ops[static_cast<OpId>(i)];
      EXPECT_TRUE(a.kind == b.kind && a.name == b.name && a.attributes == b.attributes) << a.name;
    }
    for (const auto& [name, role] : persistent(train)) EXPECT_EQ(role, Role::weight) << name;
    for (const char* name : {"block0.gn1.weight", "block0.gn2.bias", "block11.gn2.weight", "final.gn.bias"})
      EXPECT_EQ(persistent(train).count({name, Role::weight}), 1u) << name;
    int norms = 0;
    for (const Op& op : train.ops) {
      EXPECT_TRUE(op.kind != "batch_norm" && op.kind != "running_statistics");
      if (op.kind != "group_norm") continue;
      ++norms;
      EXPECT_EQ(int_attribute(op.attributes, "groups"), 16);
      EXPECT_EQ(int_attribute(op.attributes, "relu"), std::int64_t{fuse});
    }
    EXPECT_EQ(norms, 25);
  }
}

TEST(WideResNetGraph, NamesTheRuleWhereItIsBroken) {
  EXPECT_TRUE(holds(message_of<InvalidArgument>([] { parse_wide_resnet("wrn-27-2"); }), "6n + 4"));
  EXPECT_TRUE(holds(message_of<InvalidArgument>([] { parse_wide_resnet("resnet50"); }), "wrn-DEPTH-WIDTH"));
  EXPECT_EQ(parse_wide_resnet("wrn-16-4"), (WideResNet{.depth = 16, .width = 4}));
  EXPECT_THROW(graph_of({}, Mode::train, 0), InvalidArgument);
  EXPECT_THROW(graph_of({.classes = 1}), InvalidArgument);
}

}  // namespace
}  // namespace thimble
