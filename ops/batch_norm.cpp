// Batch normalisation, alone or with the ReLU behind it, in training, backward and inference; running statistics.
#include <algorithm>

#include "bit_mask.h"
#include "registration.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;       // of samples: fixes the order of the sums
constexpr std::int64_t kRowsPerBlock = 64;  // summed in float before they join the chunk's double
constexpr std::int64_t kTile = 1024;        // gradients gated by the ReLU at a time: they stay in the first cache

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

// Of x - pivot: near zero where the pivot is a value of the channel, so that squares lose no digits to a large mean.
THIMBLE_CLONES void sum_block(const float* __restrict x, const float* __restrict pivot, std::int64_t rows,
                              std::int64_t channels, float* __restrict sum, float* __restrict squares) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < channels; ++c) {
      const float v = x[r * channels + c] - pivot[c];
      sum[c] += v;
      squares[c] += v * v;
    }
}

THIMBLE_CLONES void scale_rows(const float* x, float* y, std::int64_t rows, std::int64_t channels,
                               const float* __restrict scale, const float* __restrict shift, bool relu) {
  for (std::int64_t r = 0; r < rows; ++r)
#pragma GCC ivdep
    for (std::int64_t c = 0; c < channels; ++c) {
      const float v = x[r * channels + c] * scale[c] + shift[c];
      y[r * channels + c] = relu && v < 0 ? 0.0f : v;  // a NaN stays one
    }
}

// Consecutive elements of one sample: whole rows, or a piece of one where a row is longer than a tile.
struct Tile {
  const float *gradient, *x;  // of the tile's first element
  const float *mean, *inverse_deviation;  // of its first channel
  std::int64_t rows, columns;
};

THIMBLE_CLONES void sum_tile(const Tile& tile, float* __restrict sum, float* __restrict product) {
  const float *__restrict g = tile.gradient, *__restrict x = tile.x;
  const float *__restrict mean = tile.mean, *__restrict inverse = tile.inverse_deviation;
  const std::int64_t rows = tile.rows, columns = tile.columns;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t e = r * columns + c;
      sum[c] += g[e];
      product[c] += g[e] * ((x[e] - mean[c]) * inverse[c]);
    }
}

// dx may be the gradient's own storage.
THIMBLE_CLONES void differentiate_tile(const Tile& tile, const float* __restrict scale, const float* __restrict of_sum,
                                       const float* __restrict of_product, float* dx) {
  const float *g = tile.gradient, *x = tile.x, *mean = tile.mean, *inverse = tile.inverse_deviation;
  const std::int64_t rows = tile.rows, columns = tile.columns;
  for (std::int64_t r = 0; r < rows; ++r)
#pragma GCC ivdep
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t e = r * columns + c;
      dx[e] = scale[c] * (g[e] - of_sum[c] - (x[e] - mean[c]) * inverse[c] * of_product[c]);
    }
}

// Mean and biased variance of every channel, chunk after chunk.
void batch_statistics(const Sizes& s, std::byte* workspace, const float* pivot, float* mean, float* variance) {
  const auto count = static_cast<double>(s.samples * s.rows_per_sample);
  for (std::int64_t c = 0; c < s.channels; ++c) {
    double sum = 0, squares = 0;
    for (std::int64_t k = 0; k < s.chunks.count; ++k) {
      const Partial p = partial(workspace, s, k);
      sum += p.first[c];
      squares += p.second[c];
    }
    const double m = sum / count;
    mean[c] = static_cast<float>(static_cast<double>(pivot[c]) + m);
    variance[c] = static_cast<float>(std::max(0.0, squares / count - m * m));
  }
}

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
      sum_block(x + r * s.channels, x, std::min(kRowsPerBlock, last - r), s.channels, p.block_first, p.block_second);
      close_block(p, s.channels);
    }
  });
  batch_statistics(s, a.workspace, x, mean, variance);
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
        write_mask(y + n * sample, sample, reinterpret_cast<std::uint32_t*>(a.outputs[3]) + n * mask_words(sample));
    }
  });
}

enum class GateKind { none, output, mask };

GateKind gate_of(const OpShape& shape) {
  if (!flag(shape.attributes, "relu")) return GateKind::none;
  return flag(shape.attributes, "use_mask") ? GateKind::mask : GateKind::output;
}

struct BackwardInputs {
  Sizes sizes;
  const float *dy, *x, *mean, *inverse_deviation;
  GateKind gate;
  const std::byte* gate_data;  // y or its mask

