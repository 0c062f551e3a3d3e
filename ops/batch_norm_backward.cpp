// The gradient of batch normalisation and of the ReLU behind it. The ReLU's gate is its output where that is kept
// anyway, a mask of one bit per element, or the input: then neither of the two has to exist.
#include <algorithm>

#include "bit_mask.h"
#include "normalization.h"
#include "registration.h"

namespace thimble {
namespace {

constexpr std::int64_t kTile = 1024;  // gradients gated by the ReLU at a time: they stay in the first cache

// Consecutive elements of one sample: whole rows, or a piece of one where a row is longer than a tile.
struct Tile {
  const float *gradient, *x;              // of the tile's first element
  const float *mean, *inverse_deviation;  // of its first channel
  std::int64_t rows, columns;
};

THIMBLE_CLONES void sum_tile(const Tile& tile, float* __restrict sum, float* __restrict product) {
  const float* __restrict g = tile.gradient, * __restrict x = tile.x;
  const float* __restrict mean = tile.mean, * __restrict inverse = tile.inverse_deviation;
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

enum class GateKind { none, output, mask, input };

GateKind gate_of(const Attributes& attributes) {
  if (!flag(attributes, "relu")) return GateKind::none;
  if (flag(attributes, "gate_input")) return GateKind::input;
  return flag(attributes, "use_mask") ? GateKind::mask : GateKind::output;
}

struct BackwardInputs {
  NormSizes sizes;
  const float *dy, *x, *mean, *inverse_deviation;
  GateKind gate;
  const std::byte* gate_data;  // output: y; mask: its mask
  ScaleShift forward;          // input: what y was computed with

  // Calls visit(tile, its first element, its first channel) over the rows [begin, end) of sample n, in order.
  template <class Visit>
  void visit_tiles(std::int64_t n, std::int64_t begin, std::int64_t end, Visit visit) const {
    const std::int64_t channels = sizes.channels;
    const std::int64_t columns = std::min(channels, kTile), rows = std::max<std::int64_t>(1, kTile / channels);
    for (std::int64_t r = begin; r < end; r += rows)
      for (std::int64_t c = 0; c < channels; c += columns) {
        const Tile shape{nullptr,
                         nullptr,
                         mean + c,
                         inverse_deviation + c,
                         std::min(rows, end - r),
                         std::min(columns, channels - c)};
        visit_one(shape, n, r * channels + c, c, visit);
      }
  }

 private:
  // A channel count beyond a tile is cut within the row, so that the elements stay consecutive.
  template <class Visit>
  void visit_one(Tile tile, std::int64_t n, std::int64_t e, std::int64_t channel, Visit visit) const {
    alignas(64) float gated[kTile];
    const std::int64_t sample = sizes.elements_per_sample(), count = tile.rows * tile.columns;
    const std::int64_t at = n * sample + e;
    if (gate == GateKind::output) keep_positive(dy + at, floats(gate_data) + at, count, gated);
    if (gate == GateKind::mask)
      keep_masked(dy + at, reinterpret_cast<const std::uint32_t*>(gate_data) + n * mask_words(sample), e, count, gated);
    if (gate == GateKind::input)
      keep_where_normalized_is_positive(dy + at, x + at, tile.rows, tile.columns, forward.scale + channel,
                                        forward.shift + channel, gated);
    tile.gradient = gate == GateKind::none ? dy + at : gated;
    tile.x = x + at;
    visit(tile, at, channel);
  }
};

struct BackwardFactors {
  float *inverse_deviation, *scale, *of_sum, *of_product;  // per channel
};

void sum_chunk(const BackwardInputs& in, std::int64_t k, const PartialSums& p) {
  const NormSizes& s = in.sizes;
  p.clear(s.channels);
  for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n)
    for (std::int64_t r = 0; r < s.rows_per_sample; r += kRowsPerBlock) {
      in.visit_tiles(n, r, std::min(s.rows_per_sample, r + kRowsPerBlock),
                     [&](const Tile& tile, std::int64_t, std::int64_t channel) {
                       sum_tile(tile, p.block_first + channel, p.block_second + channel);
                     });
      p.close_block(s.channels);
    }
}

void close_sums(const NormSizes& s, std::byte* workspace, const float* gamma, const BackwardFactors& factors,
                float* dgamma, float* dbeta) {
  const auto count = static_cast<double>(s.samples * s.rows_per_sample);
  for (std::int64_t c = 0; c < s.channels; ++c) {
    double sum = 0, product = 0;
    for (std::int64_t k = 0; k < s.chunks.count; ++k) {
      const PartialSums p = partial_sums(workspace, s, k);
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

// Workspace: the partial sums, then the four factors of every channel, then the forward pass's where they gate.
void backward(const OpShape& shape, const KernelArguments& a) {
  const NormSizes s = NormSizes::of(shape.inputs[0]);
  const float *mean = floats(a.inputs[3]), *variance = floats(a.inputs[4]);
  float* dx = floats(a.outputs[0]);
  float* inverse = floats(a.workspace + partial_sums_bytes(s).value);
  const BackwardFactors f{inverse, inverse + s.channels, inverse + 2 * s.channels, inverse + 3 * s.channels};
  const double epsilon = real_attribute(shape.attributes, "epsilon");
  for (std::int64_t c = 0; c < s.channels; ++c)
    inverse[c] = static_cast<float>(1.0 / std::sqrt(static_cast<double>(variance[c]) + epsilon));
  BackwardInputs in{s, floats(a.inputs[0]), floats(a.inputs[1]), mean, inverse, gate_of(shape.attributes), nullptr, {}};
  if (in.gate == GateKind::input)
    in.forward = scale_shift(reinterpret_cast<std::byte*>(inverse + 4 * s.channels), s.channels, floats(a.inputs[2]),
                             floats(a.inputs[5]), mean, variance, epsilon);
  else if (in.gate != GateKind::none)
    in.gate_data = a.inputs[5];
  parallel_chunks(shape.device.threads, s.chunks.count,
                  [&](std::int64_t k) { sum_chunk(in, k, partial_sums(a.workspace, s, k)); });
  close_sums(s, a.workspace, floats(a.inputs[2]), f, floats(a.outputs[1]), floats(a.outputs[2]));
  parallel_chunks(shape.device.threads, s.chunks.count, [&](std::int64_t k) {
    for (std::int64_t n = s.chunks.begin(k); n < s.chunks.end(k); ++n)
      in.visit_tiles(n, 0, s.rows_per_sample, [&](const Tile& tile, std::int64_t element, std::int64_t c) {
        differentiate_tile(tile, f.scale + c, f.of_sum + c, f.of_product + c, dx + element);
      });
  });
}

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  const std::string kind = "batch_norm_backward";
  const GateKind gate = gate_of(attributes);
  expect_inputs(kind, in, gate == GateKind::none ? 5 : 6);
  expect_activation(kind, in[0]);
  expect_same(kind, in[0], in[1]);
  expect_channel_vectors(kind, in, 2, gate == GateKind::input ? 6 : 5);
  real_attribute(attributes, "epsilon");
  if (gate == GateKind::output) expect_same(kind, in[5], in[0]);
  if (gate == GateKind::mask) expect_same(kind, in[5], {DType::bit, in[0].shape, true});
  return {{"", in[0]}, {"gamma", in[2], Role::gradient}, {"beta", in[2], Role::gradient}};
}

Bytes workspace(const OpShape& shape) {
  const NormSizes s = NormSizes::of(shape.inputs[0]);
  const std::int64_t vectors = gate_of(shape.attributes) == GateKind::input ? 6 : 4;
  return partial_sums_bytes(s) + Bytes{4 * vectors * s.channels};
}

}  // namespace

void register_batch_norm_backward(OpRegistry& registry) {
  OpDefinition back;
  back.kind = "batch_norm_backward";
  back.infer = infer;
  back.workspace = workspace;
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.in_place = {{0, 0}};
  registry.add(back);
}

}  // namespace thimble
