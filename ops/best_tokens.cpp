// The likeliest entries of a vocabulary after each hypothesis: the largest of log_softmax(x w^T). As in
// vocabulary_loss.cpp, logits exist for a slice of rows at a time.
#include <algorithm>
#include <cmath>

#include "matrix_product.h"
#include "softmax_row.h"
#include "thimble/parallel.h"
#include "tokens.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 8;
constexpr const char* kKind = "best_tokens";

enum Input : std::size_t { kX, kWeights, kLengths };
enum Output : std::size_t { kScores, kIds };

struct Candidate {
  float logit;
  std::int32_t id;
};

// Of equal logits the lower id.
bool is_better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

struct BestSizes {
  std::int64_t sentences, beam, channels, vocabulary, slice, count, first;

  static BestSizes of(const OpShape& shape) {
    const std::vector<std::int64_t>& x = shape.inputs[kX].shape;
    return {x[0],
            x[1],
            x[2],
            shape.inputs[kWeights].shape[0],
            std::min(int_attribute(shape.attributes, "slice"), x[0] * x[1]),
            int_attribute(shape.attributes, "count"),
            int_attribute(shape.attributes, "first")};
  }
};

// What a slice of rows needs: where each lies, its candidates, its input and its logits.
struct Slice {
  std::int64_t* rows;
  Candidate* candidates;
  float *inputs, *logits;

  static Bytes candidate_bytes(const BestSizes& s) {
    return align_up(Bytes{s.slice * (8 + s.count * static_cast<std::int64_t>(sizeof(Candidate)))}, kAlignment);
  }
  static Bytes bytes(const BestSizes& s) {
    return candidate_bytes(s) + align_up(Bytes{4 * s.slice * (s.channels + s.vocabulary)}, kAlignment);
  }
  static Slice in(std::byte* workspace, const BestSizes& s) {
    auto* rows = reinterpret_cast<std::int64_t*>(workspace);
    auto* inputs = floats(workspace + candidate_bytes(s).value);
    return {rows, reinterpret_cast<Candidate*>(rows + s.slice), inputs, inputs + s.slice * s.channels};
  }
};

// The `count` best from entry `first` on, best first. A heap with the worst of them on top; most entries are compared
// with that one only.
void select_best(const float* logits, std::int64_t first, std::int64_t vocabulary, std::int64_t count,
                 Candidate* best) {
  for (std::int64_t i = 0; i < count; ++i) best[i] = {logits[first + i], static_cast<std::int32_t>(first + i)};
  std::make_heap(best, best + count, is_better);
  for (std::int64_t id = first + count; id < vocabulary; ++id) {
    if (!(logits[id] > best[0].logit)) continue;
    std::pop_heap(best, best + count, is_better);
    best[count - 1] = {logits[id], static_cast<std::int32_t>(id)};
    std::push_heap(best, best + count, is_better);
  }
  std::sort_heap(best, best + count, is_better);
}

class BestTokens {
 public:
  BestTokens(const OpShape& shape, const KernelArguments& a)
      : a_(a), sizes_(BestSizes::of(shape)), slice_(Slice::in(a.workspace, sizes_)), threads_(shape.device.threads) {}

  void run() {
    for (std::int64_t n = 0; n < sizes_.sentences; ++n) {
      const std::int64_t length = length_of(kKind, a_.inputs[kLengths], n, sizes_.beam);
      for (std::int64_t b = 0; b < length; ++b) take(n * sizes_.beam + b);
      const std::int64_t begin = (n * sizes_.beam + length) * sizes_.count, end = (n + 1) * sizes_.beam * sizes_.count;
      std::fill(scores() + begin, scores() + end, 0.0f);
      std::fill(ids() + begin, ids() + end, 0);
    }
    flush();
  }

 private:
  float* scores() const { return floats(a_.outputs[kScores]); }
  std::int32_t* ids() const { return reinterpret_cast<std::int32_t*>(a_.outputs[kIds]); }

