// BN-ReLU-conv as one op with the CUDA kernels: against the separate ops there, however much is worked on at a time and
// wherever the result lies.
#include <gtest/gtest.h>

#include "cuda_bench.h"
#include "op_table_run.h"
#include "test_tensors.h"

namespace thimble::testing {
namespace {

constexpr double kTolerance = 1e-5;  // sums of a few hundred products, or of a few thousand values, in other orders

template <class List, class... More>
List and_also(List list, More... more) {
  (list.push_back(std::move(more)), ...);
  return list;
}

// x {samples, side, side, channels} to `outputs` channels, and a 1x1 convolution beside it. No groups: moments of the
// batch.
struct Case {
  const char* name;
  std::int64_t samples, side, channels, groups, outputs, kernel, stride;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class CudaNormConv : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& c = GetParam();
    x_ = batched({c.samples, c.side, c.side, c.channels});
    channel_ = plain({c.channels});
    moments_ = c.groups != 0 ? batched({c.samples, c.groups}) : channel_;
    w_ = plain({c.outputs, c.channels, c.kernel, c.kernel});
    norm_ = c.groups != 0 ? run("group_norm", {x_, channel_, channel_}, {x(), gamma(), beta()},
                                {{"relu", std::int64_t{1}}, {"epsilon", 1e-5}, {"groups", c.groups}})
                          : run("batch_norm", {x_, channel_, channel_}, {x(), gamma(), beta()},
                                {{"relu", std::int64_t{1}}, {"epsilon", 1e-5}});
  }

  std::vector<ByteVector> run(const std::string& kind, std::vector<TensorType> types, std::vector<ByteVector> inputs,
                              Attributes attributes, std::vector<InPlacePair> in_place = {}) const {
    DeviceDescription device = cuda_bench().description;
    device.math = math_;
    return run_guarded(cuda_bench(), {.kind = kind,
                                      .types = std::move(types),
                                      .inputs = std::move(inputs),
                                      .attributes = std::move(attributes),
                                      .device = device,
                                      .samples = GetParam().samples,
                                      .batch = GetParam().samples,
                                      .in_place = std::move(in_place)})
        .outputs;
  }

  static Attributes window() { return {{"stride", GetParam().stride}, {"padding", GetParam().kernel / 2}}; }
  static Attributes second_window() { return {{"stride", GetParam().stride}, {"padding", std::int64_t{0}}}; }
  static Attributes with(Attributes attributes, std::initializer_list<std::pair<const char*, Attribute>> more) {
    for (const auto& [name, value] : more) attributes[name] = value;
    return attributes;
  }
  static Attributes grouped(std::int64_t group) { return with(window(), {{"epsilon", 1e-5}, {"group", group}}); }
  static Attributes sliced(std::int64_t channels) {
    return with(window(), {{"epsilon", 1e-5}, {"channels", channels}});
  }
  static Attributes to_x(const Attributes& window) {
    return with(window, {{"height", GetParam().side}, {"width", GetParam().side}});
  }

  std::vector<TensorType> normalized_types(TensorType last) const {
    return {x_, moments_, moments_, channel_, channel_, std::move(last)};
  }
  std::vector<ByteVector> normalized_inputs(ByteVector last) const {
    return {x(), norm_[1], norm_[2], gamma(), beta(), std::move(last)};
  }
  std::vector<TensorType> data_types() const { return {y_type(), w_, x_, moments_, moments_, channel_, channel_}; }
  std::vector<ByteVector> data_inputs() const { return {dy(), w(), x(), norm_[1], norm_[2], gamma(), beta()}; }

  // Of the normalisation, by ops of its own.
  std::vector<ByteVector> separate_gradient(const ByteVector& of_normalized) const {
    const std::vector<TensorType> types{x_, x_, channel_, moments_, moments_, channel_};
    const std::vector<ByteVector> inputs{of_normalized, x(), gamma(), norm_[1], norm_[2], beta()};
    const Attributes attributes{{"relu", std::int64_t{1}}, {"epsilon", 1e-5}};
    if (GetParam().groups != 0) return run("group_norm_backward", types, inputs, attributes);
    return run("batch_norm_backward", types, inputs, with(attributes, {{"gate_input", std::int64_t{1}}}));
  }
  ByteVector sum(const ByteVector& a, const ByteVector& b, const TensorType& type) const {
    return run("add", {type, type}, {a, b}, {})[0];
  }

  // Slices of all channels make the sums of separate ops; narrower ones cut the rows into other parts.
  void expect_gradients(const std::vector<ByteVector>& got, const std::vector<ByteVector>& expected, bool all_channels,
                        const std::string& what) const {
    if (all_channels || GetParam().groups != 0) {
      EXPECT_TRUE(got == expected) << what;
    }
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const TensorType& type = i == 0 ? x_ : channel_;
      expect_near(array_of(type, got[i]), array_of(type, expected[i]), kTolerance,
                  what + ", output " + std::to_string(i));
    }
  }