  // Calls visit(tile, its first element, its first channel) over the rows [begin, end) of sample n, in order.
  template <class Visit>
  void visit_tiles(std::int64_t n, std::int64_t begin, std::int64_t end, Visit visit) const {
    const std::int64_t channels = sizes.channels;
    const std::int64_t columns = std::min(channels, kTile), rows = std::max<std::int64_t>(1, kTile / channels);
    for (std::int64_t r = begin; r < end; r += rows)
      for (std::int64_t c = 0; c < channels; c += columns) {
        const Tile shape{nullptr, nullptr, mean + c, inverse_deviation + c, std::min(rows, end - r),
                         std::min(columns, channels - c)};
        visit_one(shape, n, r * channels + c, c, visit);
      }
  }

 private:
  // A channel count beyond a tile is cut within the row, so that the elements stay consecutive.
  template <class Visit>
  void visit_one(Tile tile, std::int64_t n, std::int64_t e, std::int64_t channel, Visit visit) const {
    alignas(64) float gated[kTile];
    const std::int64_t sample = sizes.rows_per_sample * sizes.channels, count = tile.rows * tile.columns;
    const std::int64_t at = n * sample + e;
    if (gate == GateKind::output) keep_positive(dy + at, floats(gate_data) + at, count, gated);
    if (gate == GateKind::mask)
      keep_masked(dy + at, reinterpret_cast<const std::uint32_t*>(gate_data) + n * mask_words(sample), e, count, gated);
    tile.gradient = gate == GateKind::none ? dy + at : gated;
    tile.x = x + at;
    visit(tile, at, channel);
  }
};

struct BackwardFactors {
  float *inverse_deviation, *scale, *of_sum, *of_product;  // per channel
};

void sum_chunk(const BackwardInputs& in, std::int64_t k, const Partial& p) {
  const Sizes& s = in.sizes;
  clear(p, s.channels);
  for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n)
    for (std::int64_t r = 0; r < s.rows_per_sample; r += kRowsPerBlock) {
      in.visit_tiles(n, r, std::min(s.rows_per_sample, r + kRowsPerBlock),
                     [&](const Tile& tile, std::int64_t, std::int64_t channel) {
                       sum_tile(tile, p.block_first + channel, p.block_second + channel);
                     });
      close_block(p, s.channels);
    }
}

void close_sums(const Sizes& s, std::byte* workspace, const float* gamma, const BackwardFactors& factors,
                float* dgamma, float* dbeta) {
  const auto count = static_cast<double>(s.samples * s.rows_per_sample);
  for (std::int64_t c = 0; c < s.channels; ++c) {
    double sum = 0, product = 0;
    for (std::int64_t k = 0; k < s.chunks.count; ++k) {
      const Partial p = partial(workspace, s, k);
      sum += p.first[c];
      product += p.second[c];
    }
    dbeta[c] = static_cast<float>(sum);
    dgamma[c] = static_cast<float>(product);
    factors.scale[c] = gamma[c] * factors.inverse_deviation[c];
    factors.of_sum[c] = static_cast<float>(sum / count);
    factors.of_product[c] = static_cast<float>(product / count);
  }
}

// Workspace: the partial sums, then the four factors of every channel.
void backward(const OpShape& shape, const KernelArguments& a) {
  const Sizes s = sizes_of(shape.inputs[0]);
  const float *mean = floats(a.inputs[3]), *variance = floats(a.inputs[4]);
  float* dx = floats(a.outputs[0]);
  float* inverse = reinterpret_cast<float*>(a.workspace + (partial_bytes(s) * s.chunks.count).value);
  const BackwardFactors f{inverse, inverse + s.channels, inverse + 2 * s.channels, inverse + 3 * s.channels};
  const double epsilon = real_attribute(shape.attributes, "epsilon");
  for (std::int64_t c = 0; c < s.channels; ++c)
    inverse[c] = static_cast<float>(1.0 / std::sqrt(static_cast<double>(variance[c]) + epsilon));
  const GateKind gate = gate_of(shape);
  const BackwardInputs in{s,       floats(a.inputs[0]), floats(a.inputs[1]),
                          mean,    inverse,             gate,
                          gate == GateKind::none ? nullptr : a.inputs[5]};
  parallel_chunks(shape.device.threads, s.chunks.count,
                  [&](std::int64_t k) { sum_chunk(in, k, partial(a.workspace, s, k)); });
  close_sums(s, a.workspace, floats(a.inputs[2]), f, floats(a.outputs[1]), floats(a.outputs[2]));
  parallel_chunks(shape.device.threads, s.chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n)
      in.visit_tiles(n, 0, s.rows_per_sample, [&](const Tile& tile, std::int64_t element, std::int64_t c) {
        differentiate_tile(tile, f.scale + c, f.of_sum + c, f.of_product + c, dx + element);
      });
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
