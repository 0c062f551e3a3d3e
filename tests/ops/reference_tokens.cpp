#include "reference_tokens.h"

#include <cmath>

#include "reference_arrays.h"

namespace thimble::testing {
namespace {

// The sizes of {B, T, C}, and which rows are there.
struct Sentences {
  Index count, room, channels;
  const Array& lengths;

  Sentences(const Array& x, const Array& l) : count(x.shape[0]), room(x.shape[1]), channels(x.shape[2]), lengths(l) {}
  Index length(Index b) const { return static_cast<Index>(at(lengths, b)); }
  Index place(Index b, Index t, Index c) const { return (b * room + t) * channels + c; }
  template <class Visit>
  void visit(Visit visit_row) const {
    for (Index b = 0; b < count; ++b)
      for (Index t = 0; t < length(b); ++t) visit_row(b, t);
  }
};

// ---- embedding

double position_value(Index position, Index c, Index channels) {
  const Index half = channels / 2;
  const double rate = std::pow(10000.0, -static_cast<double>(c % half) / static_cast<double>(half - 1));
  return c < half ? std::sin(static_cast<double>(position) * rate) : std::cos(static_cast<double>(position) * rate);
}

Array embedding(const ReferenceCall& call) {
  const Array &ids = call.inputs[0], &table = call.inputs[2];
  Array y = zeros({ids.shape[0], ids.shape[1], table.shape[1]});
  const Sentences s(y, call.inputs[1]);
  s.visit([&](Index b, Index t) {
    const auto id = static_cast<Index>(at(ids, b * s.room + t));
    for (Index c = 0; c < s.channels; ++c)
      at(y, s.place(b, t, c)) = real(call, "scale") * at(table, id * s.channels + c) +
                                position_value(whole(call, "first_position") + t, c, s.channels);
  });
  return y;
}

Array embedding_gradient(const ReferenceCall& call, const Array& dy, Index vocabulary) {
  Array d = zeros({vocabulary, dy.shape[2]});
  const Sentences s(dy, call.inputs[1]);
  s.visit([&](Index b, Index t) {
    const auto id = static_cast<Index>(at(call.inputs[0], b * s.room + t));
    for (Index c = 0; c < s.channels; ++c) at(d, id * s.channels + c) += real(call, "scale") * at(dy, s.place(b, t, c));
  });
  return d;
}

// ---- layer norm

struct RowNorm {
  std::vector<double> normal;
  double deviation;
};

RowNorm row_norm(const Array& x, Index row, double epsilon) {
  const Index n = x.shape.back();
  RowNorm result{std::vector<double>(static_cast<std::size_t>(n)), 0};
  double mean = 0, variance = 0;
  for (Index i = 0; i < n; ++i) mean += at(x, row * n + i) / static_cast<double>(n);
  for (Index i = 0; i < n; ++i) variance += std::pow(at(x, row * n + i) - mean, 2) / static_cast<double>(n);
  result.deviation = std::sqrt(variance + epsilon);
  for (Index i = 0; i < n; ++i)
    result.normal[static_cast<std::size_t>(i)] = (at(x, row * n + i) - mean) / result.deviation;
  return result;
}

Array layer_norm(const ReferenceCall& call) {
  const Array& x = call.inputs[0];
  const Index n = x.shape.back();
  Array y = zeros(x.shape);
  for (Index row = 0; row < count(x) / n; ++row) {
    const RowNorm norm = row_norm(x, row, real(call, "epsilon"));
    for (Index i = 0; i < n; ++i)
      at(y, row * n + i) = norm.normal[static_cast<std::size_t>(i)] * at(call.inputs[1], i) + at(call.inputs[2], i);
  }
  return y;
}

std::vector<Array> layer_norm_gradient(const ReferenceCall& call, const Array& dy) {
  const Array &x = call.inputs[0], &gamma = call.inputs[1];
  const Index n = x.shape.back();
  Array dx = zeros(x.shape), dgamma = zeros({n}), dbeta = zeros({n});
  for (Index row = 0; row < count(x) / n; ++row) {
    const RowNorm norm = row_norm(x, row, real(call, "epsilon"));
    double mean = 0, product = 0;
    for (Index i = 0; i < n; ++i) {
      const double g = at(dy, row * n + i), normal = norm.normal[static_cast<std::size_t>(i)];
      at(dgamma, i) += g * normal;
      at(dbeta, i) += g;
      mean += g * at(gamma, i) / static_cast<double>(n);
      product += g * at(gamma, i) * normal / static_cast<double>(n);
    }
    for (Index i = 0; i < n; ++i)
      at(dx, row * n + i) =
          (at(dy, row * n + i) * at(gamma, i) - mean - norm.normal[static_cast<std::size_t>(i)] * product) /
          norm.deviation;
  }
  return {dx, dgamma, dbeta};
}

// ---- dynamic and lightweight convolution

// One head of one row: the softmax of its logits, and the factor that dropping leaves of each.
struct Taps {
  std::vector<double> softmax, kept;
};

class TapReference {
 public:
  explicit TapReference(const ReferenceCall& call)
      : call_(call),
        s_(call.inputs[0], call.inputs[2]),
        heads_(whole(call, "heads")),
        kernel_(whole(call, "kernel")),
        left_(whole(call, "causal") != 0 ? kernel_ - 1 : (kernel_ - 1) / 2),
        is_dynamic_(call.kind == "dynamic_conv") {}

