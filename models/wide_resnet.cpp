#include "thimble/wide_resnet.h"

#include <charconv>
#include <cmath>
#include <numbers>

#include "thimble/error.h"
#include "thimble/philox.h"

namespace thimble {
namespace {

constexpr std::int64_t kStemChannels = 16;
constexpr std::int64_t kPicture = 32;
constexpr double kEpsilon = 1e-5;
constexpr double kStatisticsMomentum = 0.1;

class Builder {
 public:
  Builder(const WideResNet& model, const OpRegistry& registry, std::int64_t batch, Mode mode)
      : model_(model), registry_(registry), mode_(mode) {
    graph_.batch = batch;
  }

  Graph build() {
    const TensorId images =
        graph_.add_input("images", {DType::f32, {graph_.batch, kPicture, kPicture, 3}, true}, Role::input);
    const TensorId labels = graph_.add_input("labels", {DType::i32, {graph_.batch}, true}, Role::input);
    TensorId x = convolution("stem", images, kStemChannels, 3, 1);
    int number = 0;
    for (int group = 0; group < 3; ++group)
      for (int i = 0; i < (model_.depth - 4) / 6; ++i) {
        const std::int64_t channels = (kStemChannels << group) * model_.width;
        x = block("block" + std::to_string(number++), x, channels, group > 0 && i == 0 ? 2 : 1);
      }
    x = normalize("final.bn", x);
    x = op("global_average_pool", "pool", {x});
    x = classifier(x);
    const auto outputs = graph_.add_op(registry_, "softmax_cross_entropy", "head", {x, labels});
    rename(outputs[0], "loss");
    rename(outputs[1], "correct");
    return std::move(graph_);
  }

 private:
  TensorId op(const char* kind, const std::string& name, std::vector<TensorId> inputs, Attributes attributes = {}) {
    return graph_.add_op(registry_, kind, name, std::move(inputs), std::move(attributes)).front();
  }

  void rename(TensorId tensor, const char* name) {
    graph_.tensors[tensor].name = name;
    graph_.mark_output(tensor);
  }

  std::int64_t channels_of(TensorId x) const { return graph_.tensors[x].type.shape[3]; }

  TensorId vector_input(const std::string& name, std::int64_t channels, Role role) {
    return graph_.add_input(name, {DType::f32, {channels}, false}, role);
  }

  TensorId convolution(const std::string& name, TensorId x, std::int64_t outputs, std::int64_t kernel,
                       std::int64_t stride) {
    const TensorId w =
        graph_.add_input(name + ".weight", {DType::f32, {outputs, channels_of(x), kernel, kernel}, false}, Role::weight);
    return op("conv2d", name, {x, w}, {{"stride", stride}, {"padding", kernel / 2}});
  }

  // BN and ReLU.
  TensorId normalize(const std::string& name, TensorId x) {
    const std::int64_t channels = channels_of(x);
    const TensorId gamma = vector_input(name + ".weight", channels, Role::weight);
    const TensorId beta = vector_input(name + ".bias", channels, Role::weight);
    const TensorId mean = vector_input(name + ".running_mean", channels, Role::statistic);
    const TensorId variance = vector_input(name + ".running_variance", channels, Role::statistic);
    const Attributes attributes{{"relu", std::int64_t{model_.fuse}}, {"epsilon", kEpsilon}};
    TensorId y = kNoTensor;
    if (mode_ == Mode::evaluate) {
      y = op("batch_norm_inference", name, {x, gamma, beta, mean, variance}, attributes);
    } else {
      const auto made = graph_.add_op(registry_, "batch_norm", name, {x, gamma, beta}, attributes);
      const std::vector<std::int64_t>& shape = graph_.tensors[x].type.shape;
      const std::int64_t elements = shape[1] * shape[2];
      graph_.add_op(registry_, "running_statistics", name + ".running", {made[1], made[2], mean, variance},
                    {{"momentum", kStatisticsMomentum}, {"elements_per_sample", elements}});
      y = made[0];
    }
    return model_.fuse ? y : op("relu", name + ".relu", {y});
  }

