// Attention of hypotheses over keys and values that `keep_rows` left in pools. Bits are those of `attention` without
// dropping, whose sums no gradient needs here.
#include "attention_head.h"
#include "decoding.h"

namespace thimble {
namespace {

constexpr const char* kKind = "pool_attention";

enum Input : std::size_t { kQ, kK, kV, kRowLengths, kColumnLengths };

AttentionSizes sizes_of(const OpShape& shape) {
  return AttentionSizes::of(shape.inputs[kQ], int_attribute(shape.attributes, "room"), shape.attributes);
}

void run(const OpShape& shape, const KernelArguments& a) {
  const AttentionSizes sizes = sizes_of(shape);
  const std::int64_t first =
      first_pool_row(kKind, a, shape.inputs[kK], sizes.sentences, sizes.columns) * sizes.channels;
  parallel_chunks_in_slots(shape.device.threads, sizes.tasks(), [&](std::int64_t task, std::int64_t slot) {
    AttentionHead::of(kKind, sizes, task, a.inputs[kRowLengths], a.inputs[kColumnLengths])
        .attend(floats(a.inputs[kQ]), floats(a.inputs[kK]) + first, floats(a.inputs[kV]) + first,
                sizes.tile_of(a.workspace, slot, 1, 0), floats(a.outputs[0]), nullptr);
  });
}

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  expect_inputs(kKind, in, 5);
  const TensorType& q = in[kQ];
  expect_tokens(kKind, q);
  expect_heads(kKind, q, attributes);
  const std::int64_t room = int_attribute(attributes, "room");
  if (room < 1 || room > kMostPositions)
    throw InvalidArgument(std::string(kKind) + ": room for " + std::to_string(room) + " keys; it is from 1 to " +
                          std::to_string(kMostPositions));
  for (std::size_t i : {kK, kV}) expect_pool(kKind, in[i], {q.shape[2]}, q.shape[0], room);
  expect_same(kKind, in[kK], in[kV]);
  for (std::size_t i : {kRowLengths, kColumnLengths}) expect_lengths(kKind, in[i], q.shape[0]);
  return outputs_like(q);
}

OpCost cost(const OpShape& shape) {
  const TensorType& q = shape.inputs[kQ];
  const double room = static_cast<double>(int_attribute(shape.attributes, "room"));
  OpCost total;
  total.flops = 2 * 2 * static_cast<double>(element_count(q)) * room;
  total.bytes =
      2 * static_cast<double>(bytes_of(q).value) + 2 * 4 * room * static_cast<double>(q.shape[0] * q.shape[2]);
  return total;
}

}  // namespace

void register_pool_attention(OpRegistry& registry) {
  OpDefinition attention;
  attention.kind = kKind;
  attention.infer = infer;
  attention.cost = cost;
  attention.workspace = [](const OpShape& s) { return sizes_of(s).workspace(s.device.threads, 1); };
  attention.make_kernel = [](const OpShape& s) { return function_kernel(s, run); };
  registry.add(attention);
}

}  // namespace thimble
