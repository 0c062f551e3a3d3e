// BN-ReLU-conv as one op: the bits of separate ops, the workspace it books, and the rewrite that brings it into a
// graph.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "guarded_run.h"
#include "op_table.h"
#include "reference_ops.h"
#include "test_tensors.h"
#include "thimble/differentiate.h"
#include "thimble/error.h"
#include "thimble/ops.h"
#include "thimble/schedule.h"

namespace thimble::testing {
namespace {

using ::testing::HasSubstr;

// A window, a group, and the tensors of one BN-ReLU-conv: x {samples, side, side, channels} to `outputs` channels.
struct Case {
  const char* name;
  std::int64_t samples, side, channels, outputs, kernel, stride, group;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class NormConv : public ::testing::TestWithParam<Case> {
 protected:
  NormConv() {
    register_ops(registry_);
    const Case& c = GetParam();
    x_ = batched({c.samples, c.side, c.side, c.channels});
    channel_ = plain({c.channels});
    w_ = plain({c.outputs, c.channels, c.kernel, c.kernel});
    norm_ = run("batch_norm", {x_, channel_, channel_}, {x(), gamma(), beta()},
                {{"relu", std::int64_t{1}}, {"mask", std::int64_t{1}}, {"epsilon", 1e-5}});
  }

  std::vector<ByteVector> run(const std::string& kind, std::vector<TensorType> types, std::vector<ByteVector> inputs,
                              Attributes attributes) const {
    return run_guarded(registry_, {.kind = kind,
                                   .types = std::move(types),
                                   .inputs = std::move(inputs),
                                   .attributes = std::move(attributes),
                                   .device = {.threads = 2},
                                   .samples = GetParam().samples,
                                   .batch = GetParam().samples})
        .outputs;
  }

  static Attributes window() { return {{"stride", GetParam().stride}, {"padding", GetParam().kernel / 2}}; }
  static Attributes grouped(Attributes attributes, std::int64_t group) {
    attributes["epsilon"] = 1e-5;
    attributes["group"] = group;
    return attributes;
  }
  static Attributes with_kernel(Attributes attributes) {
    attributes["kernel_height"] = attributes["kernel_width"] = GetParam().kernel;
    attributes["channels"] = GetParam().channels;
    return attributes;
  }
  std::vector<TensorType> normalized_types(TensorType last) const {
    return {x_, channel_, channel_, channel_, channel_, std::move(last)};
  }
  std::vector<ByteVector> normalized_inputs(ByteVector last) const {
    return {x(), norm_[1], norm_[2], gamma(), beta(), std::move(last)};
  }

  ByteVector x() const { return normals(x_, 1); }
  ByteVector gamma() const { return normals(channel_, 2); }
  ByteVector beta() const { return normals(channel_, 3); }
  ByteVector w() const { return normals(w_, 4); }
  TensorType y_type() const { return registry_.at("conv2d").infer({x_, w_}, window())[0].type; }

  OpRegistry registry_;
  TensorType x_, channel_, w_;
  std::vector<ByteVector> norm_;  // of batch_norm: output, mean, variance, mask
};

TEST_P(NormConv, StatisticsHaveTheBitsOfBatchNorm) {
  const auto alone = run("batch_statistics", {x_}, {x()}, {});
  EXPECT_TRUE(alone[0] == norm_[1]);
  EXPECT_TRUE(alone[1] == norm_[2]);
}

TEST_P(NormConv, ForwardHasTheBitsOfSeparateOps) {
  const auto separate = run("conv2d", {x_, w_}, {norm_[0], w()}, window());
  for (const std::int64_t group : {GetParam().group, std::int64_t{1}, std::int64_t{1000}})
    EXPECT_TRUE(run("norm_conv2d", normalized_types(w_), normalized_inputs(w()), grouped(window(), group)) == separate)
        << "groups of " << group;
}

TEST_P(NormConv, APoolAndItsGradientHaveTheBitsOfSeparateOps) {
  const TensorType mean = batched({x_.shape[0], x_.shape[3]});
  const std::vector<TensorType> types{x_, channel_, channel_, channel_, channel_};
  const std::vector<ByteVector> inputs{x(), norm_[1], norm_[2], gamma(), beta()};
  const Attributes attributes{{"epsilon", 1e-5}};
  EXPECT_TRUE(run("norm_pool", types, inputs, attributes) == run("global_average_pool", {x_}, {norm_[0]}, {}));

  const ByteVector dy = normals(mean, 7);
  const ByteVector spread =
      run("global_average_pool_backward", {mean}, {dy}, {{"height", x_.shape[1]}, {"width", x_.shape[2]}})[0];
  auto with_dy = types;
  with_dy.push_back(mean);
  auto inputs_with_dy = inputs;
  inputs_with_dy.push_back(dy);
  EXPECT_TRUE(run("norm_pool_backward", with_dy, inputs_with_dy, attributes) ==
              run("batch_norm_backward", {x_, x_, channel_, channel_, channel_, channel_},
                  {spread, x(), gamma(), norm_[1], norm_[2], beta()},
                  {{"relu", std::int64_t{1}}, {"epsilon", 1e-5}, {"gate_input", std::int64_t{1}}}));
}

// More groups than one are another order of the sums.
TEST_P(NormConv, WeightsGradientInOneGroupHasTheBitsOfSeparateOps) {
  const ByteVector dy = normals(y_type(), 5);
  const Attributes attributes = with_kernel(window());
  const auto separate = run("conv2d_backward_weights", {x_, y_type()}, {norm_[0], dy}, attributes);
  EXPECT_TRUE(run("norm_conv2d_backward_weights", normalized_types(y_type()), normalized_inputs(dy),
                  grouped(attributes, 1000)) == separate);
}

TEST_P(NormConv, AGateFromTheInputHasTheBitsOfTheOtherGates) {
  const ByteVector dy = normals(x_, 6);
  const std::vector<TensorType> types{x_, x_, channel_, channel_, channel_};
  const auto backward = [&](const TensorType& type, const ByteVector& gate, const char* kind) {
    auto all = types;
    all.push_back(type);
    return run("batch_norm_backward", all, {dy, x(), gamma(), norm_[1], norm_[2], gate},
               {{"relu", std::int64_t{1}}, {"epsilon", 1e-5}, {kind, std::int64_t{1}}});
  };
  const auto by_output = backward(x_, norm_[0], "use_output");
  EXPECT_TRUE(backward(channel_, beta(), "gate_input") == by_output);
  EXPECT_TRUE(backward({DType::bit, x_.shape, true}, norm_[3], "use_mask") == by_output);
}

TEST_P(NormConv, WorkspaceGrowsWithThreadsUpToTheChunks) {
  const auto workspace = [&](int threads) {
    OpShape shape{normalized_types(w_), {y_type()}, grouped(window(), GetParam().group), {}};
    shape.device.threads = threads;
    return registry_.workspace("norm_conv2d", shape);
  };
  const Case& c = GetParam();
  const std::int64_t chunk = (c.samples + 7) / 8, chunks = (c.samples + chunk - 1) / chunk;
  const Bytes scratch = align_up(4 * std::min(c.group, chunk) * c.side * c.side * c.channels * Bytes{1}, kAlignment);
  for (int threads = 2; threads <= 10; ++threads)
    EXPECT_EQ(workspace(threads), workspace(1) + scratch * (std::min<std::int64_t>(threads, chunks) - 1)) << threads;
}

// What the gradient of a whole batch needs beside its arguments: by slices, for each thread about a quarter of it
// twice.
TEST(NormConvWorkspace, LargeWeightsGradientsNeedLessThanTwiceTheirBytes) {
  OpRegistry registry;
  register_ops(registry);
  const TensorType x = batched({100, 8, 8, 128}), c = plain({128}), w = plain({128, 128, 3, 3});
  OpShape shape{{x, c, c, c, c, x}, {w}, {}, {}};
  shape.device.threads = 2;
  const auto workspace = [&](std::int64_t channels, std::int64_t group) {
    shape.attributes = {{"stride", std::int64_t{1}},
                        {"padding", std::int64_t{1}},
                        {"epsilon", 1e-5},
                        {"group", group},
                        {"channels", channels},
                        {"kernel_height", std::int64_t{3}},
                        {"kernel_width", std::int64_t{3}}};
    return registry.workspace("norm_conv2d_backward_weights", shape);
  };
  EXPECT_LT(workspace(32, 16), bytes_of(w) * 2);
  EXPECT_GT(workspace(128, 25), bytes_of(w) * 6);
}

INSTANTIATE_TEST_SUITE_P(Cases, NormConv,
                         ::testing::Values(Case{"Plain", 40, 8, 32, 32, 3, 1, 2},
                                           Case{"Stride", 17, 8, 16, 32, 3, 2, 2},
                                           Case{"Shortcut", 17, 8, 16, 32, 1, 2, 2}, Case{"Odd", 19, 5, 5, 7, 3, 1, 2},
                                           Case{"Wide", 33, 4, 64, 64, 3, 1, 3}, Case{"One", 1, 9, 16, 16, 3, 1, 1}),
                         [](const auto& instance) { return instance.param.name; });

// The double reference of the weights' gradient is the slope of the forward reference.
TEST(NormConvReference, WeightsGradientIsAFiniteDifference) {
  constexpr std::int64_t kSide = 4, kIn = 3, kOut = 2;
  std::mt19937_64 random(8);
  const auto filled = [&](std::vector<std::int64_t> shape, double least) {
    Array array{shape, {}};
    for (std::int64_t i = element_count(plain(shape)); i > 0; --i)
      array.values.push_back(std::max(least, std::normal_distribution<double>()(random)));
    return array;
  };
  ReferenceCall call{.kind = "norm_conv2d",
                     .inputs = {},
                     .attributes = {{"stride", std::int64_t{1}},
                                    {"padding", std::int64_t{1}},
                                    {"epsilon", 1e-5},
                                    {"kernel_height", std::int64_t{3}},
                                    {"kernel_width", std::int64_t{3}}}};
  call.inputs = {
      filled({2, kSide, kSide, kIn}, -9), filled({kIn}, -9), filled({kIn}, 0.5), filled({kIn}, -9), filled({kIn}, -9),
      filled({kOut, kIn, 3, 3}, -9)};
  const Array dy = filled({2, kSide, kSide, kOut}, -9);
  ReferenceCall backward = call;
  backward.kind = "norm_conv2d_backward_weights";
  backward.inputs.back() = dy;
  const Array gradient = forward_reference(backward)[0];
  ASSERT_EQ(gradient.values.size(), call.inputs.back().values.size());
  for (std::size_t i = 0; i < gradient.values.size(); ++i) {
    const auto objective = [&](double step) {
      ReferenceCall moved = call;
      moved.inputs.back().values[i] += step;
      const Array y = forward_reference(moved)[0];
      return std::inner_product(y.values.begin(), y.values.end(), dy.values.begin(), 0.0);
    };
    EXPECT_NEAR(gradient.values[i], (objective(1e-3) - objective(-1e-3)) / 2e-3, 1e-8) << i;
  }
}

class NormConvRewrite : public ::testing::Test {
 protected:
  NormConvRewrite() {
    register_ops(registry_);
    graph_.batch = 4;
    images_ = graph_.add_input("images", batched({4, 6, 6, 8}), Role::input);
    labels_ = graph_.add_input("labels", {DType::i32, {4}, true}, Role::input);
  }

