// Batch normalisation, alone or with the ReLU behind it, in training, backward and inference; running statistics.
#include "registration.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;       // of samples: fixes the order of the sums
constexpr std::int64_t kRowsPerBlock = 64; // summed in float before they join the chunk's double

struct Sizes {
  std::int64_t samples, rows_per_sample, channels;
  Chunks chunks;
};

Sizes sizes_of(const TensorType& x) {
  return {x.shape[0], x.shape[1] * x.shape[2], x.shape[3], Chunks::of(x.shape[0], kChunks)};
}

// Two sums per channel and chunk: in double, and the block at hand in float.
struct Partial {
  double *first, *second;
  float *block_first, *block_second;
};

Bytes partial_bytes(const Sizes& s) { return align_up(Bytes{24 * s.channels}, kAlignment); }

Partial partial(std::byte* workspace, const Sizes& s, std::int64_t chunk) {
  auto* doubles = reinterpret_cast<double*>(workspace + chunk * partial_bytes(s).value);
  auto* singles = reinterpret_cast<float*>(doubles + 2 * s.channels);
  return {doubles, doubles + s.channels, singles, singles + s.channels};
}

void clear(const Partial& p, std::int64_t channels) {
  std::fill_n(p.first, 2 * channels, 0.0);
  std::fill_n(p.block_first, 2 * channels, 0.0f);
}

THIMBLE_CLONES void close_block(const Partial& p, std::int64_t channels) {
  for (std::int64_t c = 0; c < channels; ++c) {
    p.first[c] += static_cast<double>(p.block_first[c]);
    p.second[c] += static_cast<double>(p.block_second[c]);
    p.block_first[c] = p.block_second[c] = 0;
  }
}

THIMBLE_CLONES void sum_block(const float* __restrict x, std::int64_t rows, std::int64_t channels,
                              float* __restrict sum, float* __restrict squares) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < channels; ++c) {
      const float v = x[r * channels + c];
      sum[c] += v;
      squares[c] += v * v;
    }
}

THIMBLE_CLONES void scale_rows(const float* x, float* y, std::int64_t rows, std::int64_t channels,
                               const float* __restrict scale, const float* __restrict shift, bool relu) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < channels; ++c) {
      const float v = x[r * channels + c] * scale[c] + shift[c];
      y[r * channels + c] = relu && v < 0 ? 0.0f : v;  // a NaN stays one
    }
}

// What passes back through the ReLU, element by element.
struct NoGate {
  bool operator()(std::int64_t) const { return true; }
};
struct OutputGate {
  const float* y;
  bool operator()(std::int64_t e) const { return y[e] > 0; }
};
struct MaskGate {
  const std::uint32_t* words;
  bool operator()(std::int64_t e) const { return (words[e >> 5] >> (e & 31) & 1u) != 0; }
};

struct BackwardRows {
  const float *dy, *x, *mean, *inverse_deviation;
  std::int64_t begin, end, channels;  // rows of one sample
};

template <class Gate>
inline __attribute__((always_inline)) void backward_sums(const BackwardRows& b, Gate gate, float* __restrict sum,
                                                         float* __restrict product) {
  for (std::int64_t r = b.begin; r < b.end; ++r)
    for (std::int64_t c = 0; c < b.channels; ++c) {
      const std::int64_t e = r * b.channels + c;
      const float g = gate(e) ? b.dy[e] : 0.0f;
      sum[c] += g;
      product[c] += g * ((b.x[e] - b.mean[c]) * b.inverse_deviation[c]);
    }
}

template <class Gate>
inline __attribute__((always_inline)) void backward_rows(const BackwardRows& b, Gate gate, const float* __restrict scale,
                                                         const float* __restrict of_sum,
                                                         const float* __restrict of_product, float* dx) {
  for (std::int64_t r = b.begin; r < b.end; ++r)
    for (std::int64_t c = 0; c < b.channels; ++c) {
      const std::int64_t e = r * b.channels + c;
      const float g = gate(e) ? b.dy[e] : 0.0f;
      const float normalised = (b.x[e] - b.mean[c]) * b.inverse_deviation[c];
      dx[e] = scale[c] * (g - of_sum[c] - normalised * of_product[c]);
    }
}

