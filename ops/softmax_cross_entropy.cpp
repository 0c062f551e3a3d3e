// Softmax and cross-entropy of logits {N, K} against labels {N}; the mean is over the whole step's batch.
#include <algorithm>

#include "registration.h"

namespace thimble {
namespace {

void forward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t samples = shape.inputs[0].shape[0], classes = shape.inputs[0].shape[1];
  const auto* labels = reinterpret_cast<const std::int32_t*>(a.inputs[1]);
  double loss = 0;
  std::int64_t correct = 0;
  for (std::int64_t n = 0; n < samples; ++n) {
    if (labels[n] < 0 || labels[n] >= classes)
      throw InvalidArgument("softmax_cross_entropy: label " + std::to_string(labels[n]) + " of sample " +
                            std::to_string(a.samples.begin + n) + "; there are " + std::to_string(classes) +
                            " classes");
    const float* logits = floats(a.inputs[0]) + n * classes;
    float* probabilities = floats(a.outputs[2]) + n * classes;
    const std::int64_t best = std::max_element(logits, logits + classes) - logits;
    const float largest = logits[best], own = logits[labels[n]];
    correct += best == labels[n];
    double sum = 0;
    for (std::int64_t k = 0; k < classes; ++k) {
      probabilities[k] = std::exp(logits[k] - largest);
      sum += static_cast<double>(probabilities[k]);
    }
    for (std::int64_t k = 0; k < classes; ++k)
      probabilities[k] = static_cast<float>(static_cast<double>(probabilities[k]) / sum);
    loss += std::log(sum) - static_cast<double>(own - largest);
  }
  floats(a.outputs[0])[0] = static_cast<float>(loss / static_cast<double>(a.batch));
  floats(a.outputs[1])[0] = static_cast<float>(correct);
}

void backward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t samples = shape.inputs[0].shape[0], classes = shape.inputs[0].shape[1];
  const auto* labels = reinterpret_cast<const std::int32_t*>(a.inputs[1]);
  const float scale = 1.0f / static_cast<float>(a.batch);
  for (std::int64_t n = 0; n < samples; ++n)
    for (std::int64_t k = 0; k < classes; ++k) {
      const float p = floats(a.inputs[0])[n * classes + k];
      floats(a.outputs[0])[n * classes + k] = scale * (p - (k == labels[n] ? 1.0f : 0.0f));
    }
}

void expect_pair(const std::string& kind, const std::vector<TensorType>& in) {
  expect_inputs(kind, in, 2);
  expect_rank(kind, in[0], 2);
  expect_same(kind, in[1], {DType::i32, {in[0].shape[0]}, true});
}

}  // namespace

void register_softmax_cross_entropy(OpRegistry& registry) {
  OpDefinition loss;
  loss.kind = "softmax_cross_entropy";
  loss.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_pair("softmax_cross_entropy", in);
    const TensorType scalar{DType::f32, {1}, false};
    return std::vector<OutputSpec>{{"loss", scalar}, {"correct", scalar}, {"probabilities", in[0]}};
  };
  loss.gradient = [](GradientContext& g) {
    g.set_input_gradient(0, g.emit("softmax_cross_entropy_backward", "d_input", {g.output(2), g.input(1)}).front());
  };
  loss.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  loss.in_place = {{0, 2}};
  registry.add(loss);

  OpDefinition back;
  back.kind = "softmax_cross_entropy_backward";
  back.infer = [](const std::vector<TensorType>& in, const Attributes&) {
    expect_pair("softmax_cross_entropy_backward", in);
    return outputs_like(in[0]);
  };
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.in_place = {{0, 0}};
  registry.add(back);
}

}  // namespace thimble
