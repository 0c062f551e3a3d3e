#include "reference_ops.h"

#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "reference_arrays.h"
#include "reference_tokens.h"

namespace thimble::testing {
namespace {

// Calls visit(index in y, index in x, index in w) for every product a convolution adds up.
template <class Visit>
void visit_products(const ReferenceCall& call, const Array& y, Visit visit) {
  const auto& x = call.inputs[0].shape;
  const auto& w = call.inputs[1].shape;
  const Index stride = whole(call, "stride"), padding = whole(call, "padding");
  for (Index n = 0; n < y.shape[0]; ++n)
    for (Index oh = 0; oh < y.shape[1]; ++oh)
      for (Index ow = 0; ow < y.shape[2]; ++ow)
        for (Index o = 0; o < w[0]; ++o)
          for (Index kh = 0; kh < w[2]; ++kh)
            for (Index kw = 0; kw < w[3]; ++kw) {
              const Index h = oh * stride + kh - padding, v = ow * stride + kw - padding;
              if (h < 0 || v < 0 || h >= x[1] || v >= x[2]) continue;
              for (Index i = 0; i < w[1]; ++i)
                visit(((n * y.shape[1] + oh) * y.shape[2] + ow) * w[0] + o, ((n * x[1] + h) * x[2] + v) * x[3] + i,
                      ((o * w[1] + i) * w[2] + kh) * w[3] + kw);
            }
}

Array convolution(const ReferenceCall& call) {
  const auto& x = call.inputs[0].shape;
  const auto& w = call.inputs[1].shape;
  const Index stride = whole(call, "stride"), padding = whole(call, "padding");
  Array y = zeros({x[0], (x[1] + 2 * padding - w[2]) / stride + 1, (x[2] + 2 * padding - w[3]) / stride + 1, w[0]});
  visit_products(call, y,
                 [&](Index iy, Index ix, Index iw) { at(y, iy) += at(call.inputs[0], ix) * at(call.inputs[1], iw); });
  return y;
}

std::vector<Array> convolution_gradient(const ReferenceCall& call, const Array& dy) {
  Array dx = zeros(call.inputs[0].shape), dw = zeros(call.inputs[1].shape);
  visit_products(call, dy, [&](Index iy, Index ix, Index iw) {
    at(dx, ix) += at(dy, iy) * at(call.inputs[1], iw);
    at(dw, iw) += at(dy, iy) * at(call.inputs[0], ix);
  });
  return {dx, dw};
}

// Which of the moments belongs to element i of x: one a channel, or {samples, groups}.
Index moment_of(const Array& x, const Array& mean, Index i) {
  const Index channels = x.shape.back(), c = i % channels;
  if (mean.shape.size() == 1) return c;
  const Index groups = mean.shape[1];
  return i / (count(x) / x.shape[0]) * groups + c / (channels / groups);
}

// Two passes: the mean, then the squares of what differs from it.
std::vector<Array> moments_of_shape(const Array& x, std::vector<Index> shape) {
  Array mean = zeros(shape), variance = zeros(shape);
  const auto of_one = static_cast<double>(count(x) / count(mean));
  for (Index i = 0; i < count(x); ++i) at(mean, moment_of(x, variance, i)) += at(x, i) / of_one;
  for (Index i = 0; i < count(x); ++i) {
    const Index m = moment_of(x, variance, i);
    at(variance, m) += std::pow(at(x, i) - at(mean, m), 2) / of_one;
  }
  return {mean, variance};
}

std::vector<Array> statistics(const Array& x) { return moments_of_shape(x, {x.shape.back()}); }

std::vector<Array> group_statistics(const ReferenceCall& call) {
  return moments_of_shape(call.inputs[0], {call.inputs[0].shape[0], whole(call, "groups")});
}

Array normalized(const ReferenceCall& call, const Array& mean, const Array& variance) {
  const Array& x = call.inputs[0];
  Array y = zeros(x.shape);
  for (Index i = 0; i < count(x); ++i) {
    const Index c = i % x.shape.back(), m = moment_of(x, mean, i);
    at(y, i) = (at(x, i) - at(mean, m)) / std::sqrt(at(variance, m) + real(call, "epsilon")) * at(call.inputs[1], c) +
               at(call.inputs[2], c);
    if (whole(call, "relu") != 0 && at(y, i) < 0) at(y, i) = 0;
  }
  return y;
}

// Of inputs {x, gamma, beta}, the statistics taken for functions of x.
std::vector<Array> normalized_gradient(const ReferenceCall& call, const Array& mean, const Array& variance,
                                       const Array& dy) {
  const Array& x = call.inputs[0];
  const Index channels = x.shape.back();
  const auto of_one = static_cast<double>(count(x) / count(mean));
  const Array y = normalized(call, mean, variance);
  Array dx = zeros(x.shape), dgamma = zeros({channels}), dbeta = zeros({channels});
  Array sum = zeros(mean.shape), product = zeros(mean.shape);
  const auto passes = [&](Index i) { return whole(call, "relu") != 0 && !(at(y, i) > 0) ? 0.0 : at(dy, i); };
  const auto deviation = [&](Index m) { return std::sqrt(at(variance, m) + real(call, "epsilon")); };
  const auto unit = [&](Index i, Index m) { return (at(x, i) - at(mean, m)) / deviation(m); };
  for (Index i = 0; i < count(x); ++i) {
    const Index c = i % channels, m = moment_of(x, mean, i);
    at(dbeta, c) += passes(i);
    at(dgamma, c) += passes(i) * unit(i, m);
    at(sum, m) += passes(i) * at(call.inputs[1], c);
    at(product, m) += passes(i) * at(call.inputs[1], c) * unit(i, m);
  }
  for (Index i = 0; i < count(x); ++i) {
    const Index m = moment_of(x, mean, i);
    at(dx, i) =
        (passes(i) * at(call.inputs[1], i % channels) - at(sum, m) / of_one - unit(i, m) * at(product, m) / of_one) /
        deviation(m);
  }
  return {dx, dgamma, dbeta};
}

std::vector<Array> group_norm_gradient(const ReferenceCall& call, const Array& dy) {
  const auto moments = group_statistics(call);
  return normalized_gradient(call, moments[0], moments[1], dy);
}

std::vector<Array> batch_norm_gradient(const ReferenceCall& call, const Array& dy) {
  const auto moments = statistics(call.inputs[0]);
  return normalized_gradient(call, moments[0], moments[1], dy);
}

// Gated by its input: {dy, x, gamma, mean, variance, beta}. Where nothing gates, beta may be left out.
std::vector<Array> norm_backward(const ReferenceCall& call) {
  ReferenceCall forward = call;
  forward.inputs = {call.inputs[1], call.inputs[2], call.inputs.size() > 5 ? call.inputs[5] : call.inputs[2]};
  return normalized_gradient(forward, call.inputs[3], call.inputs[4], call.inputs[0]);
}

// The convolution that {x, mean, variance, gamma, beta, w} stands for; w is empty where its gradient is asked for.
ReferenceCall convolution_of_normalized(const ReferenceCall& call, Array w) {
  ReferenceCall norm = call;
  norm.inputs = {call.inputs[0], call.inputs[3], call.inputs[4]};
  norm.attributes["relu"] = Index{1};
  ReferenceCall convolved = call;
  convolved.inputs = {normalized(norm, call.inputs[1], call.inputs[2]), std::move(w)};
  return convolved;
}

Array sum(const Array& a, const Array& b) {
  Array y = a;
  for (Index i = 0; i < count(y); ++i) at(y, i) += at(b, i);
  return y;
}

// Of {x, dy}; what it is added to, if anything, lies behind.
Array convolution_weights(const ReferenceCall& call) {
  const Array &x = call.inputs[0], &dy = call.inputs[1];
  const Array w = zeros({dy.shape[3], x.shape[3], whole(call, "kernel_height"), whole(call, "kernel_width")});
  ReferenceCall forward = call;
  forward.inputs = {x, w};
  const Array gradient = convolution_gradient(forward, dy)[1];
  return call.inputs.size() > 2 ? sum(gradient, call.inputs[2]) : gradient;
}

Array norm_convolution_weights(const ReferenceCall& call) {
  const Array& dy = call.inputs[5];
  const Array w =
      zeros({dy.shape[3], call.inputs[0].shape[3], whole(call, "kernel_height"), whole(call, "kernel_width")});
  const Array gradient = convolution_gradient(convolution_of_normalized(call, w), dy)[1];
  return call.inputs.size() > 6 ? sum(gradient, call.inputs[6]) : gradient;
}

Array norm_convolution(const ReferenceCall& call) {
  const Array y = convolution(convolution_of_normalized(call, call.inputs[5]));
  return whole(call, "add") != 0 ? sum(y, call.inputs[6]) : y;
}

// {dy, w, x, mean, variance, gamma, beta}, then what is added to dx, or another dy and w.
std::vector<Array> norm_convolution_data(const ReferenceCall& call) {
  const auto& in = call.inputs;
  const bool adds = whole(call, "add") != 0;
  ReferenceCall convolved = call, norm = call;
  convolved.inputs = {zeros(in[2].shape), in[1]};
  Array gradient = convolution_gradient(convolved, in[0])[0];
  if (call.kind == "norm_conv2d_pair_backward_data") {
    convolved.inputs[1] = in[8];
    convolved.attributes = {{"stride", whole(call, "second_stride")}, {"padding", whole(call, "second_padding")}};
    gradient = sum(gradient, convolution_gradient(convolved, in[7])[0]);
  }
  norm.inputs = {gradient, in[2], in[5], in[3], in[4], in[6]};
  norm.attributes["relu"] = Index{1};
  std::vector<Array> all = norm_backward(norm);
  if (adds) all[0] = sum(all[0], in[7]);
  return all;
}

std::vector<Array> running_statistics(const ReferenceCall& call) {
  const double momentum = real(call, "momentum");
  const auto n = static_cast<double>(call.batch / 2 * whole(call, "elements_per_sample"));  // half a batch is at hand
  Array mean = call.inputs[2], variance = call.inputs[3];
  for (Index c = 0; c < count(mean); ++c) {
    at(mean, c) += momentum * (at(call.inputs[0], c) - at(mean, c));
    at(variance, c) += momentum * (at(call.inputs[1], c) * n / (n - 1) - at(variance, c));
  }
  return {mean, variance};
}

Array average_pool(const Array& x) {
  const Index rows = x.shape[1] * x.shape[2], channels = x.shape[3];
  Array y = zeros({x.shape[0], channels});
  for (Index i = 0; i < count(x); ++i)
    at(y, i / (rows * channels) * channels + i % channels) += at(x, i) / static_cast<double>(rows);
  return y;
}

Array average_pool_gradient(const Array& x, const Array& dy) {
  const Index rows = x.shape[1] * x.shape[2], channels = x.shape[3];
  Array dx = zeros(x.shape);
  for (Index i = 0; i < count(x); ++i)
    at(dx, i) = at(dy, i / (rows * channels) * channels + i % channels) / static_cast<double>(rows);
  return dx;
}

// All dimensions but the last are rows; without a third input there is no bias.
Array linear(const ReferenceCall& call) {
  const Index in = call.inputs[1].shape[1], out = call.inputs[1].shape[0];
  const bool has_bias = call.inputs.size() == 3;
  std::vector<Index> shape = call.inputs[0].shape;
  shape.back() = out;
  Array y = zeros(shape);
  for (Index n = 0; n < count(y) / out; ++n)
    for (Index o = 0; o < out; ++o) {
      at(y, n * out + o) = has_bias ? at(call.inputs[2], o) : 0;
      for (Index i = 0; i < in; ++i)
        at(y, n * out + o) += at(call.inputs[0], n * in + i) * at(call.inputs[1], o * in + i);
    }
  return y;
}

std::vector<Array> linear_gradient(const ReferenceCall& call, const Array& dy) {
  const Index in = call.inputs[1].shape[1], out = call.inputs[1].shape[0];
  Array dx = zeros(call.inputs[0].shape), dw = zeros({out, in}), db = zeros({out});
  for (Index n = 0; n < count(dx) / in; ++n)
    for (Index o = 0; o < out; ++o) {
      at(db, o) += at(dy, n * out + o);
      for (Index i = 0; i < in; ++i) {
        at(dx, n * in + i) += at(dy, n * out + o) * at(call.inputs[1], o * in + i);
        at(dw, o * in + i) += at(dy, n * out + o) * at(call.inputs[0], n * in + i);
      }
    }
  if (call.inputs.size() == 2) return {dx, dw};
  return {dx, dw, db};
}

// A gradient alone, on top of what the output holds, or on top of the last input.
Array summed(const ReferenceCall& call, Array gradient, std::size_t inputs) {
  return call.inputs.size() > inputs ? sum(call.inputs[inputs], gradient) : gradient;
}

std::vector<Array> cross_entropy(const ReferenceCall& call) {
  const Index samples = call.inputs[0].shape[0], classes = call.inputs[0].shape[1];
  Array loss = zeros({1}), correct = zeros({1}), probabilities = zeros({samples, classes});
  for (Index n = 0; n < samples; ++n) {
    double sum = 0;
    Index best = 0;
    for (Index k = 0; k < classes; ++k) {
      sum += std::exp(at(call.inputs[0], n * classes + k));
      if (at(call.inputs[0], n * classes + k) > at(call.inputs[0], n * classes + best)) best = k;
    }
    const auto label = static_cast<Index>(at(call.inputs[1], n));
    for (Index k = 0; k < classes; ++k)
      at(probabilities, n * classes + k) = std::exp(at(call.inputs[0], n * classes + k)) / sum;
    at(loss, 0) -= std::log(at(probabilities, n * classes + label)) / static_cast<double>(call.batch);
    at(correct, 0) += best == label ? 1 : 0;
  }
  return {loss, correct, probabilities};
}

std::vector<Array> cross_entropy_gradient(const ReferenceCall& call, const Array& dloss) {
  Array d = cross_entropy(call)[2];
  for (Index n = 0; n < d.shape[0]; ++n) at(d, n * d.shape[1] + static_cast<Index>(at(call.inputs[1], n))) -= 1;
  for (double& value : d.values) value *= at(dloss, 0) / static_cast<double>(call.batch);
  return {d, {}};
}

Array dropout(const ReferenceCall& call, const Array& x) {
  Array y = zeros(x.shape);
  const Index elements = count(x) / x.shape[0];
  const double rate = real(call, "rate");
  for (Index i = 0; i < count(x); ++i) {
    const Index e = i % elements;
    const double uniform = uniform_reference(call, i / elements, e / 4, e % 4);
    at(y, i) = uniform > rate ? at(x, i) / (1 - rate) : 0;
  }
  return y;
}

// Padded by what the border reflects, then cut; planes become channels.
Array cropped(const ReferenceCall& call) {
  const Array& planes = call.inputs[0];
  const Index samples = planes.shape[0], channels = planes.shape[1], height = planes.shape[2], width = planes.shape[3];
  const Index padding = whole(call, "padding"), wide = width + 2 * padding, high = height + 2 * padding;
  Array y = zeros({samples, height, width, channels});
  for (Index n = 0; n < samples; ++n)
    for (Index c = 0; c < channels; ++c) {
      Array padded = zeros({high, wide});
      for (Index h = 0; h < high; ++h)
        for (Index w = 0; w < wide; ++w) {
          const Index from_row = std::abs(h - padding), from_column = std::abs(w - padding);
          const Index row = from_row < height ? from_row : 2 * height - 2 - from_row;
          const Index column = from_column < width ? from_column : 2 * width - 2 - from_column;
          at(padded, h * wide + w) = at(planes, ((n * channels + c) * height + row) * width + column);
        }
      const auto shift = [&](Index i) {
        return call.inputs.size() < 2 ? 0 : static_cast<Index>(at(call.inputs[1], 3 * n + i));
      };
      const double mean = real(call, ("mean_" + std::to_string(c)).c_str());
      const double deviation = real(call, ("deviation_" + std::to_string(c)).c_str());
      for (Index h = 0; h < height; ++h)
        for (Index w = 0; w < width; ++w) {
          const Index column = padding + shift(1) + (shift(2) != 0 ? width - 1 - w : w);
          const double value = at(padded, (padding + shift(0) + h) * wide + column);
          at(y, ((n * height + h) * width + w) * channels + c) = (value - mean) / deviation;
        }
    }
  return y;
}

std::vector<Array> sgd(const ReferenceCall& call) {
  Array w = call.inputs[0], v = call.inputs[2];
  const double momentum = real(call, "momentum");
  for (Index i = 0; i < count(w); ++i) {
    const double g = at(call.inputs[1], i) + real(call, "weight_decay") * at(w, i);
    at(v, i) = momentum * at(v, i) + g;
    at(w, i) -= call.learning_rate * (whole(call, "nesterov") != 0 ? g + momentum * at(v, i) : at(v, i));
  }
  return {w, v};
}

Array momentum_decay(const ReferenceCall& call) {
  Array v = call.inputs[0];
  for (Index i = 0; call.first_microbatch && i < count(v); ++i)
    at(v, i) = real(call, "momentum") * at(v, i) + real(call, "weight_decay") * at(call.inputs[1], i);
  return v;
}

Array momentum_accumulate(const ReferenceCall& call) {
  Array v = call.inputs[1];
  for (Index i = 0; i < count(v); ++i) {
    if (call.first_microbatch)
      at(v, i) = real(call, "momentum") * at(v, i) + real(call, "weight_decay") * at(call.inputs[2], i);
    at(v, i) += at(call.inputs[0], i);
  }
  return v;
}

Array momentum_update(const ReferenceCall& call) {
  Array w = call.inputs[0];
  for (Index i = 0; i < count(w); ++i) at(w, i) -= call.learning_rate * at(call.inputs[1], i);
  return w;
}

// Of {x, mean, variance, gamma, beta, dy}.
std::vector<Array> norm_pool_backward(const ReferenceCall& call) {
  ReferenceCall norm = call;
  norm.attributes["relu"] = Index{1};
  norm.inputs = {average_pool_gradient(call.inputs[0], call.inputs[5]),
                 call.inputs[0],
                 call.inputs[3],
                 call.inputs[1],
                 call.inputs[2],
                 call.inputs[4]};
  return norm_backward(norm);
}

Array relu(const Array& x) {
  Array y = x;
  for (double& value : y.values) value = value > 0 ? value : 0;
  return y;
}

}  // namespace

std::vector<Array> forward_reference(const ReferenceCall& call) {
  const std::string& kind = call.kind;
  if (kind == "conv2d") return {convolution(call)};
  if (kind == "batch_norm") {
    const auto moments = statistics(call.inputs[0]);
    return {normalized(call, moments[0], moments[1]), moments[0], moments[1]};
  }
  if (kind == "batch_statistics") return statistics(call.inputs[0]);
  if (kind == "batch_norm_backward" || kind == "group_norm_backward") return norm_backward(call);
  if (kind == "group_norm") {
    const auto moments = group_statistics(call);
    return {normalized(call, moments[0], moments[1]), moments[0], moments[1]};
  }
  if (kind == "group_statistics") return group_statistics(call);
  if (kind == "norm_conv2d") return {norm_convolution(call)};
  if (kind == "norm_conv2d_backward_data" || kind == "norm_conv2d_pair_backward_data")
    return norm_convolution_data(call);
  if (kind == "conv2d_backward_weights") return {convolution_weights(call)};
  if (kind == "momentum_decay") return {momentum_decay(call)};
  if (kind == "momentum_accumulate") return {momentum_accumulate(call)};
  if (kind == "momentum_update") return {momentum_update(call)};
  if (kind == "norm_conv2d_backward_weights") return {norm_convolution_weights(call)};
  if (kind == "batch_norm_inference") return {normalized(call, call.inputs[3], call.inputs[4])};
  if (kind == "running_statistics") return running_statistics(call);
  if (kind == "relu") return {relu(call.inputs[0])};
  if (kind == "add") return {sum(call.inputs[0], call.inputs[1])};
  if (kind == "accumulate") return {call.first_microbatch ? call.inputs[0] : sum(call.inputs[1], call.inputs[0])};
  if (kind == "global_average_pool") return {average_pool(call.inputs[0])};
  if (kind == "norm_pool") return {average_pool(convolution_of_normalized(call, {}).inputs[0])};
  if (kind == "norm_pool_backward") return norm_pool_backward(call);
  if (kind == "linear") return {linear(call)};
  if (kind == "softmax_cross_entropy") return cross_entropy(call);
  if (kind == "crop_pictures") return {cropped(call)};
  if (kind == "dropout") return {dropout(call, call.inputs[0])};
  if (kind == "sgd_update") return sgd(call);
  if (kind == "linear_backward_weights") {
    const Index out = call.inputs[1].shape.back(), in = call.inputs[0].shape.back();
    const ReferenceCall forward{.kind = "linear", .inputs = {call.inputs[0], zeros({out, in})}, .attributes = {}};
    return {summed(call, linear_gradient(forward, call.inputs[1])[1], 2)};
  }
  if (kind == "linear_backward_bias") {
    Array db = zeros({call.inputs[0].shape.back()});
    for (Index i = 0; i < count(call.inputs[0]); ++i) at(db, i % count(db)) += at(call.inputs[0], i);
    return {summed(call, db, 1)};
  }
  if (auto outputs = token_forward_reference(call); !outputs.empty()) return outputs;
  if (auto outputs = decoding_forward_reference(call); !outputs.empty()) return outputs;
  throw std::logic_error("no reference for " + kind);
}

std::vector<Array> gradient_reference(const ReferenceCall& call, const Array& dy) {
  const std::string& kind = call.kind;
  if (kind == "conv2d") return convolution_gradient(call, dy);
  if (kind == "batch_norm") return batch_norm_gradient(call, dy);
  if (kind == "group_norm") return group_norm_gradient(call, dy);
  if (kind == "relu") {
    Array dx = dy;
    for (Index i = 0; i < count(dx); ++i) at(dx, i) = at(call.inputs[0], i) > 0 ? at(dy, i) : 0;
    return {dx};
  }
  if (kind == "add") return {dy, dy};
  if (kind == "global_average_pool") return {average_pool_gradient(call.inputs[0], dy)};
  if (kind == "linear") return linear_gradient(call, dy);
  if (kind == "softmax_cross_entropy") return cross_entropy_gradient(call, dy);
  if (kind == "dropout") return {dropout(call, dy)};
  return token_gradient_reference(call, dy);
}

}  // namespace thimble::testing