THIMBLE_CLONES void sums_plain(const BackwardRows& b, float* s, float* p) { backward_sums(b, NoGate{}, s, p); }
THIMBLE_CLONES void sums_output(const BackwardRows& b, OutputGate g, float* s, float* p) { backward_sums(b, g, s, p); }
THIMBLE_CLONES void sums_mask(const BackwardRows& b, MaskGate g, float* s, float* p) { backward_sums(b, g, s, p); }
THIMBLE_CLONES void rows_plain(const BackwardRows& b, const float* k, const float* s, const float* p, float* dx) {
  backward_rows(b, NoGate{}, k, s, p, dx);
}
THIMBLE_CLONES void rows_output(const BackwardRows& b, OutputGate g, const float* k, const float* s, const float* p, float* dx) {
  backward_rows(b, g, k, s, p, dx);
}
THIMBLE_CLONES void rows_mask(const BackwardRows& b, MaskGate g, const float* k, const float* s, const float* p, float* dx) {
  backward_rows(b, g, k, s, p, dx);
}

// Mean and biased variance of every channel, chunk after chunk.
void batch_statistics(const Sizes& s, const std::byte* workspace, float* mean, float* variance) {
  const auto count = static_cast<double>(s.samples * s.rows_per_sample);
  for (std::int64_t c = 0; c < s.channels; ++c) {
    double sum = 0, squares = 0;
    for (std::int64_t k = 0; k < s.chunks.count; ++k) {
      const Partial p = partial(const_cast<std::byte*>(workspace), s, k);
      sum += p.first[c];
      squares += p.second[c];
    }
    const double m = sum / count;
    mean[c] = static_cast<float>(m);
    variance[c] = static_cast<float>(std::max(0.0, squares / count - m * m));
  }
}

void write_mask(const float* y, std::int64_t elements, std::uint32_t* words) {
  for (std::int64_t w = 0; 32 * w < elements; ++w) {
    std::uint32_t word = 0;
    for (std::int64_t e = 32 * w; e < std::min(elements, 32 * w + 32); ++e)
      word |= static_cast<std::uint32_t>(y[e] > 0) << (e & 31);
    words[w] = word;
  }
}

std::int64_t mask_words(const Sizes& s) { return (s.rows_per_sample * s.channels + 31) / 32; }

// Workspace: the partial sums, then one scale and one shift per channel.
void forward(const OpShape& shape, const KernelArguments& a) {
  const Sizes s = sizes_of(shape.inputs[0]);
  const std::int64_t sample = s.rows_per_sample * s.channels;
  const float *x = floats(a.inputs[0]), *gamma = floats(a.inputs[1]), *beta = floats(a.inputs[2]);
  float *y = floats(a.outputs[0]), *mean = floats(a.outputs[1]), *variance = floats(a.outputs[2]);
  const int threads = shape.device.threads;
  parallel_chunks(threads, s.chunks.count, [&](std::int64_t k) {
    const Partial p = partial(a.workspace, s, k);
    clear(p, s.channels);
    const std::int64_t last = s.chunks.end(k) * s.rows_per_sample;
    for (std::int64_t r = s.chunks.begin(k) * s.rows_per_sample; r < last; r += kRowsPerBlock) {
      sum_block(x + r * s.channels, std::min(kRowsPerBlock, last - r), s.channels, p.block_first, p.block_second);
      close_block(p, s.channels);
    }
  });
  batch_statistics(s, a.workspace, mean, variance);
  float* scale = reinterpret_cast<float*>(a.workspace + (partial_bytes(s) * s.chunks.count).value);
  float* shift = scale + s.channels;
  const double epsilon = real_attribute(shape.attributes, "epsilon");
  for (std::int64_t c = 0; c < s.channels; ++c) {
    scale[c] = gamma[c] / static_cast<float>(std::sqrt(static_cast<double>(variance[c]) + epsilon));
    shift[c] = beta[c] - mean[c] * scale[c];
  }
  const bool relu = flag(shape.attributes, "relu"), mask = flag(shape.attributes, "mask");
  parallel_chunks(threads, s.chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n) {
      scale_rows(x + n * sample, y + n * sample, s.rows_per_sample, s.channels, scale, shift, relu);
      if (mask)
        write_mask(y + n * sample, sample, reinterpret_cast<std::uint32_t*>(a.outputs[3]) + n * mask_words(s));
    }
  });
}

enum class GateKind { none, output, mask };

GateKind gate_of(const OpShape& shape) {
  if (!flag(shape.attributes, "relu")) return GateKind::none;
  return flag(shape.attributes, "use_mask") ? GateKind::mask : GateKind::output;
}