  // The shortcut is the raw input, or where the shape changes a 1x1 convolution of the normalised one.
  TensorId block(const std::string& name, TensorId x, std::int64_t outputs, std::int64_t stride) {
    const TensorId normalized = normalize(name + ".bn1", x);
    const bool changes = stride != 1 || channels_of(x) != outputs;
    TensorId y = convolution(name + ".conv1", normalized, outputs, 3, stride);
    const TensorId shortcut = changes ? convolution(name + ".shortcut", normalized, outputs, 1, stride) : x;
    y = normalize(name + ".bn2", y);
    y = convolution(name + ".conv2", y, outputs, 3, 1);
    return op("add", name + ".add", {y, shortcut});
  }

  TensorId classifier(TensorId x) {
    const std::int64_t features = graph_.tensors[x].type.shape[1];
    const TensorId w = graph_.add_input("classifier.weight", {DType::f32, {model_.classes, features}, false}, Role::weight);
    const TensorId b = vector_input("classifier.bias", model_.classes, Role::weight);
    return op("linear", "classifier", {x, w, b});
  }

  const WideResNet& model_;
  const OpRegistry& registry_;
  Mode mode_;
  Graph graph_;
};

bool ends_with(std::string_view text, std::string_view end) { return text.ends_with(end); }

void fill_normal(std::span<float> values, float deviation, std::uint64_t seed, std::uint64_t stream) {
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const PhiloxBlock random = philox({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32),
                                       static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)},
                                      seed);
    const float radius = deviation * std::sqrt(-2.0f * std::log(uniform_from(random[0])));
    const float angle = 2.0f * std::numbers::pi_v<float> * uniform_from(random[1]);
    values[i] = radius * std::cos(angle);
    if (i + 1 < values.size()) values[i + 1] = radius * std::sin(angle);
  }
}

void fill_uniform(std::span<float> values, float limit, std::uint64_t seed, std::uint64_t stream) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const PhiloxBlock random = philox({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32),
                                       static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)},
                                      seed);
    values[i] = limit * (2.0f * uniform_from(random[0]) - 1.0f);
  }
}

}  // namespace

WideResNet parse_wide_resnet(const std::string& name) {
  WideResNet model;
  const char* end = name.data() + name.size();
  const std::string rule = "'; models are wrn-D-W with depth D = 6n + 4 >= 10 and width W >= 1, such as wrn-28-2";
  if (!name.starts_with("wrn-")) throw InvalidArgument("model: there is no '" + name + rule);
  const auto depth = std::from_chars(name.data() + 4, end, model.depth);
  if (depth.ec != std::errc{} || depth.ptr == end || *depth.ptr != '-') throw InvalidArgument("model: there is no '" + name + rule);
  const auto width = std::from_chars(depth.ptr + 1, end, model.width);
  if (width.ec != std::errc{} || width.ptr != end || model.width < 1 || model.width > 1000 || model.depth < 10 ||
      model.depth > 10000 || (model.depth - 4) % 6 != 0)
    throw InvalidArgument("model: there is no '" + name + rule);
  return model;
}

Graph build_wide_resnet(const WideResNet& model, const OpRegistry& registry, std::int64_t batch, Mode mode) {
  if (batch < 1) throw InvalidArgument("model: a batch of " + std::to_string(batch) + " samples; it has at least 1");
  return Builder(model, registry, batch, mode).build();
}

std::int64_t parameter_count(const Graph& graph) {
  std::int64_t count = 0;
  for (const Tensor& tensor : graph.tensors)
    if (tensor.role == Role::weight && tensor.producer == kNoOp) count += element_count(tensor.type);
  return count;
}

std::uint64_t stable_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

void initialize_parameter(std::span<float> values, std::string_view name, const TensorType& type, std::uint64_t seed) {
  const std::vector<std::int64_t>& shape = type.shape;
  const std::uint64_t stream = stable_hash(name);
  if (ends_with(name, ".weight") && shape.size() == 4) {
    fill_normal(values, std::sqrt(2.0f / static_cast<float>(shape[0] * shape[2] * shape[3])), seed, stream);
  } else if (name == "classifier.weight") {
    fill_uniform(values, 1.0f / std::sqrt(static_cast<float>(shape[1])), seed, stream);
  } else {
    const bool one = ends_with(name, ".weight") || ends_with(name, ".running_variance");
    std::fill(values.begin(), values.end(), one ? 1.0f : 0.0f);
  }
}

}  // namespace thimble
