// Group normalisation: what it refuses, that no cut of a batch changes a sample's bits, and that convolutions which
// normalise by groups have the bits of separate ops.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guarded_run.h"
#include "test_tensors.h"
#include "thimble/differentiate.h"
#include "thimble/error.h"
#include "thimble/ops.h"

namespace thimble::testing {
namespace {

using ::testing::HasSubstr;

Attributes norm(std::int64_t groups) { return {{"relu", std::int64_t{1}}, {"epsilon", 1e-5}, {"groups", groups}}; }
Attributes backward() { return {{"relu", std::int64_t{1}}, {"epsilon", 1e-5}}; }

class GroupNorm : public ::testing::Test {
 protected:
  GroupNorm() { register_ops(registry_); }

  std::string refusal(const char* kind, std::vector<TensorType> types, const Attributes& attributes) const {
    try {
      registry_.at(kind).infer(types, attributes);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  }

  std::vector<ByteVector> run(const std::string& kind, std::vector<TensorType> types, std::vector<ByteVector> inputs,
                              Attributes attributes) const {
    const std::int64_t samples = types[0].shape[0];
    return run_guarded(registry_, {.kind = kind,
                                   .types = std::move(types),
                                   .inputs = std::move(inputs),
                                   .attributes = std::move(attributes),
                                   .device = {.threads = 2},
                                   .samples = samples,
                                   .batch = samples})
        .outputs;
  }

  OpRegistry registry_;
};

TEST_F(GroupNorm, RefusesChannelsThatAreNoEqualGroups) {
  const TensorType x = batched({2, 4, 4, 12}), c = plain({12});
  for (std::int64_t groups : {1, 3, 12}) {
    EXPECT_EQ(refusal("group_norm", {x, c, c}, norm(groups)), "accepted");
    EXPECT_EQ(refusal("group_statistics", {x}, norm(groups)), "accepted");
  }
  for (std::int64_t groups : {5, 24, 0, -3}) {
    EXPECT_THAT(refusal("group_norm", {x, c, c}, norm(groups)), HasSubstr("12 channels")) << groups;
    EXPECT_THAT(refusal("group_statistics", {x}, norm(groups)), HasSubstr("12 channels")) << groups;
  }
  EXPECT_THAT(refusal("group_norm", {x, c, c}, backward()), HasSubstr("'groups'"));
}

TEST_F(GroupNorm, RefusesOtherRanksVectorsAndMoments) {
  const TensorType x = batched({2, 4, 4, 12}), c = plain({12}), of_groups = batched({2, 3});
  EXPECT_THAT(refusal("group_norm", {plain({2, 4, 4, 12}), c, c}, norm(3)), HasSubstr("not batched"));
  EXPECT_THAT(refusal("group_norm", {batched({2, 12}), c, c}, norm(3)), HasSubstr("rank 2"));
  EXPECT_THAT(refusal("group_norm", {x, c, plain({3})}, norm(3)), HasSubstr("vector of 12"));
  EXPECT_THAT(refusal("group_norm", {x, c}, norm(3)), HasSubstr("takes 3"));
  const auto of_backward = [&](const TensorType& mean, const TensorType& variance) {
    return refusal("group_norm_backward", {x, x, c, mean, variance, c}, backward());
  };
  EXPECT_EQ(of_backward(of_groups, of_groups), "accepted");
  EXPECT_THAT(of_backward(c, c), HasSubstr("every sample's own"));
  EXPECT_THAT(of_backward(of_groups, batched({2, 4})), HasSubstr("differ in type"));
  EXPECT_THAT(of_backward(batched({3, 3}), batched({3, 3})), HasSubstr("differ in type"));
  EXPECT_THAT(of_backward(batched({2, 5}), batched({2, 5})), HasSubstr("5 equal groups"));
  EXPECT_THAT(of_backward(batched({2}), batched({2})), HasSubstr("rank 1"));
  EXPECT_THAT(refusal("group_norm_backward", {x, x, c, of_groups, of_groups}, backward()), HasSubstr("takes 6"));
}

TEST_F(GroupNorm, ConvolutionsRefuseMomentsOfOtherSamplesOrGroups) {
  const TensorType x = batched({2, 4, 4, 12}), c = plain({12}), w = plain({5, 12, 3, 3}), y = batched({2, 4, 4, 5});
  const Attributes attributes{
      {"stride", std::int64_t{1}},      {"padding", std::int64_t{1}},   {"epsilon", 1e-5},
      {"group", std::int64_t{1}},       {"channels", std::int64_t{12}}, {"kernel_height", std::int64_t{3}},
      {"kernel_width", std::int64_t{3}}};
  const auto all = [&](const TensorType& mean, const TensorType& variance) {
    return std::vector{refusal("norm_conv2d", {x, mean, variance, c, c, w}, attributes),
                       refusal("norm_conv2d_backward_weights", {x, mean, variance, c, c, y}, attributes),
                       refusal("norm_conv2d_backward_data", {y, w, x, mean, variance, c, c}, attributes)};
  };
  EXPECT_THAT(all(batched({2, 3}), batched({2, 3})), ::testing::Each("accepted"));
  EXPECT_THAT(all(batched({4, 3}), batched({4, 3})), ::testing::Each(HasSubstr("differ in type")));
  EXPECT_THAT(all(batched({2, 3}), c), ::testing::Each(HasSubstr("differ in type")));
  EXPECT_THAT(all(c, batched({2, 3})), ::testing::Each(HasSubstr("vector of 12")));
  EXPECT_THAT(all(batched({2, 7}), batched({2, 7})), ::testing::Each(HasSubstr("7 equal groups")));
  EXPECT_THAT(all(batched({2, 3, 1}), batched({2, 3, 1})), ::testing::Each(HasSubstr("rank 3")));
}

// Whatever a kernel makes of a sample, it makes of it alone.
TEST_F(GroupNorm, ASampleHasTheSameBitsInEveryCut) {
  constexpr std::int64_t kSamples = 21, kGroups = 4;
  const TensorType x = batched({kSamples, 9, 8, 12}), c = plain({12});
  const auto part_of = [](const TensorType& type, const ByteVector& bytes, std::int64_t first, std::int64_t count) {
    const std::int64_t sample = 4 * elements_per_sample(type);
    return ByteVector(bytes.begin() + first * sample, bytes.begin() + (first + count) * sample);
  };
  const ByteVector values = normals(x, 1), dy = normals(x, 2), gamma = normals(c, 3), beta = normals(c, 4);
  const auto whole = run("group_norm", {x, c, c}, {values, gamma, beta}, norm(kGroups));
  const TensorType moments = batched({kSamples, kGroups});
  const auto dx = run("group_norm_backward", {x, x, c, moments, moments, c},
                      {dy, values, gamma, whole[1], whole[2], beta}, backward())[0];
  for (std::int64_t first = 0, count = 1; first < kSamples; first += count, ++count) {
    count = std::min(count, kSamples - first);
    const TensorType part = with_samples(x, count), part_moments = with_samples(moments, count);
    const ByteVector x_part = part_of(x, values, first, count);
    const auto cut = run("group_norm", {part, c, c}, {x_part, gamma, beta}, norm(kGroups));
    EXPECT_TRUE(cut[0] == part_of(x, whole[0], first, count)) << first;
    for (std::size_t i : {1U, 2U}) EXPECT_TRUE(cut[i] == part_of(moments, whole[i], first, count)) << first;
    EXPECT_TRUE(run("group_norm_backward", {part, part, c, part_moments, part_moments, c},
                    {part_of(x, dy, first, count), x_part, gamma, cut[1], cut[2], beta},
                    backward())[0] == part_of(x, dx, first, count))
        << first;
  }
}

// One group a channel, and one sample: what batch normalisation makes of that sample.
TEST_F(GroupNorm, OfOneChannelEachAndOneSampleItIsBatchNorm) {
  const TensorType x = batched({1, 9, 9, 7}), c = plain({7});
  const std::vector<ByteVector> inputs{normals(x, 1), normals(c, 2), normals(c, 3)};
  EXPECT_EQ(run("group_norm", {x, c, c}, inputs, norm(7)), run("batch_norm", {x, c, c}, inputs, norm(7)));
}

// x {samples, side, side, channels} to `outputs` channels, and a 1x1 convolution beside it.
struct Case {
  const char* name;
  std::int64_t samples, side, channels, groups, outputs, kernel, stride;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class GroupNormConv : public GroupNorm, public ::testing::WithParamInterface<Case> {
 protected:
  GroupNormConv() {
    const Case& c = GetParam();
    x_ = batched({c.samples, c.side, c.side, c.channels});
    channel_ = plain({c.channels});
    moments_ = batched({c.samples, c.groups});
    w_ = plain({c.outputs, c.channels, c.kernel, c.kernel});
    norm_ = run("group_norm", {x_, channel_, channel_}, {x(), gamma(), beta()}, norm(c.groups));
  }

  static Attributes window() { return {{"stride", GetParam().stride}, {"padding", GetParam().kernel / 2}}; }
  static Attributes with(Attributes attributes, std::initializer_list<std::pair<const char*, Attribute>> more) {
    for (const auto& [name, value] : more) attributes[name] = value;
    return attributes;
  }
  ByteVector x() const { return normals(x_, 1); }
  ByteVector gamma() const { return normals(channel_, 2); }
  ByteVector beta() const { return normals(channel_, 3); }
  ByteVector w() const { return normals(w_, 4); }
  TensorType y_type() const { return registry_.at("conv2d").infer({x_, w_}, window())[0].type; }

  std::vector<ByteVector> separate_gradient(const ByteVector& of_normalized) const {
    return run("group_norm_backward", {x_, x_, channel_, moments_, moments_, channel_},
               {of_normalized, x(), gamma(), norm_[1], norm_[2], beta()}, backward());
  }

  TensorType x_, channel_, moments_, w_;
  std::vector<ByteVector> norm_;  // of group_norm: output, mean, variance
};

TEST_P(GroupNormConv, StatisticsHaveTheBitsOfTheWholeOp) {
  const auto alone = run("group_statistics", {x_}, {x()}, norm(GetParam().groups));
  EXPECT_TRUE(alone[0] == norm_[1]);
  EXPECT_TRUE(alone[1] == norm_[2]);
}

TEST_P(GroupNormConv, ForwardAndWeightsGradientHaveTheBitsOfSeparateOps) {
  const Attributes kernel = with(window(), {{"kernel_height", GetParam().kernel}, {"kernel_width", GetParam().kernel}});
  const ByteVector dy = normals(y_type(), 5);
  for (const std::int64_t group : {1, 2, 1000})
    EXPECT_TRUE(run("norm_conv2d", {x_, moments_, moments_, channel_, channel_, w_},
                    {x(), norm_[1], norm_[2], gamma(), beta(), w()},
                    with(window(), {{"epsilon", 1e-5}, {"group", group}})) ==
                run("conv2d", {x_, w_}, {norm_[0], w()}, window()))
        << "groups of " << group;
  EXPECT_TRUE(
      run("norm_conv2d_backward_weights", {x_, moments_, moments_, channel_, channel_, y_type()},
          {x(), norm_[1], norm_[2], gamma(), beta(), dy},
          with(kernel, {{"epsilon", 1e-5}, {"group", std::int64_t{1000}}, {"channels", GetParam().channels}})) ==
      run("conv2d_backward_weights", {x_, y_type()}, {norm_[0], dy}, kernel));
}

TEST_P(GroupNormConv, DataGradientsHaveTheBitsOfSeparateOps) {
  const ByteVector dy = normals(y_type(), 5), more = normals(x_, 6);
  const std::vector<TensorType> types{y_type(), w_, x_, moments_, moments_, channel_, channel_};
  const std::vector<ByteVector> inputs{dy, w(), x(), norm_[1], norm_[2], gamma(), beta()};
  const Attributes attributes = with(window(), {{"epsilon", 1e-5}});
  const auto and_also = [](auto list, auto... more_of_it) {
    (list.push_back(more_of_it), ...);
    return list;
  };
  const Attributes to_x = with(window(), {{"height", GetParam().side}, {"width", GetParam().side}});
  const ByteVector of_normalized = run("conv2d_backward_data", {y_type(), w_}, {dy, w()}, to_x)[0];
  auto separate = separate_gradient(of_normalized);
  EXPECT_TRUE(run("norm_conv2d_backward_data", types, inputs, attributes) == separate);

  separate[0] = run("add", {x_, x_}, {separate[0], more}, {})[0];
  EXPECT_TRUE(run("norm_conv2d_backward_data", and_also(types, x_), and_also(inputs, more),
                  with(attributes, {{"add", std::int64_t{1}}})) == separate);

  const TensorType second_w = plain({6, GetParam().channels, 1, 1});
  const Attributes second{{"stride", GetParam().stride}, {"padding", std::int64_t{0}}};
  const TensorType second_y = registry_.at("conv2d").infer({x_, second_w}, second)[0].type;
  const ByteVector other =
      run("conv2d_backward_data", {second_y, second_w}, {normals(second_y, 7), normals(second_w, 8)},
          with(second, {{"height", GetParam().side}, {"width", GetParam().side}}))[0];
  separate = separate_gradient(run("add", {x_, x_}, {of_normalized, other}, {})[0]);
  EXPECT_TRUE(run("norm_conv2d_pair_backward_data", and_also(types, second_y, second_w),
                  and_also(inputs, normals(second_y, 7), normals(second_w, 8)),
                  with(attributes, {{"second_stride", GetParam().stride}, {"second_padding", std::int64_t{0}}})) ==
              separate);
}

INSTANTIATE_TEST_SUITE_P(Cases, GroupNormConv,
                         ::testing::Values(Case{"Plain", 40, 8, 32, 16, 32, 3, 1},
                                           Case{"Stride", 17, 8, 16, 16, 32, 3, 2},
                                           Case{"Shortcut", 17, 8, 16, 4, 32, 1, 2}, Case{"Odd", 19, 5, 6, 2, 7, 3, 1},
                                           Case{"ManyInAGroup", 100, 4, 64, 16, 64, 3, 1},
                                           Case{"One", 1, 9, 16, 16, 16, 3, 1}),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace thimble::testing