// Workspace: the partial sums, then 1/deviation, scale and the two corrections per channel.
void backward(const OpShape& shape, const KernelArguments& a) {
  const Sizes s = sizes_of(shape.inputs[0]);
  const std::int64_t sample = s.rows_per_sample * s.channels;
  const float *dy = floats(a.inputs[0]), *x = floats(a.inputs[1]), *gamma = floats(a.inputs[2]);
  const float *mean = floats(a.inputs[3]), *variance = floats(a.inputs[4]);
  float *dx = floats(a.outputs[0]), *dgamma = floats(a.outputs[1]), *dbeta = floats(a.outputs[2]);
  float* inverse = reinterpret_cast<float*>(a.workspace + (partial_bytes(s) * s.chunks.count).value);
  float *scale = inverse + s.channels, *of_sum = scale + s.channels, *of_product = of_sum + s.channels;
  const double epsilon = real_attribute(shape.attributes, "epsilon");
  for (std::int64_t c = 0; c < s.channels; ++c)
    inverse[c] = static_cast<float>(1.0 / std::sqrt(static_cast<double>(variance[c]) + epsilon));
  const GateKind gate = gate_of(shape);
  const auto output_gate = [&](std::int64_t n) { return OutputGate{floats(a.inputs[5]) + n * sample}; };
  const auto mask_gate = [&](std::int64_t n) {
    return MaskGate{reinterpret_cast<const std::uint32_t*>(a.inputs[5]) + n * mask_words(s)};
  };
  const auto rows = [&](std::int64_t n, std::int64_t begin, std::int64_t end) {
    return BackwardRows{dy + n * sample, x + n * sample, mean, inverse, begin, end, s.channels};
  };
  parallel_chunks(shape.device.threads, s.chunks.count, [&](std::int64_t k) {
    const Partial p = partial(a.workspace, s, k);
    clear(p, s.channels);
    for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n)
      for (std::int64_t r = 0; r < s.rows_per_sample; r += kRowsPerBlock) {
        const BackwardRows b = rows(n, r, std::min(s.rows_per_sample, r + kRowsPerBlock));
        if (gate == GateKind::none) sums_plain(b, p.block_first, p.block_second);
        if (gate == GateKind::output) sums_output(b, output_gate(n), p.block_first, p.block_second);
        if (gate == GateKind::mask) sums_mask(b, mask_gate(n), p.block_first, p.block_second);
        close_block(p, s.channels);
      }
  });
  const auto count = static_cast<double>(s.samples * s.rows_per_sample);
  for (std::int64_t c = 0; c < s.channels; ++c) {
    double sum = 0, product = 0;
    for (std::int64_t k = 0; k < s.chunks.count; ++k) {
      const Partial p = partial(a.workspace, s, k);
      sum += p.first[c];
      product += p.second[c];
    }
    dbeta[c] = static_cast<float>(sum);
    dgamma[c] = static_cast<float>(product);
    scale[c] = gamma[c] * inverse[c];
    of_sum[c] = static_cast<float>(sum / count);
    of_product[c] = static_cast<float>(product / count);
  }
  parallel_chunks(shape.device.threads, s.chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n) {
      const BackwardRows b = rows(n, 0, s.rows_per_sample);
      if (gate == GateKind::none) rows_plain(b, scale, of_sum, of_product, dx + n * sample);
      if (gate == GateKind::output) rows_output(b, output_gate(n), scale, of_sum, of_product, dx + n * sample);
      if (gate == GateKind::mask) rows_mask(b, mask_gate(n), scale, of_sum, of_product, dx + n * sample);
    }
  });
}

void inference(const OpShape& shape, const KernelArguments& a) {
  const Sizes s = sizes_of(shape.inputs[0]);
  const std::int64_t sample = s.rows_per_sample * s.channels;
  const float *gamma = floats(a.inputs[1]), *beta = floats(a.inputs[2]);
  const float *mean = floats(a.inputs[3]), *variance = floats(a.inputs[4]);
  float* scale = floats(a.workspace);
  float* shift = scale + s.channels;
  const double epsilon = real_attribute(shape.attributes, "epsilon");
  for (std::int64_t c = 0; c < s.channels; ++c) {
    scale[c] = gamma[c] / static_cast<float>(std::sqrt(static_cast<double>(variance[c]) + epsilon));
    shift[c] = beta[c] - mean[c] * scale[c];
  }
  parallel_chunks(shape.device.threads, s.chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n)
      scale_rows(floats(a.inputs[0]) + n * sample, floats(a.outputs[0]) + n * sample, s.rows_per_sample, s.channels,
                 scale, shift, flag(shape.attributes, "relu"));
  });
}

// As PyTorch: running = (1 - momentum) running + momentum batch, the variance unbiased.
void running_statistics(const OpShape& shape, const KernelArguments& a) {
  const auto momentum = static_cast<float>(real_attribute(shape.attributes, "momentum"));
  const auto count = static_cast<double>(a.samples.size() * int_attribute(shape.attributes, "elements_per_sample"));
  const auto unbiased = static_cast<float>(count > 1 ? count / (count - 1) : 1.0);
  for (std::int64_t c = 0; c < shape.inputs[0].shape[0]; ++c) {
    floats(a.outputs[0])[c] = (1 - momentum) * floats(a.inputs[2])[c] + momentum * floats(a.inputs[0])[c];
    floats(a.outputs[1])[c] = (1 - momentum) * floats(a.inputs[3])[c] + momentum * (unbiased * floats(a.inputs[1])[c]);
  }
}