  bool may_lie_over_x() const { return bytes_of(x_) == bytes_of(y_type()); }
  ByteVector x() const { return normals(x_, 1); }
  ByteVector gamma() const { return normals(channel_, 2); }
  ByteVector beta() const { return normals(channel_, 3); }
  ByteVector w() const { return normals(w_, 4); }
  ByteVector dy() const { return normals(y_type(), 5); }
  TensorType y_type() const { return cuda_bench().registry.at("conv2d").infer({x_, w_}, window())[0].type; }
  TensorType second_w() const { return plain({6, GetParam().channels, 1, 1}); }
  TensorType second_y() const {
    return cuda_bench().registry.at("conv2d").infer({x_, second_w()}, second_window())[0].type;
  }

  std::string math_ = "fp32";
  TensorType x_, channel_, moments_, w_;
  std::vector<ByteVector> norm_;  // output, mean, variance
};

TEST_P(CudaNormConv, ForwardHasTheBitsOfSeparateOps) {
  for (const char* math : {"fp32", "tf32"}) {
    math_ = math;
    const auto separate = run("conv2d", {x_, w_}, {norm_[0], w()}, window());
    const auto types = normalized_types(w_);
    for (const std::int64_t group : {1, 3, 1000}) {
      EXPECT_TRUE(run("norm_conv2d", types, normalized_inputs(w()), grouped(group)) == separate)
          << math << ", groups of " << group;
      if (may_lie_over_x()) {
        EXPECT_TRUE(run("norm_conv2d", types, normalized_inputs(w()), grouped(group), {{0, 0}}) == separate)
            << math << ", over x, groups of " << group;
      }
    }
  }
}

TEST_P(CudaNormConv, ASumHasTheBitsOfSeparateOps) {
  const ByteVector added = normals(y_type(), 9);
  const std::vector<ByteVector> separate{sum(run("conv2d", {x_, w_}, {norm_[0], w()}, window())[0], added, y_type())};
  const auto types = and_also(normalized_types(w_), y_type());
  const auto inputs = and_also(normalized_inputs(w()), added);
  const Attributes attributes = with(grouped(2), {{"add", std::int64_t{1}}});
  EXPECT_TRUE(run("norm_conv2d", types, inputs, attributes) == separate);
  EXPECT_TRUE(run("norm_conv2d", types, inputs, attributes, {{6, 0}}) == separate) << "over what is added";
  if (may_lie_over_x()) {
    EXPECT_TRUE(run("norm_conv2d", types, inputs, attributes, {{0, 0}}) == separate) << "over x";
  }
}

TEST_P(CudaNormConv, WeightsGradientHasTheBitsOfSeparateOps) {
  const Attributes attributes =
      with(window(), {{"kernel_height", GetParam().kernel}, {"kernel_width", GetParam().kernel}});
  EXPECT_TRUE(run("norm_conv2d_backward_weights", normalized_types(y_type()), normalized_inputs(dy()),
                  with(attributes, {{"epsilon", 1e-5}, {"group", std::int64_t{1}}, {"channels", std::int64_t{4}}})) ==
              run("conv2d_backward_weights", {x_, y_type()}, {norm_[0], dy()}, attributes));
}

TEST_P(CudaNormConv, DataGradientsAreThoseOfSeparateOps) {
  const ByteVector more = normals(x_, 6);
  const ByteVector of_normalized = run("conv2d_backward_data", {y_type(), w_}, {dy(), w()}, to_x(window()))[0];
  const auto plain_gradients = separate_gradient(of_normalized);
  auto added = plain_gradients;
  added[0] = sum(added[0], more, x_);
  const ByteVector second_dy = normals(second_y(), 7), second_weights = normals(second_w(), 8);
  const ByteVector other =
      run("conv2d_backward_data", {second_y(), second_w()}, {second_dy, second_weights}, to_x(second_window()))[0];
  const auto pair = separate_gradient(sum(of_normalized, other, x_));

  for (const std::int64_t channels : {4, 1000}) {
    const std::string at_a_time = std::to_string(channels) + " channels at a time";
    const bool all = channels >= GetParam().channels;
    const Attributes attributes = sliced(channels), adds = with(attributes, {{"add", std::int64_t{1}}});
    const Attributes both =
        with(attributes, {{"second_stride", GetParam().stride}, {"second_padding", std::int64_t{0}}});
    const auto added_types = and_also(data_types(), x_);
    const auto added_inputs = and_also(data_inputs(), more);
    const auto pair_types = and_also(data_types(), second_y(), second_w());
    const auto pair_inputs = and_also(data_inputs(), second_dy, second_weights);
    expect_gradients(run("norm_conv2d_backward_data", data_types(), data_inputs(), attributes), plain_gradients, all,
                     at_a_time);
    expect_gradients(run("norm_conv2d_backward_data", added_types, added_inputs, adds), added, all,
                     "added, " + at_a_time);
    expect_gradients(run("norm_conv2d_pair_backward_data", pair_types, pair_inputs, both), pair, all,
                     "pair, " + at_a_time);
  }
}

