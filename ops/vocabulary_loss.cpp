// The output matrix of a language model with its label-smoothed cross-entropy (Szegedy et al. 2016, as fairseq sums
// it): logits exist for a slice of tokens at a time. In training the gradients of what it reads are made with them,
// since the loss is the end of the graph: no logit is computed twice and none is kept.
#include "vocabulary_loss.h"

#include <cmath>

#include "accumulation.h"
#include "matrix_product.h"
#include "softmax_row.h"
#include "thimble/parallel.h"
#include "tokens.h"

namespace thimble {
namespace {

using namespace vocabulary_loss;

constexpr std::int64_t kChunks = 8;

// What a slice of tokens needs: where each lies, its input, the gradient of that, its logits and its loss.
struct Slice {
  double *loss, *nll;
  float *inputs, *gradients, *logits;
  std::int64_t* rows;

  static Bytes bytes(const LossSizes& s) {
    return align_up(Bytes{s.slice * (2 * 8 + 8)}, kAlignment) +
           align_up(Bytes{4 * s.slice * (2 * s.channels + s.vocabulary)}, kAlignment);
  }
  static Slice in(std::byte* workspace, const LossSizes& s) {
    auto* loss = reinterpret_cast<double*>(workspace);
    auto* inputs = floats(workspace + align_up(Bytes{s.slice * (2 * 8 + 8)}, kAlignment).value);
    return {loss,
            loss + s.slice,
            inputs,
            inputs + s.slice * s.channels,
            inputs + 2 * s.slice * s.channels,
            reinterpret_cast<std::int64_t*>(loss + 2 * s.slice)};
  }
};

THIMBLE_CLONES double sum_of(const float* x, std::int64_t n) {
  double lanes[8] = {};
  const std::int64_t even = n / 8 * 8;
  for (std::int64_t i = 0; i < even; i += 8)
    for (int l = 0; l < 8; ++l) lanes[l] += static_cast<double>(x[i + l]);
  for (std::int64_t i = even; i < n; ++i) lanes[i - even] += static_cast<double>(x[i]);
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return sum;
}

// x[i] = factor * x[i] - less
THIMBLE_CLONES void scale_and_lower(float* x, float factor, float less, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = factor * x[i] - less;
}

class VocabularyLoss {
 public:
  VocabularyLoss(const OpShape& shape, const KernelArguments& a)
      : shape_(shape),
        a_(a),
        sizes_(LossSizes::of(shape)),
        slice_(Slice::in(a.workspace, sizes_)),
        smoothing_(real_attribute(shape.attributes, "smoothing")),
        threads_(shape.device.threads),
        makes_gradients_(a.outputs.size() > kInputGradient),
        has_begun_(makes_gradients_ && adds_to_output(shape, a, kWeightsGradient)) {
    if (a.scalars->loss_terms < 1)
      throw InvalidArgument(std::string(kKind) + ": a mean over " + std::to_string(a.scalars->loss_terms) +
                            " tokens; StepScalars::loss_terms says how many the step has");
  }

  void run() {
    for (std::int64_t b = 0; b < sizes_.sentences; ++b) {
      const std::int64_t length = length_of(kKind, a_.inputs[kLengths], b, sizes_.room);
      for (std::int64_t t = 0; t < length; ++t) take(b * sizes_.room + t);
      if (makes_gradients_)
        std::fill_n(floats(a_.outputs[kInputGradient]) + (b * sizes_.room + length) * sizes_.channels,
                    (sizes_.room - length) * sizes_.channels, 0.0f);
    }
    flush();
    if (makes_gradients_ && !has_begun_)  // no token in this microbatch, the first
      std::fill_n(floats(a_.outputs[kWeightsGradient]), sizes_.vocabulary * sizes_.channels, 0.0f);
    const auto terms = static_cast<double>(a_.scalars->loss_terms);
    floats(a_.outputs[kLoss])[0] = static_cast<float>(loss_ / terms);
    floats(a_.outputs[kNll])[0] = static_cast<float>(nll_ / terms);
  }

 private:
  void take(std::int64_t row) {
    slice_.rows[count_++] = row;
    if (count_ == sizes_.slice) flush();
  }

  void flush() {
    if (count_ == 0) return;
    gather();
    const std::int64_t channels = sizes_.channels, vocabulary = sizes_.vocabulary;
    const float* weights = floats(a_.inputs[kWeights]);
    multiply(threads_, {count_, vocabulary, channels}, {slice_.inputs, channels}, {weights, channels, true},
             slice_.logits, vocabulary, false);
    const Chunks chunks = Chunks::of(count_, kChunks);
    parallel_chunks(threads_, chunks.count, [&](std::int64_t k) {
      for (std::int64_t i = chunks.begin(k); i < chunks.end(k); ++i) finish_row(i);
    });
    for (std::int64_t i = 0; i < count_; ++i) {
      loss_ += slice_.loss[i];
      nll_ += slice_.nll[i];
    }
    if (makes_gradients_) {
      multiply(threads_, {count_, channels, vocabulary}, {slice_.logits, vocabulary}, {weights, channels},
               slice_.gradients, channels, false);
      multiply(threads_, {vocabulary, channels, count_}, {slice_.logits, vocabulary, true}, {slice_.inputs, channels},
               floats(a_.outputs[kWeightsGradient]), channels, has_begun_);
      scatter();
    }
    has_begun_ = true;
    count_ = 0;
  }

