#include "thimble/wide_resnet.h"

#include <charconv>
#include <string>

#include "thimble/augment.h"
#include "thimble/error.h"
#include "thimble/op_registry.h"

namespace thimble {
namespace {

constexpr double kEpsilon = 1e-5;
constexpr double kStatisticsMomentum = 0.1;
constexpr std::int64_t kStemChannels = 16;
constexpr std::int64_t kNormGroups = 16;  // divides every channel count, since all are multiples of the stem's

void check(const WideResNet& model) {
  const auto refuse = [](const char* what, int value, const char* rule) {
    throw InvalidArgument("wide resnet: " + std::string(what) + " " + std::to_string(value) + "; " + rule);
  };
  if (model.depth < 10 || model.depth > 10000 || model.depth % 6 != 4)
    refuse("depth", model.depth, "it is 6n + 4 with n of at least 1, at most 10000: 10, 16, 22, 28, 40, ...");
  if (model.width < 1 || model.width > 1000) refuse("width", model.width, "it is from 1 to 1000");
  if (!(model.dropout >= 0 && model.dropout < 1))
    throw InvalidArgument("wide resnet: dropout " + std::to_string(model.dropout) + "; it is from 0 to below 1");
  if (model.classes < 2 || model.classes > 1 << 20) refuse("classes", model.classes, "it is from 2 to 1048576");
}

class Builder {
 public:
  Builder(const WideResNet& model, const OpRegistry& registry, std::int64_t batch, Mode mode)
      : model_(model), registry_(registry), mode_(mode) {
    graph_.batch = batch;
  }

  Graph build() {
    TensorId x = images();
    const TensorId labels = graph_.add_input("labels", {DType::i32, {graph_.batch}, true}, Role::input);
    x = convolution("stem", x, kStemChannels, 3, 1);
    const int blocks = (model_.depth - 4) / 6;
    for (int group = 0; group < 3; ++group)
      for (int i = 0; i < blocks; ++i) {
        const std::int64_t channels = (kStemChannels << group) * model_.width;
        x = block("block" + std::to_string(group * blocks + i), x, channels, group > 0 && i == 0 ? 2 : 1);
      }
    x = normalize("final", "", x);
    x = op("global_average_pool", "pool", {x});
    const std::int64_t features = type(x).shape[1];
    const TensorId w = weight("classifier.weight", {model_.classes, features});
    const TensorId b = weight("classifier.bias", {model_.classes});
    x = op("linear", "classifier", {x, w, b});
    const auto results = graph_.add_op(registry_, "softmax_cross_entropy", "softmax", {x, labels});
    name_output(results[0], "loss");
    name_output(results[1], "correct");
    return std::move(graph_);
  }

 private:
  const TensorType& type(TensorId tensor) const { return graph_.tensors[tensor].type; }

  TensorId op(const char* kind, const std::string& name, std::vector<TensorId> inputs, Attributes attributes = {}) {
    return graph_.add_op(registry_, kind, name, std::move(inputs), std::move(attributes)).front();
  }

  TensorId weight(const std::string& name, std::vector<std::int64_t> shape) {
    return graph_.add_input(name, {DType::f32, std::move(shape)}, Role::weight);
  }

  void name_output(TensorId tensor, const char* name) {
    graph_.tensors[tensor].name = name;
    graph_.mark_output(tensor);
  }

  // Pictures come as bytes: a quarter of what their floats are, which can be made again.
  TensorId images() {
    const TensorType planes{DType::u8, {graph_.batch, kPictureChannels, kPictureSide, kPictureSide}, true};
    std::vector<TensorId> inputs{graph_.add_input("pictures", planes, Role::input)};
    if (mode_ == Mode::train)
      inputs.push_back(graph_.add_input("crops", {DType::i32, {graph_.batch, kCropValues}, true}, Role::input));
    Attributes attributes{{"padding", std::int64_t{kCropPadding}}};
    for (std::size_t c = 0; c < kPictureChannels; ++c) {
      attributes["mean_" + std::to_string(c)] = kPictureMean[c];
      attributes["deviation_" + std::to_string(c)] = kPictureDeviation[c];
    }
    return op("crop_pictures", "images", std::move(inputs), std::move(attributes));
  }

  TensorId convolution(const std::string& name, TensorId x, std::int64_t channels, std::int64_t kernel,
                       std::int64_t stride) {
    const TensorId w = weight(name + ".weight", {channels, type(x).shape[3], kernel, kernel});
    return op("conv2d", name, {x, w}, {{"stride", stride}, {"padding", kernel / 2}});
  }