  Array forward() const {
    Array y = zeros(call_.inputs[0].shape);
    visit([&](Index b, Index t, Index c, Index k, Index from, const Taps& taps) {
      const auto i = static_cast<std::size_t>(k);
      at(y, s_.place(b, t, c)) += taps.softmax[i] * taps.kept[i] * at(call_.inputs[0], s_.place(b, from, c));
    });
    return y;
  }

  std::vector<Array> gradient(const Array& dy) const {
    Array dx = zeros(call_.inputs[0].shape), dlogits = zeros(call_.inputs[1].shape);
    visit([&](Index b, Index t, Index c, Index k, Index from, const Taps& taps) {
      const auto i = static_cast<std::size_t>(k);
      const double g = at(dy, s_.place(b, t, c));
      at(dx, s_.place(b, from, c)) += g * taps.softmax[i] * taps.kept[i];
      // d softmax[k] / d logit[j] = softmax[k] (k == j) - softmax[k] softmax[j]
      const double of_tap = g * taps.kept[i] * at(call_.inputs[0], s_.place(b, from, c));
      const Index head = c / (s_.channels / heads_);
      for (Index j = 0; j < kernel_; ++j)
        at(dlogits, first_logit(b, t, head) + j) +=
            of_tap * taps.softmax[i] * ((j == k ? 1 : 0) - taps.softmax[static_cast<std::size_t>(j)]);
    });
    return {dx, dlogits, {}};
  }

 private:
  Index first_logit(Index b, Index t, Index head) const {
    return ((is_dynamic_ ? b * s_.room + t : 0) * heads_ + head) * kernel_;
  }

  Taps taps_of(Index b, Index t, Index head) const {
    Taps taps;
    double sum = 0;
    for (Index k = 0; k < kernel_; ++k) sum += std::exp(at(call_.inputs[1], first_logit(b, t, head) + k));
    for (Index k = 0; k < kernel_; ++k) {
      taps.softmax.push_back(std::exp(at(call_.inputs[1], first_logit(b, t, head) + k)) / sum);
      const double rate = real(call_, "rate");
      const double uniform = uniform_reference(call_, b, (t * heads_ + head) * 16 + k / 4, k % 4);
      taps.kept.push_back(uniform > rate ? 1 / (1 - rate) : 0);
    }
    return taps;
  }

  template <class Visit>
  void visit(Visit visit_product) const {
    s_.visit([&](Index b, Index t) {
      for (Index head = 0; head < heads_; ++head) {
        const Taps taps = taps_of(b, t, head);
        for (Index k = 0; k < kernel_; ++k) {
          const Index from = t + k - left_;
          if (from < 0 || from >= s_.length(b)) continue;
          const Index channels = s_.channels / heads_;
          for (Index c = head * channels; c < (head + 1) * channels; ++c) visit_product(b, t, c, k, from, taps);
        }
      }
    });
  }

  const ReferenceCall& call_;
  Sentences s_;
  Index heads_, kernel_, left_;
  bool is_dynamic_;
};

// ---- attention

class AttentionReference {
 public:
  explicit AttentionReference(const ReferenceCall& call)
      : call_(call),
        q_(call.inputs[0], call.inputs[3]),
        k_(call.inputs[1], call.inputs[4]),
        heads_(whole(call, "heads")),
        size_(q_.channels / heads_) {}

