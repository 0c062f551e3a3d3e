// Rows of a table, scaled, with sinusoidal positions added (Vaswani et al. 2017, in the layout of fairseq: all sines,
// then all cosines). Its gradient adds up, for each row of the table, what its tokens got. A decoder's step looks up
// rows that are all at one position.
#include <cmath>

#include "accumulation.h"
#include "decoding.h"
#include "thimble/parallel.h"
#include "vector_sum.h"

namespace thimble {
namespace {

constexpr std::int64_t kChunks = 16;

THIMBLE_CLONES void scale_and_add(const float* __restrict x, float scale, const float* __restrict y,
                                  float* __restrict sum, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] = scale * x[i] + y[i];
}

// Row t belongs to the position `first` + t.
void make_positions(std::int64_t rows, std::int64_t channels, std::int64_t first, int threads, float* table) {
  const std::int64_t half = channels / 2;
  parallel_chunks(threads, rows, [&](std::int64_t t) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double rate = std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half - 1));
      const double angle = static_cast<double>(first + t) * rate;
      table[t * channels + i] = static_cast<float>(std::sin(angle));
      table[t * channels + half + i] = static_cast<float>(std::cos(angle));
    }
  });
}

std::int64_t checked_id(const char* kind, std::int32_t id, std::int64_t vocabulary) {
  if (id < 0 || id >= vocabulary)
    throw InvalidArgument(std::string(kind) + ": id " + std::to_string(id) + "; the table has " +
                          std::to_string(vocabulary) + " rows");
  return id;
}

// Row t of every sentence gets the positions from t * stride on.
void look_up(const char* kind, const OpShape& shape, const KernelArguments& a, const float* positions,
             std::int64_t stride) {
  const std::int64_t room = shape.outputs[0].shape[1], channels = shape.outputs[0].shape[2];
  const std::int64_t vocabulary = shape.inputs[2].shape[0];
  const auto scale = static_cast<float>(real_attribute(shape.attributes, "scale"));
  parallel_chunks(shape.device.threads, shape.outputs[0].shape[0], [&](std::int64_t b) {
    const std::int64_t length = length_of(kind, a.inputs[1], b, room);
    float* y = floats(a.outputs[0]) + b * room * channels;
    for (std::int64_t t = 0; t < length; ++t) {
      const std::int64_t id = checked_id(kind, integers(a.inputs[0])[b * room + t], vocabulary);
      scale_and_add(floats(a.inputs[2]) + id * channels, scale, positions + t * stride, y + t * channels, channels);
    }
    std::fill(y + length * channels, y + room * channels, 0.0f);
  });
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t room = shape.outputs[0].shape[1], channels = shape.outputs[0].shape[2];
  float* positions = floats(a.workspace);
  make_positions(room, channels, int_attribute(shape.attributes, "first_position"), shape.device.threads, positions);
  look_up("embedding", shape, a, positions, channels);
}

// All rows are at one position.
void forward_at(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t position = position_of("embedding_at", a.inputs[3]);
  float* positions = floats(a.workspace);
  make_positions(1, shape.outputs[0].shape[2], int_attribute(shape.attributes, "first_position") + position, 1,
                 positions);
  look_up("embedding_at", shape, a, positions, 0);
}

// Each task some channels of the whole table, over the tokens in order.
void backward(const OpShape& shape, const KernelArguments& a) {
  const std::int64_t sentences = shape.inputs[2].shape[0], room = shape.inputs[2].shape[1];
  const std::int64_t channels = shape.inputs[2].shape[2], vocabulary = shape.outputs[0].shape[0];
  const auto scale = static_cast<float>(real_attribute(shape.attributes, "scale"));
  const bool adds = adds_to_output(shape, a);
  const Chunks chunks = Chunks::of(channels, kChunks);
  parallel_chunks(shape.device.threads, chunks.count, [&](std::int64_t k) {
    const std::int64_t begin = chunks.begin(k), count = chunks.end(k) - begin;
    float* sums = floats(a.outputs[0]) + begin;
    for (std::int64_t id = 0; !adds && id < vocabulary; ++id) std::fill_n(sums + id * channels, count, 0.0f);
    for (std::int64_t b = 0; b < sentences; ++b) {
      const std::int64_t length = length_of("embedding_backward", a.inputs[1], b, room);
      for (std::int64_t row = b * room; row < b * room + length; ++row) {
        const std::int64_t id = checked_id("embedding_backward", integers(a.inputs[0])[row], vocabulary);
        add_scaled(floats(a.inputs[2]) + row * channels + begin, scale, sums + id * channels, count);
      }
    }
  });
}