  void gather() {
    for (std::int64_t i = 0; i < count_; ++i)
      std::copy_n(floats(a_.inputs[kX]) + slice_.rows[i] * sizes_.channels, sizes_.channels,
                  slice_.inputs + i * sizes_.channels);
  }

  void scatter() {
    for (std::int64_t i = 0; i < count_; ++i)
      std::copy_n(slice_.gradients + i * sizes_.channels, sizes_.channels,
                  floats(a_.outputs[kInputGradient]) + slice_.rows[i] * sizes_.channels);
  }

  // The loss of one token, and from its logits their gradient.
  void finish_row(std::int64_t i) {
    const std::int64_t vocabulary = sizes_.vocabulary;
    const std::int32_t target = integers(a_.inputs[kTargets])[slice_.rows[i]];
    if (target < 0 || target >= vocabulary)
      throw InvalidArgument(std::string(kKind) + ": target " + std::to_string(target) + "; the vocabulary has " +
                            std::to_string(vocabulary) + " entries");
    float* logits = slice_.logits + i * vocabulary;
    const auto own = static_cast<double>(logits[target]);
    const double mean = sum_of(logits, vocabulary) / static_cast<double>(vocabulary);
    const SoftmaxRow softmax = exponentials(logits, 1, logits, vocabulary);
    const double logarithm = static_cast<double>(softmax.largest) + std::log(static_cast<double>(softmax.sum));
    slice_.nll[i] = logarithm - own;
    slice_.loss[i] = (1 - smoothing_) * (logarithm - own) + smoothing_ * (logarithm - mean);
    if (!makes_gradients_) return;
    const double share = 1 / static_cast<double>(a_.scalars->loss_terms);
    scale_and_lower(logits, static_cast<float>(share / static_cast<double>(softmax.sum)),
                    static_cast<float>(share * smoothing_ / static_cast<double>(vocabulary)), vocabulary);
    logits[target] -= static_cast<float>(share * (1 - smoothing_));
  }

  const OpShape& shape_;
  const KernelArguments& a_;
  LossSizes sizes_;
  Slice slice_;
  double smoothing_;
  int threads_;
  bool makes_gradients_;
  bool has_begun_;          // the weights' gradient holds earlier slices, or earlier microbatches
  std::int64_t count_ = 0;  // tokens in the slice
  double loss_ = 0, nll_ = 0;
};

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  if (in.size() < 4) expect_inputs(kKind, in, 4);
  expect_tokens(kKind, in[kX]);
  expect_rank(kKind, in[kWeights], 2);
  expect_ids(kKind, in[kTargets]);
  expect_lengths(kKind, in[kLengths], in[kX].shape[0]);
  const double smoothing = real_attribute(attributes, "smoothing");
  if (!(smoothing >= 0 && smoothing < 1))
    throw InvalidArgument(std::string(kKind) + ": smoothing " + std::to_string(smoothing) +
                          "; it is from 0 to below 1");
  if (const std::int64_t slice = int_attribute(attributes, "slice"); slice < 1)
    throw InvalidArgument(std::string(kKind) + ": a slice of " + std::to_string(slice) + " tokens");
  if (in[kWeights].shape[1] != in[kX].shape[2] || in[kWeights].batched || in[kTargets].shape[0] != in[kX].shape[0] ||
      in[kTargets].shape[1] != in[kX].shape[1])
    throw InvalidArgument(std::string(kKind) + ": the output matrix or the targets do not fit the input");
  const TensorType scalar{DType::f32, {1}, false};
  std::vector<OutputSpec> outputs{{"loss", scalar}, {"nll", scalar}};
  if (!flag(attributes, "gradients")) {
    expect_inputs(kKind, in, 4);
    return outputs;
  }
  outputs.push_back({"d_input", in[kX]});
  outputs.push_back(weights_gradient_output(kKind, in, 4, in[kWeights], attributes).front());
  outputs.back().suffix = "d_weight";
  return outputs;
}

OpCost cost(const OpShape& shape) {
  OpCost total = bytes_moved(shape);
  const double products = flag(shape.attributes, "gradients") ? 3 : 1;
  total.flops = products * 2 * static_cast<double>(element_count(shape.inputs[kWeights])) *
                static_cast<double>(shape.inputs[kX].shape[0] * shape.inputs[kX].shape[1]);
  return total;
}

}  // namespace

void register_vocabulary_loss(OpRegistry& registry) {
  OpDefinition loss;
  loss.kind = kKind;
  loss.infer = infer;
  loss.gradient = [](GradientContext& g) {
    g.change_forward("gradients", std::int64_t{1});
    g.set_input_gradient(kX, g.output(kInputGradient));
    g.set_input_gradient(kWeights, g.output(kWeightsGradient));
  };
  loss.cost = cost;
  loss.workspace = [](const OpShape& s) { return Slice::bytes(LossSizes::of(s)); };
  loss.make_kernel = [](const OpShape& s) {
    return function_kernel(s, [](const OpShape& shape, const KernelArguments& a) { VocabularyLoss(shape, a).run(); });
  };
  loss.fullest = full_sentences(kLengths, {kX});
  loss.in_place = {{kX, kInputGradient}};
  loss.may_accumulate = true;
  loss.accumulated_output = kWeightsGradient;
  registry.add(loss);
}

}  // namespace thimble