  std::vector<Array> forward() const {
    Array y = zeros(call_.inputs[0].shape), sums = zeros({q_.count, q_.room, heads_});
    visit([&](Index b, Index t, Index head, const std::vector<double>& scores, double sum) {
      at(sums, (b * q_.room + t) * heads_ + head) = std::log(sum);
      for (Index s = 0; s < k_.length(b); ++s)
        for (Index c = head * size_; c < (head + 1) * size_; ++c)
          at(y, q_.place(b, t, c)) += std::exp(scores[static_cast<std::size_t>(s)]) / sum * kept(b, t, head, s) *
                                      at(call_.inputs[2], k_.place(b, s, c));
    });
    return {y, sums};
  }

  std::vector<Array> gradient(const Array& dy) const {
    Array dq = zeros(call_.inputs[0].shape), dk = zeros(call_.inputs[1].shape), dv = dk;
    visit([&](Index b, Index t, Index head, const std::vector<double>& scores, double sum) {
      std::vector<double> p, dp;
      double mean = 0;
      for (Index s = 0; s < k_.length(b); ++s) {
        p.push_back(std::exp(scores[static_cast<std::size_t>(s)]) / sum);
        dp.push_back(0);
        for (Index c = head * size_; c < (head + 1) * size_; ++c) {
          const double g = at(dy, q_.place(b, t, c)) * kept(b, t, head, s);
          at(dv, k_.place(b, s, c)) += g * p.back();
          dp.back() += g * at(call_.inputs[2], k_.place(b, s, c));
        }
        mean += p.back() * dp.back();
      }
      for (Index s = 0; s < k_.length(b); ++s) {
        const auto i = static_cast<std::size_t>(s);
        const double d = p[i] * (dp[i] - mean) / std::sqrt(static_cast<double>(size_));
        for (Index c = head * size_; c < (head + 1) * size_; ++c) {
          at(dq, q_.place(b, t, c)) += d * at(call_.inputs[1], k_.place(b, s, c));
          at(dk, k_.place(b, s, c)) += d * at(call_.inputs[0], q_.place(b, t, c));
        }
      }
    });
    return {dq, dk, dv, {}, {}};
  }

 private:
  double kept(Index b, Index t, Index head, Index s) const {
    const double rate = real(call_, "rate");
    return uniform_reference(call_, b, (t * heads_ + head) * 256 + s / 4, s % 4) > rate ? 1 / (1 - rate) : 0;
  }

  template <class Visit>
  void visit(Visit visit_row) const {
    q_.visit([&](Index b, Index t) {
      if (k_.length(b) == 0) return;  // nothing to attend to
      for (Index head = 0; head < heads_; ++head) {
        std::vector<double> scores;
        double sum = 0;
        for (Index s = 0; s < k_.length(b); ++s) {
          double score = 0;
          for (Index c = head * size_; c < (head + 1) * size_; ++c)
            score += at(call_.inputs[0], q_.place(b, t, c)) * at(call_.inputs[1], k_.place(b, s, c));
          scores.push_back(score / std::sqrt(static_cast<double>(size_)));
          sum += std::exp(scores.back());
        }
        visit_row(b, t, head, scores, sum);
      }
    });
  }

  const ReferenceCall& call_;
  Sentences q_, k_;
  Index heads_, size_;
};

// ---- output matrix and loss

class LossReference {
 public:
  explicit LossReference(const ReferenceCall& call)
      : call_(call), s_(call.inputs[0], call.inputs[3]), vocabulary_(call.inputs[1].shape[0]) {}

  std::vector<Array> forward() const {
    Array loss = zeros({1}), nll = zeros({1});
    visit([&](Index, Index, Index target, const std::vector<double>& log_probabilities) {
      double all = 0;
      for (double one : log_probabilities) all -= one / static_cast<double>(vocabulary_);
      const double own = -log_probabilities[static_cast<std::size_t>(target)];
      at(nll, 0) += own / terms();
      at(loss, 0) += ((1 - smoothing()) * own + smoothing() * all) / terms();
    });
    return {loss, nll};
  }

