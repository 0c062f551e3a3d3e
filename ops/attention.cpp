// Attention of several heads over another sentence. The scores of one head of one sentence exist at a time, in a tile
// of the workspace; what is kept for the gradient is the logarithm of each row's sum.
#include "attention_head.h"
#include "softmax_row.h"

namespace thimble {
namespace {

// Of queries and keys that are inputs `first` and `first` + 1.
AttentionSizes sizes_of(const OpShape& shape, std::size_t first) {
  return AttentionSizes::of(shape.inputs[first], shape.inputs[first + 1].shape[1], shape.attributes);
}

AttentionHead head_of(const AttentionSizes& sizes, const OpShape& shape, const KernelArguments& a, std::int64_t task,
                      std::size_t first_length) {
  AttentionHead head = AttentionHead::of("attention", sizes, task, a.inputs[first_length], a.inputs[first_length + 1]);
  head.random = random_source(a, shape, head.sentence);
  return head;
}

void forward(const OpShape& shape, const KernelArguments& a) {
  const AttentionSizes sizes = sizes_of(shape, 0);
  parallel_chunks_in_slots(shape.device.threads, sizes.tasks(), [&](std::int64_t task, std::int64_t slot) {
    head_of(sizes, shape, a, task, 3)
        .attend(floats(a.inputs[0]), floats(a.inputs[1]), floats(a.inputs[2]), sizes.tile_of(a.workspace, slot, 1, 0),
                floats(a.outputs[0]), floats(a.outputs[1]));
  });
}

enum BackwardInput : std::size_t { kDy, kQ, kK, kV, kSums, kRowLengths };

// From scores to softmax rows, and what is left of them after dropping.
void make_probabilities(const AttentionHead& head, const KernelArguments& a, float* softmax, float* dropped) {
  for (std::int64_t t = 0; t < head.rows; ++t) {
    float *row = softmax + t * head.columns, *kept = dropped + t * head.columns;
    subtract_and_exponentiate(row, head.sizes.scale, floats(a.inputs[kSums])[head.at_sum(t)], head.columns);
    if (head.sizes.rate != 0)
      head.drop(row, t, kept);
    else
      std::copy_n(row, head.columns, kept);
  }
}

// From the gradient of what was left to that of the scores.
void pass_probabilities(const AttentionHead& head, const float* softmax, float* gradient) {
  for (std::int64_t t = 0; t < head.rows; ++t) {
    float* row = gradient + t * head.columns;
    if (head.sizes.rate != 0) head.drop(row, t, row);
    pass_softmax(softmax + t * head.columns, row, head.columns);
    scale_row(row, head.sizes.scale, head.columns);
  }
}

// In this order q's gradient may lie over q or dy, and v's over v.
void backward(const OpShape& shape, const KernelArguments& a) {
  const AttentionSizes sizes = sizes_of(shape, kQ);
  parallel_chunks_in_slots(shape.device.threads, sizes.tasks(), [&](std::int64_t task, std::int64_t slot) {
    const AttentionHead head = head_of(sizes, shape, a, task, kRowLengths);
    float* softmax = sizes.tile_of(a.workspace, slot, 3, 0);
    float* dropped = sizes.tile_of(a.workspace, slot, 3, 1);
    float* gradient = sizes.tile_of(a.workspace, slot, 3, 2);
    const std::int64_t d = sizes.head_channels(), stride = sizes.channels;
    const ProductSizes scores{head.rows, head.columns, d}, of_columns{head.columns, d, head.rows};
    multiply_in_task(scores, head.query(floats(a.inputs[kQ])), head.key(floats(a.inputs[kK]), true), softmax,
                     head.columns, false);
    make_probabilities(head, a, softmax, dropped);
    multiply_in_task(scores, head.query(floats(a.inputs[kDy])), head.key(floats(a.inputs[kV]), true), gradient,
                     head.columns, false);
    multiply_in_task(of_columns, head.tile(dropped, true), head.query(floats(a.inputs[kDy])),
                     floats(a.outputs[2]) + head.at_column(), stride, false);
    pass_probabilities(head, softmax, gradient);
    multiply_in_task(of_columns, head.tile(gradient, true), head.query(floats(a.inputs[kQ])),
                     floats(a.outputs[1]) + head.at_column(), stride, false);
    multiply_in_task({head.rows, d, head.columns}, head.tile(gradient), head.key(floats(a.inputs[kK])),
                     floats(a.outputs[0]) + head.at_row(0), stride, false);
    head.clear(floats(a.outputs[0]), sizes.rows, head.rows);
    head.clear(floats(a.outputs[1]), sizes.columns, head.columns);
    head.clear(floats(a.outputs[2]), sizes.columns, head.columns);
  });
}

// q, k and v, in the place of `first` inputs on.
void expect_attention(const std::string& kind, const std::vector<TensorType>& in, std::size_t first,
                      const Attributes& attributes) {
  const TensorType &q = in[first], &k = in[first + 1];
  expect_tokens(kind, q);
  expect_tokens(kind, k);
  expect_same(kind, k, in[first + 2]);
  expect_heads(kind, q, attributes);
  expect_drop(kind, attributes);
  if (q.shape[0] != k.shape[0] || q.shape[2] != k.shape[2])
    throw InvalidArgument(kind + ": queries and keys are of other batches or channels");
}

TensorType sums_of(const TensorType& q, const Attributes& attributes) {
  return {DType::f32, {q.shape[0], q.shape[1], int_attribute(attributes, "heads")}, true};
}

OpCost cost(const OpShape& shape, const TensorType& q, const TensorType& k, double products) {
  OpCost total = bytes_moved(shape);
  total.flops = products * 2 * static_cast<double>(element_count(q)) * static_cast<double>(k.shape[1]);
  return total;
}

}  // namespace

void register_attention(OpRegistry& registry) {
  OpDefinition attention;
  attention.kind = "attention";
  attention.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    expect_inputs("attention", in, 5);
    expect_attention("attention", in, 0, attributes);
    for (std::size_t i : {3, 4}) expect_lengths("attention", in[i], in[0].shape[0]);
    return std::vector<OutputSpec>{{"", in[0]}, {"sums", sums_of(in[0], attributes)}};
  };
  attention.gradient = [](GradientContext& g) {
    const auto made =
        g.emit("attention_backward", "backward",
               {g.output_gradient(0), g.input(0), g.input(1), g.input(2), g.output(1), g.input(3), g.input(4)},
               g.op().attributes);
    for (int i = 0; i < 3; ++i) g.set_input_gradient(i, made[static_cast<std::size_t>(i)]);
  };
  attention.cost = [](const OpShape& s) { return cost(s, s.inputs[0], s.inputs[1], 2); };
  attention.workspace = [](const OpShape& s) { return sizes_of(s, 0).workspace(s.device.threads, 1); };
  attention.make_kernel = [](const OpShape& s) { return function_kernel(s, forward); };
  attention.fullest = full_sentences(3, {0, 1});
  registry.add(attention);

  OpDefinition back;
  back.kind = "attention_backward";
  back.infer = [](const std::vector<TensorType>& in, const Attributes& attributes) {
    const std::string kind = "attention_backward";
    expect_inputs(kind, in, 7);
    expect_attention(kind, in, kQ, attributes);
    expect_same(kind, in[kDy], in[kQ]);
    expect_same(kind, in[kSums], sums_of(in[kQ], attributes));
    for (std::size_t i = kRowLengths; i < in.size(); ++i) expect_lengths(kind, in[i], in[kQ].shape[0]);
    return std::vector<OutputSpec>{{"query", in[kQ]}, {"key", in[kK]}, {"value", in[kV]}};
  };
  back.cost = [](const OpShape& s) { return cost(s, s.inputs[kQ], s.inputs[kK], 5); };
  back.workspace = [](const OpShape& s) { return sizes_of(s, kQ).workspace(s.device.threads, 3); };
  back.make_kernel = [](const OpShape& s) { return function_kernel(s, backward); };
  back.in_place = {{kDy, 0}, {kQ, 0}, {kV, 2}};
  back.fullest = full_sentences(kRowLengths, {kQ, kK});
  registry.add(back);
}

}  // namespace thimble