  TensorId weight(const std::string& name, std::vector<std::int64_t> shape) {
    return graph_.add_input(name, plain(std::move(shape)), Role::weight);
  }
  TensorId convolution(const std::string& name, TensorId x) {
    return graph_
        .add_op(registry_, "conv2d", name, {x, weight(name + ".weight", {8, 8, 3, 3})},
                {{"stride", std::int64_t{1}}, {"padding", std::int64_t{1}}})
        .front();
  }
  TensorId norm(const std::string& name, TensorId x, bool relu = true) {
    return graph_
        .add_op(registry_, "batch_norm", name, {x, weight(name + ".weight", {8}), weight(name + ".bias", {8})},
                {{"relu", std::int64_t{relu}}, {"epsilon", 1e-5}})
        .front();
  }
  TensorId group_norm(const std::string& name, TensorId x) {
    return graph_
        .add_op(registry_, "group_norm", name, {x, weight(name + ".weight", {8}), weight(name + ".bias", {8})},
                {{"relu", std::int64_t{1}}, {"epsilon", 1e-5}, {"groups", std::int64_t{4}}})
        .front();
  }
  TensorId inference(const std::string& name, TensorId x) {
    const TensorId mean = graph_.add_input(name + ".mean", plain({8}), Role::statistic);
    const TensorId variance = graph_.add_input(name + ".variance", plain({8}), Role::statistic);
    return graph_
        .add_op(registry_, "batch_norm_inference", name,
                {x, weight(name + ".weight", {8}), weight(name + ".bias", {8}), mean, variance},
                {{"relu", std::int64_t{1}}, {"epsilon", 1e-5}})
        .front();
  }
  void finish(TensorId x) {
    x = graph_.add_op(registry_, "global_average_pool", "pool", {x}).front();
    x = graph_
            .add_op(registry_, "linear", "classifier",
                    {x, weight("classifier.weight", {3, 8}), weight("classifier.bias", {3})})
            .front();
    loss_ = graph_.add_op(registry_, "softmax_cross_entropy", "softmax", {x, labels_}).front();
    graph_.mark_output(loss_);
  }
  Graph step() const { return differentiate(graph_, registry_, loss_); }
  Graph rewritten(const Graph& graph) const { return registry_.rewrite("norm_conv").apply(graph, registry_); }