  void take(std::int64_t row) {
    slice_.rows[in_slice_] = row;
    std::copy_n(floats(a_.inputs[kX]) + row * sizes_.channels, sizes_.channels,
                slice_.inputs + in_slice_ * sizes_.channels);
    if (++in_slice_ == sizes_.slice) flush();
  }

  void flush() {
    if (in_slice_ == 0) return;
    multiply(threads_, {in_slice_, sizes_.vocabulary, sizes_.channels}, {slice_.inputs, sizes_.channels},
             {floats(a_.inputs[kWeights]), sizes_.channels, true}, slice_.logits, sizes_.vocabulary, false);
    const Chunks chunks = Chunks::of(in_slice_, kChunks);
    parallel_chunks(threads_, chunks.count, [&](std::int64_t k) {
      for (std::int64_t i = chunks.begin(k); i < chunks.end(k); ++i) finish_row(i);
    });
    in_slice_ = 0;
  }

  void finish_row(std::int64_t i) const {
    float* logits = slice_.logits + i * sizes_.vocabulary;
    Candidate* best = slice_.candidates + i * sizes_.count;
    select_best(logits, sizes_.first, sizes_.vocabulary, sizes_.count, best);
    const SoftmaxRow softmax = exponentials(logits, 1, logits, sizes_.vocabulary);
    const double logarithm = static_cast<double>(softmax.largest) + std::log(static_cast<double>(softmax.sum));
    for (std::int64_t c = 0; c < sizes_.count; ++c) {
      scores()[slice_.rows[i] * sizes_.count + c] = static_cast<float>(static_cast<double>(best[c].logit) - logarithm);
      ids()[slice_.rows[i] * sizes_.count + c] = best[c].id;
    }
  }

  const KernelArguments& a_;
  BestSizes sizes_;
  Slice slice_;
  int threads_;
  std::int64_t in_slice_ = 0;
};

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs(kKind, in, 3);
  const TensorType &x = in[kX], &weights = in[kWeights];
  expect_tokens(kKind, x);
  expect_rank(kKind, weights, 2);
  expect_lengths(kKind, in[kLengths], x.shape[0]);
  if (weights.batched || weights.shape[1] != x.shape[2])
    throw InvalidArgument(std::string(kKind) + ": the output matrix does not fit the input");
  if (const std::int64_t slice = int_attribute(attributes, "slice"); slice < 1)
    throw InvalidArgument(std::string(kKind) + ": a slice of " + std::to_string(slice) + " rows");
  const std::int64_t count = int_attribute(attributes, "count"), first = int_attribute(attributes, "first");
  if (first < 0 || count < 1 || count > weights.shape[0] || first > weights.shape[0] - count)
    throw InvalidArgument(std::string(kKind) + ": " + std::to_string(count) + " of the " +
                          std::to_string(weights.shape[0]) + " entries of the vocabulary, from entry " +
                          std::to_string(first) + " on");
  const std::vector<std::int64_t> shape{x.shape[0], x.shape[1], count};
  return {{"scores", {DType::f32, shape, true}}, {"ids", {DType::i32, shape, true}}};
}

OpCost cost(const OpShape& shape) {
  OpCost total = bytes_moved(shape);
  total.flops = 2 * static_cast<double>(element_count(shape.inputs[kWeights])) *
                static_cast<double>(shape.inputs[kX].shape[0] * shape.inputs[kX].shape[1]);
  return total;
}

}  // namespace

void register_best_tokens(OpRegistry& registry) {
  OpDefinition best;
  best.kind = kKind;
  best.infer = infer;
  best.cost = cost;
  best.workspace = [](const OpShape& s) { return Slice::bytes(BestSizes::of(s)); };
  best.make_kernel = [](const OpShape& s) {
    return function_kernel(s, [](const OpShape& shape, const KernelArguments& a) { BestTokens(shape, a).run(); });
  };
  registry.add(best);
}

}  // namespace thimble