  // Normalisation and ReLU.
  TensorId normalize(const std::string& block, const std::string& number, TensorId x) {
    const TensorId y = model_.norm == Norm::group ? normalize_groups(block + ".gn" + number, x)
                                                  : normalize_batch(block + ".bn" + number, x);
    return model_.fuse ? y : op("relu", block + ".relu" + number, {y});
  }

  Attributes norm_attributes() const { return {{"relu", std::int64_t{model_.fuse}}, {"epsilon", kEpsilon}}; }

  TensorId normalize_groups(const std::string& name, TensorId x) {
    const std::vector<std::int64_t> channels{type(x).shape[3]};
    Attributes attributes = norm_attributes();
    attributes["groups"] = kNormGroups;
    const TensorId gamma = weight(name + ".weight", channels), beta = weight(name + ".bias", channels);
    return op("group_norm", name, {x, gamma, beta}, attributes);
  }

  // With the running statistics read or moved on.
  TensorId normalize_batch(const std::string& name, TensorId x) {
    const std::vector<std::int64_t> channels{type(x).shape[3]};
    const TensorId gamma = weight(name + ".weight", channels), beta = weight(name + ".bias", channels);
    const TensorId mean = graph_.add_input(name + ".running_mean", {DType::f32, channels}, Role::statistic);
    const TensorId variance = graph_.add_input(name + ".running_variance", {DType::f32, channels}, Role::statistic);
    if (mode_ == Mode::evaluate)
      return op("batch_norm_inference", name, {x, gamma, beta, mean, variance}, norm_attributes());
    const auto outputs = graph_.add_op(registry_, "batch_norm", name, {x, gamma, beta}, norm_attributes());
    op("running_statistics", name + ".running", {outputs[1], outputs[2], mean, variance},
       {{"momentum", kStatisticsMomentum}, {"elements_per_sample", type(x).shape[1] * type(x).shape[2]}});
    return outputs[0];
  }

  // The shortcut is the raw input, or a 1x1 convolution of the normalised one where channels or stride change. It comes
  // first, so that its gradient, wider than the block's, comes last.
  TensorId block(const std::string& name, TensorId x, std::int64_t channels, std::int64_t stride) {
    const bool project = stride != 1 || type(x).shape[3] != channels;
    const TensorId first = normalize(name, "1", x);
    const TensorId shortcut = project ? convolution(name + ".shortcut", first, channels, 1, stride) : x;
    TensorId y = convolution(name + ".conv1", first, channels, 3, stride);
    if (model_.dropout > 0 && mode_ == Mode::train)
      y = op("dropout", name + ".dropout", {y}, {{"rate", model_.dropout}, {"stream", dropouts_++}});
    y = normalize(name, "2", y);
    y = convolution(name + ".conv2", y, channels, 3, 1);
    return op("add", name + ".add", {y, shortcut});
  }

  const WideResNet& model_;
  const OpRegistry& registry_;
  Mode mode_;
  std::int64_t dropouts_ = 0;  // so far: each draws from a stream of its own
  Graph graph_;
};

}  // namespace

WideResNet parse_wide_resnet(std::string_view name) {
  const auto refuse = [&] {
    throw InvalidArgument("model '" + std::string(name) +
                          "' is unknown; wide resnets are called wrn-DEPTH-WIDTH, such as wrn-28-2");
  };
  constexpr std::string_view kPrefix = "wrn-";
  if (!name.starts_with(kPrefix)) refuse();
  WideResNet model;
  const char* const end = name.data() + name.size();
  const auto depth = std::from_chars(name.data() + kPrefix.size(), end, model.depth);
  if (depth.ec != std::errc{} || depth.ptr == end || *depth.ptr != '-') refuse();
  const auto width = std::from_chars(depth.ptr + 1, end, model.width);
  if (width.ec != std::errc{} || width.ptr != end) refuse();
  check(model);
  return model;
}

Graph build_wide_resnet(const WideResNet& model, const OpRegistry& registry, std::int64_t batch, Mode mode) {
  check(model);
  if (batch <= 0)
    throw InvalidArgument("wide resnet: batch of " + std::to_string(batch) + " samples; it has at least 1");
  return Builder(model, registry, batch, mode).build();
}

}  // namespace thimble