// Ids, lengths and table are the first three inputs.
std::vector<OutputSpec> infer_rows(const std::string& kind, const std::vector<TensorType>& in,
                                   const Attributes& attributes) {
  expect_ids(kind, in[0]);
  expect_lengths(kind, in[1], in[0].shape[0]);
  expect_rank(kind, in[2], 2);
  real_attribute(attributes, "scale");
  int_attribute(attributes, "first_position");
  if (in[2].batched || in[2].shape[1] % 2 != 0 || in[2].shape[1] < 4)
    throw InvalidArgument(kind + ": rows of " + std::to_string(in[2].shape[1]) +
                          " values; an even number from 4 on is needed for sines and cosines");
  const TensorType y{DType::f32, {in[0].shape[0], in[0].shape[1], in[2].shape[1]}, true};
  expect_tokens(kind, y);
  return outputs_like(y);
}

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("embedding", in, 3);
  return infer_rows("embedding", in, attributes);
}

std::vector<OutputSpec> infer_at(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs("embedding_at", in, 4);
  expect_position("embedding_at", in[3]);
  return infer_rows("embedding_at", in, attributes);
}

std::vector<OutputSpec> infer_backward(const std::vector<TensorType>& in, const Attributes& attributes) {
  const std::string kind = "embedding_backward";
  if (in.size() < 3) expect_inputs(kind, in, 3);
  expect_ids(kind, in[0]);
  expect_lengths(kind, in[1], in[0].shape[0]);
  expect_tokens(kind, in[2]);
  real_attribute(attributes, "scale");
  const std::int64_t vocabulary = int_attribute(attributes, "vocabulary");
  if (vocabulary < 1 || in[2].shape[0] != in[0].shape[0] || in[2].shape[1] != in[0].shape[1])
    throw InvalidArgument(kind + ": the gradient does not fit the ids");
  return weights_gradient_output(kind, in, 3, {DType::f32, {vocabulary, in[2].shape[2]}, false}, attributes);
}

// Every token its own as long as there are any, in sentences without padding.
auto fill_ids(std::int64_t (*vocabulary_of)(const OpShape&)) {
  return [vocabulary_of, lengths = full_sentences(1, {0})](const OpShape& s, std::size_t i,
                                                           std::span<std::int32_t> values) {
    if (i != 0) return lengths(s, i, values);
    for (std::size_t k = 0; k < values.size(); ++k)
      values[k] = static_cast<std::int32_t>(static_cast<std::int64_t>(k) % vocabulary_of(s));
  };
}

// Tokens decide what is read, not the size of the table.
OpCost cost(const OpShape& shape) {
  OpCost total = bytes_moved(shape);
  total.bytes -= static_cast<double>(bytes_of(shape.inputs[2]).value);
  total.bytes += static_cast<double>(bytes_of(shape.outputs[0]).value);
  return total;
}

}  // namespace

void register_embedding(OpRegistry& registry) {
  OpDefinition embedding;
  embedding.kind = "embedding";
  embedding.infer = infer;
  embedding.gradient = [](GradientContext& g) {
    if (!g.wants_input_gradient(2)) return;
    const Attributes attributes{{"scale", g.op().attributes.at("scale")}, {"vocabulary", g.type(g.input(2)).shape[0]}};
    g.set_input_gradient(
        2,
        g.emit("embedding_backward", "d_weight", {g.input(0), g.input(1), g.output_gradient(0)}, attributes).front());
  };
  embedding.cost = cost;
  embedding.workspace = [](const OpShape& s) { return Bytes{4 * s.outputs[0].shape[1] * s.outputs[0].shape[2]}; };
  embedding.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  embedding.fullest = fill_ids([](const OpShape& s) { return s.inputs[2].shape[0]; });
  registry.add(embedding);

  OpDefinition at;
  at.kind = "embedding_at";
  at.infer = infer_at;
  at.cost = cost;
  at.workspace = [](const OpShape& s) { return Bytes{4 * s.outputs[0].shape[2]}; };
  at.make_kernel = [](const OpShape& s) { return function_kernel(s, forward_at); };
  registry.add(at);

  OpDefinition back;
  back.kind = "embedding_backward";
  back.infer = infer_backward;
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.may_accumulate = true;
  back.fullest = fill_ids([](const OpShape& s) { return s.outputs[0].shape[0]; });
  registry.add(back);
}

}  // namespace thimble
