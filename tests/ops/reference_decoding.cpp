#include <algorithm>
#include <cmath>

#include "reference_arrays.h"
#include "reference_tokens.h"

namespace thimble::testing {
namespace {

// Hypotheses {N, B, C}, and which of them are there.
struct Hypotheses {
  Index sentences, beam, channels;
  const Array& lengths;

  Hypotheses(const Array& x, const Array& l)
      : sentences(x.shape[0]), beam(x.shape[1]), channels(x.shape[2]), lengths(l) {}
  template <class Visit>
  void visit(Visit visit_row) const {
    for (Index n = 0; n < sentences; ++n)
      for (Index b = 0; b < static_cast<Index>(at(lengths, n)); ++b) visit_row(n, n * beam + b);
  }
};

// Every hypothesis is a sentence of one token whose first position is that of the step.
Array embedding_at(const ReferenceCall& call) {
  const Array& ids = call.inputs[0];
  const Index rows = count(ids), beam = ids.shape[1];
  ReferenceCall one = call;
  one.kind = "embedding";
  one.inputs = {ids, zeros({rows}), call.inputs[2]};
  one.inputs[0].shape = {rows, 1};
  for (Index row = 0; row < rows; ++row)
    at(one.inputs[1], row) = static_cast<double>(row % beam) < at(call.inputs[1], row / beam) ? 1 : 0;
  one.attributes["first_position"] = whole(call, "first_position") + static_cast<Index>(at(call.inputs[3], 0));
  Array y = forward_reference(one)[0];
  y.shape = {ids.shape[0], beam, call.inputs[2].shape[1]};
  return y;
}

Array keep_rows(const ReferenceCall& call) {
  const Array& x = call.inputs[0];
  Array pool = call.inputs[1];
  const Index before = call.first_sample * x.shape[1] * x.shape[2];
  for (Index i = 0; i < count(x); ++i) at(pool, before + i) = at(x, i);
  return pool;
}

// Attention over the sentences that the pools hold.
Array pool_attention(const ReferenceCall& call) {
  const Array& q = call.inputs[0];
  const Index room = whole(call, "room");
  ReferenceCall over = call;
  over.kind = "attention";
  over.attributes["rate"] = 0.0;
  for (std::size_t i : {1, 2}) {
    over.inputs[i] = zeros({q.shape[0], room, q.shape[2]});
    const Index before = call.first_sample * room * q.shape[2];
    for (Index e = 0; e < count(over.inputs[i]); ++e) at(over.inputs[i], e) = at(call.inputs[i], before + e);
  }
  return forward_reference(over)[0];
}

std::vector<Array> step_convolution(const ReferenceCall& call) {
  const Array &x = call.inputs[0], &logits = call.inputs[1], &ancestors = call.inputs[3];
  const Hypotheses h(x, call.inputs[4]);
  const Index kernel = whole(call, "kernel"), heads = whole(call, "heads");
  const auto t = static_cast<Index>(at(call.inputs[5], 0));
  Array y = zeros(x.shape), ring = call.inputs[2];
  const auto in_ring = [&](Index n, Index b, Index time, Index c) {
    return (((call.first_sample + n) * h.beam + b) * kernel + time % kernel) * h.channels + c;
  };
  h.visit([&](Index n, Index row) {
    for (Index c = 0; c < h.channels; ++c) {
      const Index head = c / (h.channels / heads);
      const Index first = ((call.kind == "step_conv" ? row : 0) * heads + head) * kernel;
      double sum = 0;
      for (Index k = 0; k < kernel; ++k) sum += std::exp(at(logits, first + k));
      for (Index back = 0; back < kernel && back <= t; ++back) {
        const double tap = std::exp(at(logits, first + kernel - 1 - back)) / sum;
        const Index ancestor = back == 0 ? 0 : static_cast<Index>(at(ancestors, row * ancestors.shape[2] + back - 1));
        at(y, row * h.channels + c) +=
            tap * (back == 0 ? at(x, row * h.channels + c) : at(call.inputs[2], in_ring(n, ancestor, t - back, c)));
      }
      at(ring, in_ring(n, row % h.beam, t, c)) = at(x, row * h.channels + c);
    }
  });
  return {y, ring};
}

std::vector<Array> best_tokens(const ReferenceCall& call) {
  const Array &x = call.inputs[0], &w = call.inputs[1];
  const Hypotheses h(x, call.inputs[2]);
  const Index vocabulary = w.shape[0], wanted = whole(call, "count");
  Array scores = zeros({h.sentences, h.beam, wanted}), ids = scores;
  h.visit([&](Index, Index row) {
    std::vector<std::pair<double, Index>> all;  // by falling logit, then by id
    double sum = 0;
    for (Index v = 0; v < vocabulary; ++v) {
      double logit = 0;
      for (Index c = 0; c < h.channels; ++c) logit += at(x, row * h.channels + c) * at(w, v * h.channels + c);
      sum += std::exp(logit);
      if (v >= whole(call, "first")) all.emplace_back(-logit, v);
    }
    std::sort(all.begin(), all.end());
    for (Index i = 0; i < wanted; ++i) {
      at(scores, row * wanted + i) = -all.at(static_cast<std::size_t>(i)).first - std::log(sum);
      at(ids, row * wanted + i) = static_cast<double>(all.at(static_cast<std::size_t>(i)).second);
    }
  });
  return {scores, ids};
}

}  // namespace

std::vector<Array> decoding_forward_reference(const ReferenceCall& call) {
  const std::string& kind = call.kind;
  if (kind == "embedding_at") return {embedding_at(call)};
  if (kind == "keep_rows") return {keep_rows(call)};
  if (kind == "pool_attention") return {pool_attention(call)};
  if (kind == "step_conv" || kind == "light_step_conv") return step_convolution(call);
  if (kind == "best_tokens") return best_tokens(call);
  return {};
}

}  // namespace thimble::testing