// What a plan may choose instead takes more workspace and less time.
TEST_P(CudaNormConv, WhatIsFasterTakesMoreWorkspaceAndComesToTheSame) {
  const OpRegistry& registry = cuda_bench().registry;
  const auto check = [&](const std::string& kind, const std::vector<TensorType>& types,
                         const std::vector<ByteVector>& inputs, const Attributes& attributes) {
    OpShape shape{types, {}, attributes, cuda_bench().description};
    for (const OutputSpec& spec : registry.at(kind).infer(types, attributes)) shape.outputs.push_back(spec.type);
    const auto expected = run(kind, types, inputs, attributes);
    Bytes workspace = registry.workspace(kind, shape);
    double seconds = predicted_seconds(registry.cost(kind, shape), shape.device);
    for (const Attributes& faster : registry.faster(kind, shape)) {
      shape.attributes = faster;
      EXPECT_GT(registry.workspace(kind, shape), workspace) << kind;
      EXPECT_LT(predicted_seconds(registry.cost(kind, shape), shape.device), seconds) << kind;
      workspace = registry.workspace(kind, shape);
      seconds = predicted_seconds(registry.cost(kind, shape), shape.device);
      const auto got = run(kind, types, inputs, faster);
      for (std::size_t i = 0; i < expected.size(); ++i)
        expect_near(array_of(shape.outputs[i], got[i]), array_of(shape.outputs[i], expected[i]), kTolerance,
                    kind + ", output " + std::to_string(i));
    }
  };
  check("norm_conv2d", normalized_types(w_), normalized_inputs(w()), grouped(1));
  check("norm_conv2d_backward_data", data_types(), data_inputs(),
        GetParam().groups != 0 ? with(window(), {{"epsilon", 1e-5}}) : sliced(4));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, CudaNormConv,
    ::testing::Values(Case{"Plain", 20, 6, 16, 0, 16, 3, 1}, Case{"Stride", 17, 8, 16, 0, 32, 3, 2},
                      Case{"SameBytes", 9, 4, 8, 0, 32, 3, 2}, Case{"Odd", 19, 5, 7, 0, 7, 3, 1},
                      Case{"One", 1, 9, 16, 0, 16, 3, 1}, Case{"Wide", 17, 4, 40, 0, 40, 3, 1},
                      Case{"GroupPlain", 20, 6, 16, 8, 16, 3, 1}, Case{"GroupStride", 17, 8, 16, 16, 32, 3, 2},
                      Case{"GroupOdd", 19, 5, 6, 2, 6, 3, 1}, Case{"GroupOne", 1, 9, 16, 1, 16, 3, 1}),
    [](const auto& instance) { return instance.param.name; });

// So many that a whole batch is cut into other tiles than a few samples would be.
class CudaNormConvOfManyPixels : public CudaNormConv {};

TEST_P(CudaNormConvOfManyPixels, SamplesHaveTheBitsOfTheWholeBatch) {
  for (const char* math : {"fp32", "tf32"}) {
    math_ = math;
    const auto forward = run("norm_conv2d", normalized_types(w_), normalized_inputs(w()), grouped(1));
    EXPECT_TRUE(run("norm_conv2d", normalized_types(w_), normalized_inputs(w()), grouped(1), {{0, 0}}) == forward)
        << math;
    EXPECT_TRUE(run("norm_conv2d_backward_data", data_types(), data_inputs(), grouped(1)) ==
                run("norm_conv2d_backward_data", data_types(), data_inputs(), grouped(1000)))
        << math;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaNormConvOfManyPixels, ::testing::Values(Case{"Groups", 40, 15, 16, 4, 16, 3, 1}),
                         [](const auto& instance) { return instance.param.name; });

// Over x the samples go through the workspace in eighths, apart from x none does.
TEST(CudaNormConvWorkspace, IsAnEighthOfTheMapAndAPrologue) {
  const TensorType x = batched({100, 32, 32, 32}), c = plain({32});
  const auto workspace = [&](const TensorType& w, std::int64_t group) {
    OpShape shape{{x, c, c, c, c, w},
                  {},
                  {{"stride", std::int64_t{1}}, {"padding", std::int64_t{1}}, {"epsilon", 1e-5}, {"group", group}},
                  cuda_bench().description};
    shape.outputs = {cuda_bench().registry.at("norm_conv2d").infer(shape.inputs, shape.attributes)[0].type};
    return cuda_bench().registry.workspace("norm_conv2d", shape);
  };
  EXPECT_EQ(workspace(plain({32, 32, 3, 3}), 1), bytes_of(with_samples(x, 13)));
  EXPECT_EQ(workspace(plain({32, 32, 3, 3}), 50), bytes_of(with_samples(x, 50)));
  EXPECT_EQ(workspace(plain({64, 32, 3, 3}), 50), Bytes{256});
}

}  // namespace
}  // namespace thimble::testing