  static std::string kind_of(const Graph& graph, std::string_view name) {
    for (const Op& op : graph.ops)
      if (op.name == name) return op.kind;
    return "none";
  }
  using Names = std::vector<std::string>;
  static Names input_names(const Graph& graph, std::string_view name) {
    std::vector<std::string> names;
    for (const Op& op : graph.ops)
      if (op.name == name)
        for (TensorId input : op.inputs) names.push_back(graph.tensors[input].name);
    return names;
  }

  OpRegistry registry_;
  Graph graph_;
  TensorId images_{}, labels_{}, loss_{};
};

TEST_F(NormConvRewrite, TakesTheNormalisedValueOutOfTheStep) {
  const TensorId h = norm("bn", convolution("stem", images_));
  finish(graph_.add_op(registry_, "add", "sum", {convolution("left", h), convolution("right", h)}).front());
  const Graph before = step(), after = rewritten(before);
  ASSERT_NE(before.find("bn"), kNoTensor);
  EXPECT_EQ(after.find("bn"), kNoTensor);
  EXPECT_EQ(kind_of(after, "bn"), "batch_statistics");
  EXPECT_EQ(kind_of(after, "stem"), "conv2d");
  const Names normalized{"stem", "bn.mean", "bn.variance", "bn.weight", "bn.bias"};
  const auto with = [](Names names, const Names& more) {
    names.insert(names.end(), more.begin(), more.end());
    return names;
  };
  EXPECT_EQ(input_names(after, "left"), with(normalized, {"left.weight", "right"})) << "takes in the sum";
  EXPECT_EQ(input_names(after, "right"), with(normalized, {"right.weight"}));
  for (const std::string side : {"left", "right"}) {
    EXPECT_EQ(kind_of(after, side), "norm_conv2d");
    EXPECT_EQ(kind_of(after, side + ".d_weight"), "norm_conv2d_backward_weights");
    EXPECT_EQ(input_names(after, side + ".d_weight"), with(normalized, {input_names(before, side + ".d_weight")[1]}));
    EXPECT_EQ(kind_of(after, side + ".d_input"), "none");
  }
  const std::string dy = input_names(before, "left.d_input")[0];
  EXPECT_EQ(kind_of(after, "bn.d_input"), "norm_conv2d_pair_backward_data");
  EXPECT_EQ(input_names(after, "bn.d_input"),
            (Names{dy, "right.weight", "stem", "bn.mean", "bn.variance", "bn.weight", "bn.bias", dy, "left.weight"}));
  EXPECT_EQ(after.ops.size(), before.ops.size() - 4);  // the sum, two data gradients and theirs
  EXPECT_EQ(rewritten(after), after);                  // nothing is left to do
}

TEST_F(NormConvRewrite, MayComputeTheGateAlone) {
  finish(norm("last", convolution("left", norm("bn", convolution("stem", images_)))));
  const Graph before = step(), after = registry_.rewrite("norm_gate").apply(before, registry_);
  EXPECT_EQ(input_names(before, "bn.d_input").back(), "bn");
  EXPECT_EQ(input_names(after, "bn.d_input").back(), "bn.bias");
  EXPECT_EQ(kind_of(after, "bn.d_input"), "batch_norm_backward");
  EXPECT_EQ(input_names(after, "last.d_input"), input_names(before, "last.d_input")) << "a mask is small";
  EXPECT_EQ(after.ops.size(), before.ops.size());
  EXPECT_EQ(registry_.rewrite("norm_gate").apply(after, registry_), after);
}

TEST_F(NormConvRewrite, TakesGroupNormalisationOutLikewise) {
  const TensorId x = convolution("stem", images_), h = group_norm("gn1", x);
  const TensorId sum =
      graph_.add_op(registry_, "add", "sum1", {convolution("left", h), convolution("right", h)}).front();
  finish(graph_.add_op(registry_, "add", "sum2", {convolution("last", group_norm("gn2", sum)), sum}).front());
  const Graph before = step(), after = rewritten(before);
  for (const char* name : {"gn1", "gn2"}) {
    EXPECT_NE(before.find(name), kNoTensor);
    EXPECT_EQ(after.find(name), kNoTensor) << name;
    EXPECT_EQ(kind_of(after, name), "group_statistics") << name;
  }
  for (const std::string name : {"left", "right", "last"}) {
    EXPECT_EQ(kind_of(after, name), "norm_conv2d") << name;
    EXPECT_EQ(kind_of(after, name + ".d_weight"), "norm_conv2d_backward_weights") << name;
    EXPECT_EQ(kind_of(after, name + ".d_input"), "none") << name;
  }
  EXPECT_EQ(kind_of(after, "gn1.d_input"), "norm_conv2d_pair_backward_data");
  EXPECT_EQ(input_names(after, "last"),
            (Names{"sum1", "gn2.mean", "gn2.variance", "gn2.weight", "gn2.bias", "last.weight", "sum1"}));
  const std::string dy = input_names(before, "last.d_input")[0];
  EXPECT_EQ(input_names(after, "gn2.d_input"),
            (Names{dy, "last.weight", "sum1", "gn2.mean", "gn2.variance", "gn2.weight", "gn2.bias", dy}));
  EXPECT_EQ(rewritten(after), after);
  EXPECT_EQ(kind_of(rewritten(graph_), "gn2"), "group_statistics") << "inference has the same op";
}

TEST_F(NormConvRewrite, AddsTheGradientOfWhatSkipsABlock) {
  const TensorId x = convolution("stem", images_);
  const TensorId y = convolution("last", norm("bn", x));
  finish(graph_.add_op(registry_, "add", "sum", {x, y}).front());
  const Graph before = step(), after = rewritten(before);
  EXPECT_EQ(kind_of(after, "sum"), "none");
  EXPECT_EQ(input_names(after, "last").back(), "stem");
  EXPECT_EQ(kind_of(after, "bn.d_input"), "norm_conv2d_backward_data");
  const std::string dy = input_names(before, "last.d_input")[0];
  EXPECT_EQ(input_names(after, "bn.d_input"),
            (Names{dy, "last.weight", "stem", "bn.mean", "bn.variance", "bn.weight", "bn.bias", dy}));
  EXPECT_EQ(after.find("bn.d_input"), kNoTensor) << "the sum of both gradients is made at once";
}

TEST_F(NormConvRewrite, LeavesAGradientThatSomebodyElseReads) {
  const TensorId h = norm("bn", convolution("stem", images_));
  finish(convolution("last", h));
  Graph before = step();
  before.mark_output(before.find("last.d_input"));
  const Graph after = rewritten(before);
  EXPECT_EQ(kind_of(after, "last"), "norm_conv2d");
  EXPECT_EQ(kind_of(after, "last.d_input"), "conv2d_backward_data");
  EXPECT_EQ(kind_of(after, "bn.d_input"), "batch_norm_backward");
}

TEST_F(NormConvRewrite, TakesAMaskAwayToo) {
  const TensorId h = norm("bn", convolution("stem", images_));
  finish(convolution("last", h));
  graph_.tensors[graph_.find("last.weight")].role = Role::input;  // frozen: no gradient reads h, so its sign is a mask
  const Graph before = step();
  ASSERT_NE(before.find("bn.mask"), kNoTensor);
  const Graph after = rewritten(before);
  EXPECT_EQ(after.find("bn"), kNoTensor);
  EXPECT_EQ(after.find("bn.mask"), kNoTensor);
  EXPECT_EQ(input_names(after, "bn.d_input").back(), "bn.bias");
}

TEST_F(NormConvRewrite, LeavesAValueThatSomebodyElseReads) {
  const TensorId h = norm("bn", convolution("stem", images_));
  finish(graph_.add_op(registry_, "add", "sum", {convolution("left", h), h}).front());
  EXPECT_EQ(rewritten(step()), step());
}

TEST_F(NormConvRewrite, LeavesAValueThatTheCallerReads) {
  const TensorId h = norm("bn", convolution("stem", images_));
  graph_.mark_output(h);
  finish(convolution("last", h));
  EXPECT_EQ(rewritten(step()), step());
}

TEST_F(NormConvRewrite, LeavesNormalisationsWithoutReLUOrConvolution) {
  const TensorId h = norm("bn2", convolution("last", norm("bn1", convolution("stem", images_), false)));
  finish(graph_.add_op(registry_, "relu", "again", {h}).front());
  EXPECT_EQ(rewritten(step()), step());
}

TEST_F(NormConvRewrite, APoolTakesTheNormalisationIn) {
  finish(norm("bn", convolution("stem", images_)));
  const Graph before = step(), after = rewritten(before);
  const Names normalized{"stem", "bn.mean", "bn.variance", "bn.weight", "bn.bias"};
  Names with_gradient = normalized;
  with_gradient.push_back(input_names(before, "pool.d_input")[0]);
  EXPECT_EQ(after.find("bn"), kNoTensor);
  EXPECT_EQ(kind_of(after, "bn"), "batch_statistics");
  EXPECT_EQ(kind_of(after, "pool"), "norm_pool");
  EXPECT_EQ(input_names(after, "pool"), normalized);
  EXPECT_EQ(kind_of(after, "pool.d_input"), "none");
  EXPECT_EQ(kind_of(after, "bn.d_input"), "norm_pool_backward");
  EXPECT_EQ(input_names(after, "bn.d_input"), with_gradient);
  EXPECT_EQ(rewritten(after), after);
}

TEST_F(NormConvRewrite, InferenceLosesTheOp) {
  finish(convolution("last", inference("bn", convolution("stem", images_))));
  const Graph after = rewritten(graph_);
  EXPECT_EQ(kind_of(after, "bn"), "none");
  EXPECT_EQ(input_names(after, "last"),
            (std::vector<std::string>{"stem", "bn.mean", "bn.variance", "bn.weight", "bn.bias", "last.weight"}));
}

TEST(NormConvRules, RefusesEmptyGroupsAndOtherVectors) {
  OpRegistry registry;
  register_ops(registry);
  const auto refusal = [&](const char* kind, std::vector<TensorType> types, std::int64_t group) -> std::string {
    try {
      registry.at(kind).infer(types, {{"stride", std::int64_t{1}},
                                      {"padding", std::int64_t{1}},
                                      {"epsilon", 1e-5},
                                      {"group", group},
                                      {"channels", std::int64_t{3}},
                                      {"kernel_height", std::int64_t{3}},
                                      {"kernel_width", std::int64_t{3}}});
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  };
  const TensorType x = batched({2, 4, 4, 3}), c = plain({3}), w = plain({5, 3, 3, 3}), y = batched({2, 4, 4, 5});
  EXPECT_EQ(refusal("norm_conv2d", {x, c, c, c, c, w}, 1), "accepted");
  EXPECT_EQ(refusal("norm_conv2d_backward_weights", {x, c, c, c, c, y}, 1), "accepted");
  for (const std::int64_t group : {0, -1})
    EXPECT_THAT(refusal("norm_conv2d", {x, c, c, c, c, w}, group), HasSubstr("group"));
  EXPECT_THAT(refusal("norm_conv2d", {x, c, c, plain({4}), c, w}, 1), HasSubstr("vector of 3"));
  EXPECT_THAT(refusal("norm_conv2d", {x, c, c, c, w}, 1), HasSubstr("takes 6"));
  EXPECT_THAT(refusal("norm_conv2d_backward_weights", {x, c, c, c, c, batched({2, 3, 4, 5})}, 1),
              HasSubstr("does not fit"));
}

}  // namespace
}  // namespace thimble::testing