void expect_parameters(const std::string& kind, const std::vector<TensorType>& in, std::size_t first, std::size_t last) {
  for (std::size_t i = first; i < last; ++i) expect_vector(kind, in[i], in[0].shape[3]);
}

std::vector<OutputSpec> infer_forward(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("batch_norm", in, 3);
  expect_activation("batch_norm", in[0]);
  expect_parameters("batch_norm", in, 1, 3);
  real_attribute(attributes, "epsilon");
  const TensorType channel{DType::f32, {in[0].shape[3]}, false};
  std::vector<OutputSpec> specs{{"", in[0]}, {"mean", channel}, {"variance", channel}};
  if (flag(attributes, "mask")) specs.push_back({"mask", {DType::bit, in[0].shape, true}});
  return specs;
}

std::vector<OutputSpec> infer_backward(const std::vector<TensorType>& in, const Attributes& attributes) {
  const bool relu = flag(attributes, "relu");
  expect_inputs("batch_norm_backward", in, relu ? 6 : 5);
  expect_activation("batch_norm_backward", in[0]);
  expect_same("batch_norm_backward", in[0], in[1]);
  expect_parameters("batch_norm_backward", in, 2, 5);
  real_attribute(attributes, "epsilon");
  if (relu)
    expect_same("batch_norm_backward", in[5],
                {flag(attributes, "use_mask") ? DType::bit : DType::f32, in[0].shape, true});
  return {{"", in[0]}, {"gamma", in[2], Role::gradient}, {"beta", in[2], Role::gradient}};
}

void gradient(GradientContext& g) {
  const bool relu = flag(g.op().attributes, "relu");
  std::vector<TensorId> inputs{g.output_gradient(0), g.input(0), g.input(1), g.output(1), g.output(2)};
  Attributes attributes{{"relu", std::int64_t{relu}}, {"epsilon", g.op().attributes.at("epsilon")}};
  if (relu) {
    const bool use_mask = !g.is_kept(g.output(0));
    if (use_mask) g.change_forward("mask", std::int64_t{1});
    attributes["use_mask"] = std::int64_t{use_mask};
    inputs.push_back(g.output(use_mask ? 3 : 0));
  }
  const auto made = g.emit("batch_norm_backward", "d_input", inputs, attributes);
  for (int i = 0; i < 3; ++i) g.set_input_gradient(i, made[static_cast<std::size_t>(i)]);
}

Bytes workspace(const OpShape& shape, std::int64_t vectors) {
  const Sizes s = sizes_of(shape.inputs[0]);
  return partial_bytes(s) * s.chunks.count + Bytes{4 * vectors * s.channels};
}

}  // namespace

void register_batch_norm(OpRegistry& registry) {
  OpDefinition train;
  train.kind = "batch_norm";
  train.infer = infer_forward;
  train.gradient = gradient;
  train.workspace = [](const OpShape& s) { return workspace(s, 2); };
  train.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  train.in_place = {{0, 0}};
  registry.add(train);

  OpDefinition back;
  back.kind = "batch_norm_backward";
  back.infer = infer_backward;
  back.workspace = [](const OpShape& s) { return workspace(s, 4); };
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.in_place = {{0, 0}};
  registry.add(back);

  OpDefinition infer;
  infer.kind = "batch_norm_inference";
  infer.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("batch_norm_inference", in, 5);
    expect_activation("batch_norm_inference", in[0]);
    expect_parameters("batch_norm_inference", in, 1, 5);
    real_attribute(attributes, "epsilon");
    return outputs_like(in[0]);
  };
  infer.workspace = [](const OpShape& s) { return Bytes{8 * s.inputs[0].shape[3]}; };
  infer.make_kernel = [](const OpShape& s) { return function_kernel(s, inference); };
  infer.in_place = {{0, 0}};
  registry.add(infer);

  OpDefinition running;
  running.kind = "running_statistics";
  running.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("running_statistics", in, 4);
    expect_rank("running_statistics", in[0], 1);
    for (const TensorType& type : in) expect_vector("running_statistics", type, in[0].shape[0]);
    real_attribute(attributes, "momentum");
    int_attribute(attributes, "elements_per_sample");
    return std::vector<OutputSpec>{{"mean", in[2], Role::statistic, 2}, {"variance", in[3], Role::statistic, 3}};
  };
  running.make_kernel = [](const OpShape& s) { return function_kernel(s, running_statistics); };
  running.once = true;
  registry.add(running);
}

}  // namespace thimble