  std::vector<Array> gradient(double dloss) const {
    Array dx = zeros(call_.inputs[0].shape), dw = zeros(call_.inputs[1].shape);
    visit([&](Index b, Index t, Index target, const std::vector<double>& log_probabilities) {
      for (Index v = 0; v < vocabulary_; ++v) {
        const double wanted = (v == target ? 1 - smoothing() : 0) + smoothing() / static_cast<double>(vocabulary_);
        const double d = dloss * (std::exp(log_probabilities[static_cast<std::size_t>(v)]) - wanted) / terms();
        for (Index c = 0; c < s_.channels; ++c) {
          at(dx, s_.place(b, t, c)) += d * at(call_.inputs[1], v * s_.channels + c);
          at(dw, v * s_.channels + c) += d * at(call_.inputs[0], s_.place(b, t, c));
        }
      }
    });
    return {dx, dw, {}, {}};
  }

 private:
  double smoothing() const { return real(call_, "smoothing"); }
  double terms() const { return static_cast<double>(call_.loss_terms); }

  template <class Visit>
  void visit(Visit visit_row) const {
    s_.visit([&](Index b, Index t) {
      std::vector<double> logits;
      double sum = 0;
      for (Index v = 0; v < vocabulary_; ++v) {
        double logit = 0;
        for (Index c = 0; c < s_.channels; ++c)
          logit += at(call_.inputs[0], s_.place(b, t, c)) * at(call_.inputs[1], v * s_.channels + c);
        logits.push_back(logit);
        sum += std::exp(logit);
      }
      for (double& logit : logits) logit -= std::log(sum);
      visit_row(b, t, static_cast<Index>(at(call_.inputs[2], b * s_.room + t)), logits);
    });
  }

  const ReferenceCall& call_;
  Sentences s_;
  Index vocabulary_;
};

// ---- Adam

// The t-th step of Kingma and Ba's algorithm with epsilon outside of the corrected root, as fairseq has it.
std::vector<Array> adam(const ReferenceCall& call) {
  Array w = call.inputs[0], m = call.inputs[2], v = call.inputs[3];
  const double beta1 = real(call, "beta1"), beta2 = real(call, "beta2");
  const auto t = static_cast<double>(call.step + 1);
  for (Index i = 0; i < count(w); ++i) {
    const double g = at(call.inputs[1], i);
    at(m, i) = beta1 * at(m, i) + (1 - beta1) * g;
    at(v, i) = beta2 * at(v, i) + (1 - beta2) * g * g;
    const double size = call.learning_rate * std::sqrt(1 - std::pow(beta2, t)) / (1 - std::pow(beta1, t));
    at(w, i) -= call.learning_rate * real(call, "weight_decay") * at(w, i) +
                size * at(m, i) / (std::sqrt(at(v, i)) + real(call, "epsilon"));
  }
  return {w, m, v};
}

}  // namespace

std::vector<Array> token_forward_reference(const ReferenceCall& call) {
  const std::string& kind = call.kind;
  if (kind == "embedding") return {embedding(call)};
  if (kind == "embedding_backward") {
    Array d = embedding_gradient(call, call.inputs[2], whole(call, "vocabulary"));
    for (Index i = 0; call.inputs.size() > 3 && i < count(d); ++i) at(d, i) += at(call.inputs[3], i);
    return {d};
  }
  if (kind == "layer_norm") return {layer_norm(call)};
  if (kind == "dynamic_conv" || kind == "light_conv") return {TapReference(call).forward()};
  if (kind == "attention") return AttentionReference(call).forward();
  if (kind == "vocabulary_loss") {
    std::vector<Array> outputs = LossReference(call).forward();
    if (whole(call, "gradients") == 0) return outputs;
    std::vector<Array> gradients = LossReference(call).gradient(1);
    for (Index i = 0; call.inputs.size() > 4 && i < count(gradients[1]); ++i)
      at(gradients[1], i) += at(call.inputs[4], i);
    outputs.insert(outputs.end(), {gradients[0], gradients[1]});
    return outputs;
  }
  if (kind == "adam_update") return adam(call);
  return {};
}

std::vector<Array> token_gradient_reference(const ReferenceCall& call, const Array& dy) {
  const std::string& kind = call.kind;
  if (kind == "embedding") return {{}, {}, embedding_gradient(call, dy, call.inputs[2].shape[0])};
  if (kind == "layer_norm") return layer_norm_gradient(call, dy);
  if (kind == "dynamic_conv" || kind == "light_conv") return TapReference(call).gradient(dy);
  if (kind == "attention") return AttentionReference(call).gradient(dy);
  if (kind == "vocabulary_loss") return LossReference(call).gradient(at(dy, 0));
  return {};
}

}  // namespace thimble::testing
