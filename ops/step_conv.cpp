// One position of the causal dynamic or lightweight convolution, for a decoder that goes on from hypotheses which
// change places. What they were at the last `kernel` positions lies in a ring {R, kernel, C}: slot t % kernel of row n
// * B + b holds row b of sentence n as it was at position t. Nothing moves when hypotheses do: `ancestors` {N, B, L}
// say which row each goes on from, entry j - 1 at position t - j. What is written is a slot that no row reads any more.
#include "decoding.h"
#include "tap_convolution.h"
#include "thimble/parallel.h"
#include "vector_sum.h"

namespace thimble {
namespace {

enum Input : std::size_t { kX, kLogits, kRing, kAncestors, kLengths, kPosition };
enum Output : std::size_t { kY, kNewRing };

struct StepKind {
  const char* name;
  bool is_dynamic;  // logits {N, B, heads * kernel}, else {heads, kernel} for all positions
};

class StepConvolution {
 public:
  StepConvolution(const StepKind& kind, const OpShape& shape, const KernelArguments& a)
      : kind_(kind),
        a_(a),
        sentences_(shape.inputs[kX].shape[0]),
        beam_(shape.inputs[kX].shape[1]),
        channels_(shape.inputs[kX].shape[2]),
        heads_(int_attribute(shape.attributes, "heads")),
        kernel_(int_attribute(shape.attributes, "kernel")),
        depth_(shape.inputs[kAncestors].shape[2]),
        position_(position_of(kind.name, a.inputs[kPosition])),
        first_row_(first_pool_row(kind.name, a, shape.inputs[kRing], sentences_, beam_)) {}

  void run(int threads) const {
    parallel_chunks(threads, sentences_, [&](std::int64_t n) {
      const std::int64_t length = length_of(kind_.name, a_.inputs[kLengths], n, beam_);
      for (std::int64_t b = 0; b < length; ++b) convolve(n, b);
      float* y = floats(a_.outputs[kY]) + n * beam_ * channels_;
      std::fill(y + length * channels_, y + beam_ * channels_, 0.0f);
      for (std::int64_t b = 0; b < length; ++b)
        std::copy_n(x_of(n, b), channels_, floats(a_.outputs[kNewRing]) + place(n, b, position_));
    });
  }

 private:
  const float* x_of(std::int64_t n, std::int64_t b) const {
    return floats(a_.inputs[kX]) + (n * beam_ + b) * channels_;
  }

  std::int64_t place(std::int64_t n, std::int64_t b, std::int64_t position) const {
    return ((first_row_ + n * beam_ + b) * kernel_ + position % kernel_) * channels_;
  }

  // Row b at position t - back, for back from 1 to kernel - 1.
  const float* ancestor(std::int64_t n, std::int64_t b, std::int64_t back) const {
    const std::int64_t other = integers(a_.inputs[kAncestors])[(n * beam_ + b) * depth_ + back - 1];
    if (other < 0 || other >= beam_)
      throw InvalidArgument(std::string(kind_.name) + ": ancestor " + std::to_string(other) + " among " +
                            std::to_string(beam_) + " hypotheses");
    return floats(a_.inputs[kRing]) + place(n, other, position_ - back);
  }

  // The first position that a tap falls on comes first, as in a whole sentence.
  void convolve(std::int64_t n, std::int64_t b) const {
    const std::int64_t taps = std::min(kernel_, position_ + 1), n_channels = channels_ / heads_;
    const float* rows[kMostTaps];
    for (std::int64_t k = 0; k + 1 < taps; ++k) rows[k] = ancestor(n, b, taps - 1 - k);
    rows[taps - 1] = x_of(n, b);
    const float* logits = floats(a_.inputs[kLogits]) + (kind_.is_dynamic ? (n * beam_ + b) * heads_ * kernel_ : 0);
    float weights[kMostTaps];
    for (std::int64_t head = 0; head < heads_; ++head) {
      make_softmax_taps(logits + head * kernel_, kernel_, weights);
      float* y = floats(a_.outputs[kY]) + (n * beam_ + b) * channels_ + head * n_channels;
      std::fill_n(y, n_channels, 0.0f);
      for (std::int64_t k = 0; k < taps; ++k)
        add_scaled(rows[k] + head * n_channels, weights[kernel_ - taps + k], y, n_channels);
    }
  }

  const StepKind& kind_;
  const KernelArguments& a_;
  std::int64_t sentences_, beam_, channels_, heads_, kernel_, depth_, position_, first_row_;
};

std::vector<OutputSpec> infer(const StepKind& step, const std::vector<TensorType>& in, const Attributes& attributes) {
  const std::string kind = step.name;
  expect_inputs(kind, in, 6);
  const TensorType &x = in[kX], &ancestors = in[kAncestors];
  expect_tokens(kind, x);
  expect_heads(kind, x, attributes);
  expect_kernel(kind, attributes);
  const std::int64_t heads = int_attribute(attributes, "heads"), kernel = int_attribute(attributes, "kernel");
  expect_same(kind, in[kLogits],
              step.is_dynamic ? TensorType{DType::f32, {x.shape[0], x.shape[1], heads * kernel}, true}
                              : TensorType{DType::f32, {heads, kernel}, false});
  expect_pool(kind, in[kRing], {kernel, x.shape[2]}, x.shape[0], x.shape[1]);
  if (ancestors.shape.size() != 3 || ancestors.shape[2] < kernel - 1 ||
      ancestors != TensorType{DType::i32, {x.shape[0], x.shape[1], ancestors.shape[2]}, true})
    throw InvalidArgument(kind + ": the ancestors are no batched i32 tensor of " + std::to_string(kernel - 1) +
                          " positions or more for each hypothesis");
  expect_lengths(kind, in[kLengths], x.shape[0]);
  expect_position(kind, in[kPosition]);
  return {{"", x}, {"ring", in[kRing], Role::state, kRing}};
}

// Of the ring, one slot of each hypothesis is written and the others are read.
OpCost cost(const OpShape& shape) {
  const TensorType& x = shape.inputs[kX];
  OpCost total = bytes_moved({{x, shape.inputs[kLogits], shape.inputs[kAncestors]}, {x}, {}, {}});
  total.flops = tap_flops(x, shape.attributes);
  total.bytes +=
      static_cast<double>(bytes_of(x).value) * static_cast<double>(int_attribute(shape.attributes, "kernel"));
  return total;
}

void register_kind(OpRegistry& registry, const StepKind& kind) {
  OpDefinition step;
  step.kind = kind.name;
  step.infer = [kind](const std::vector<TensorType>& in, const Attributes& attributes) {
    return infer(kind, in, attributes);
  };
  step.cost = cost;
  step.make_kernel = [kind](const OpShape& s) {
    return function_kernel(s, [kind](const OpShape& shape, const KernelArguments& a) {
      copy_pool(shape.inputs[kRing], a.inputs[kRing], a.outputs[kNewRing]);
      StepConvolution(kind, shape, a).run(shape.device.threads);
    });
  };
  step.once = true;
  registry.add(step);
}

}  // namespace

void register_step_conv(OpRegistry& registry) {
  register_kind(registry, {"step_conv", true});
  register_kind(registry, {"light_step_conv", false});
}

}  // namespace thimble
