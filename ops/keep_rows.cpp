// Writes sentences into a pool that other programs read: a decoder layer's keys and values of what was encoded.
#include "decoding.h"
#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr const char* kKind = "keep_rows";

enum Input : std::size_t { kX, kPool };

void run(const OpShape& shape, const KernelArguments& a) {
  const TensorType &x = shape.inputs[kX], &pool = shape.inputs[kPool];
  const std::int64_t first = first_pool_row(kKind, a, pool, x.shape[0], x.shape[1]);
  copy_pool(pool, a.inputs[kPool], a.outputs[0]);
  const std::int64_t sentence = elements_per_sample(x);
  parallel_chunks(shape.device.threads, x.shape[0], [&](std::int64_t n) {
    std::copy_n(floats(a.inputs[kX]) + n * sentence, sentence,
                floats(a.outputs[0]) + first * x.shape[2] + n * sentence);
  });
}

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes&) {
  expect_inputs(kKind, in, 2);
  expect_tokens(kKind, in[kX]);
  expect_pool(kKind, in[kPool], {in[kX].shape[2]}, in[kX].shape[0], in[kX].shape[1]);
  return {{"", in[kPool], Role::state, kPool}};
}

// The rest of the pool stays where it is.
OpCost cost(const OpShape& shape) {
  OpCost total;
  total.bytes = 2 * static_cast<double>(bytes_of(shape.inputs[kX]).value);
  return total;
}

}  // namespace

void register_keep_rows(OpRegistry& registry) {
  OpDefinition keep;
  keep.kind = kKind;
  keep.infer = infer;
  keep.cost = cost;
  keep.make_kernel = [](const OpShape& s) { return function_kernel(s, run); };
  keep.once = true;
  registry.add(keep);
}

}  // namespace thimble
