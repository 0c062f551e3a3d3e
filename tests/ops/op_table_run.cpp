#include "op_table_run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "thimble/ops.h"

namespace thimble::testing {

const Bench& cpu_bench() {
  static const OpRegistry all = [] {
    OpRegistry made;
    register_ops(made);
    return made;
  }();
  static const Bench bench(all);
  return bench;
}

namespace {

constexpr std::int64_t kFirstSample = 5;
constexpr StepScalars kScalars{.seed = 0x123456789abcdefull, .step = 3, .learning_rate = 0.1f, .loss_terms = 37};

const OpRegistry& registry() { return cpu_bench().registry; }

TensorType type_of(const RowInput& input) {
  const bool is_real = input.fill == Fill::normal || input.fill == Fill::positive;
  return {is_real ? DType::f32 : input.fill == Fill::bytes ? DType::u8 : DType::i32, input.shape, input.batched};
}

std::int64_t samples_of(const Row& row) { return row.inputs[0].batched ? row.inputs[0].shape[0] : 6; }

ByteVector random_bytes(const TensorType& type, const RowInput& input, double offset, std::mt19937_64& random) {
  ByteVector bytes(static_cast<std::size_t>(bytes_of(type).value));
  if (type.dtype == DType::u8) {
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    return bytes;
  }
  for (std::size_t at = 0; at < bytes.size(); at += 4) {
    const auto value = static_cast<float>(std::normal_distribution<double>()(random) + offset);
    const bool is_constant = input.fill == Fill::constant, is_shift = input.fill == Fill::shifts;
    const auto choices = static_cast<std::uint64_t>(is_shift ? 2 * input.limit + 1 : input.limit);
    const auto label = static_cast<std::int32_t>(
        is_constant ? input.limit : static_cast<std::int64_t>(random() % choices) - (is_shift ? input.limit : 0));
    const float positive = std::fabs(value) + 0.5f;
    const auto length = static_cast<std::int32_t>(at == 0 ? 1 : at == 4 ? input.limit : at == 8 ? 0 : label + 1);
    std::memcpy(&bytes[at],
                is_constant || is_shift || input.fill == Fill::labels ? static_cast<const void*>(&label)
                : input.fill == Fill::lengths                         ? static_cast<const void*>(&length)
                : input.fill == Fill::positive                        ? static_cast<const void*>(&positive)
                                                                      : static_cast<const void*>(&value),
                4);
  }
  return bytes;
}

// NaN (and ids that no table has) in the rows that a sample of that length lacks.
void spoil_padding(const TensorType& type, const ByteVector& lengths, ByteVector& bytes) {
  const std::size_t sample = bytes.size() / static_cast<std::size_t>(type.shape[0]);
  for (std::size_t n = 0; n * 4 < lengths.size(); ++n) {
    std::int32_t length;
    std::memcpy(&length, &lengths[4 * n], 4);
    const std::size_t row = sample / static_cast<std::size_t>(type.shape[1]);
    std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(n * sample + static_cast<std::size_t>(length) * row),
                sample - static_cast<std::size_t>(length) * row, std::byte{0xFF});
  }
}

// Of the output that sums over microbatches.
TensorType sum_type(const Row& row, const std::vector<TensorType>& inputs) {
  const OpDefinition& definition = registry().at(row.kind);
  return definition.infer(inputs, row.attributes).at(static_cast<std::size_t>(definition.accumulated_output)).type;
}

}  // namespace

Array array_of(const TensorType& type, const ByteVector& bytes) {
  Array array{type.shape, {}};
  if (type.dtype == DType::u8) {
    for (std::byte byte : bytes) array.values.push_back(std::to_integer<int>(byte));
    return array;
  }
  for (std::size_t at = 0; at < bytes.size(); at += 4) {
    float value;
    std::int32_t whole;
    std::memcpy(&value, &bytes[at], 4);
    std::memcpy(&whole, &bytes[at], 4);
    array.values.push_back(type.dtype == DType::i32 ? whole : static_cast<double>(value));
  }
  return array;
}

KernelRun run_of(const Row& row, const Bench& bench, int threads) {
  KernelRun run{.kind = row.kind, .types = {}, .inputs = {}, .attributes = row.attributes, .device = bench.description};
  run.device.threads = threads;
  run.scalars = kScalars;
  run.first_sample = kFirstSample;
  run.samples = samples_of(row);
  run.batch = 2 * run.samples;
  run.first_microbatch = row.first_microbatch;
  std::mt19937_64 random(row.seed);
  for (std::size_t i = 0; i < row.inputs.size(); ++i) {
    run.types.push_back(type_of(row.inputs[i]));
    run.inputs.push_back(random_bytes(run.types[i], row.inputs[i], i == 0 ? row.offset : 0, random));
  }
  for (std::size_t i = 0; i < row.inputs.size(); ++i)
    if (const int lengths = row.inputs[i].lengths; lengths >= 0)
      spoil_padding(run.types[i], run.inputs[static_cast<std::size_t>(lengths)], run.inputs[i]);
  run.sum_output = static_cast<std::size_t>(registry().at(row.kind).accumulated_output);
  if (!row.first_microbatch) run.sum_so_far = random_bytes(sum_type(row, run.types), {}, 0, random);
  return run;
}

ReferenceCall call_of(const Row& row) {
  const KernelRun run = run_of(row, cpu_bench());
  ReferenceCall call{.kind = row.kind,
                     .inputs = {},
                     .attributes = row.attributes,
                     .seed = kScalars.seed,
                     .step = kScalars.step,
                     .learning_rate = static_cast<double>(kScalars.learning_rate),
                     .first_sample = kFirstSample,
                     .batch = run.batch,
                     .first_microbatch = row.first_microbatch,
                     .loss_terms = kScalars.loss_terms};
  for (std::size_t i = 0; i < run.inputs.size(); ++i) call.inputs.push_back(array_of(run.types[i], run.inputs[i]));
  if (!row.first_microbatch) call.inputs.push_back(array_of(sum_type(row, run.types), run.sum_so_far));
  return call;
}

void expect_near(const Array& got, const Array& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(got.values.size(), expected.values.size()) << what;
  double largest = 0;
  for (double value : expected.values) largest = std::max(largest, std::fabs(value));
  for (std::size_t i = 0; i < expected.values.size(); ++i)
    ASSERT_TRUE(std::fabs(got.values[i] - expected.values[i]) <= tolerance * largest)  // false for NaN
        << what << " [" << i << "] is " << got.values[i] << ", the reference " << expected.values[i] << ", off by "
        << std::fabs(got.values[i] - expected.values[i]) / largest << " of the largest";
}

bool is_differentiated(const Row& row) {
  const OpDefinition& definition = registry().at(row.kind);
  const bool is_sum = row.attributes.count(kAccumulates) + row.attributes.count(kAddsToLast) > 0;
  return definition.gradient && !(definition.may_accumulate && is_sum);
}

std::vector<InPlacePair> possible_pairs(const OpRegistry& ops, const KernelRun& run) {
  const OpDefinition& definition = ops.at(run.kind);
  std::vector<InPlacePair> pairs;
  const auto specs = definition.infer(run.types, run.attributes);
  for (InPlacePair pair : definition.in_place) {
    const auto input = static_cast<std::size_t>(pair.input);
    if (input < run.inputs.size() && static_cast<std::size_t>(pair.output) < specs.size() &&
        bytes_of(run.types[input]) == bytes_of(specs[static_cast<std::size_t>(pair.output)].type))
      pairs.push_back(pair);
  }
  for (std::size_t i = 0; i < specs.size(); ++i)
    if (specs[i].version_of_input >= 0) pairs.push_back({specs[i].version_of_input, static_cast<int>(i)});
  return pairs;
}

namespace {

// One op and its gradient rule, where every op the rule emits runs at once.
class EagerGradient final : public GradientContext {
 public:
  EagerGradient(const Row& row, const Bench& bench, int threads)
      : row_(row), bench_(bench), run_(run_of(row, bench, threads)) {
    op_.kind = row.kind;
    op_.attributes = row.attributes;
    for (std::size_t i = 0; i < run_.types.size(); ++i) op_.inputs.push_back(store(run_.types[i], run_.inputs[i]));
    gradients.assign(run_.types.size(), {});
    append_outputs();
    const TensorType y = types_[op_.outputs[0]];  // a copy: store() moves them
    std::mt19937_64 random(row.seed + 1000);
    cotangent_bytes = random_bytes(y, {}, 0, random);
    if (row.output_lengths >= 0)
      spoil_padding(y, run_.inputs[static_cast<std::size_t>(row.output_lengths)], cotangent_bytes);
    const bool is_loss = row.kind == "softmax_cross_entropy" || row.kind == "vocabulary_loss";
    if (is_loss) {
      const float one = 1;
      std::memcpy(cotangent_bytes.data(), &one, 4);
    }
    cotangent_ = is_loss ? kNoTensor : store(y, cotangent_bytes);
    cotangent = array_of(y, cotangent_bytes);
    registry().at(row.kind).gradient(*this);
  }

  const Op& op() const override { return op_; }
  const TensorType& type(TensorId tensor) const override { return types_[tensor]; }
  TensorId output_gradient(int i) const override { return i == 0 ? cotangent_ : kNoTensor; }
  bool wants_input_gradient(int) const override { return true; }
  void set_input_gradient(int i, TensorId g) override { gradients.at(static_cast<std::size_t>(i)) = bytes_[g]; }
  bool is_kept(TensorId tensor) const override { return row_.output_is_kept && tensor == op_.outputs[0]; }

  std::vector<TensorId> emit(const std::string& kind, const std::string&, std::vector<TensorId> inputs,
                             Attributes attributes) override {
    KernelRun run = run_;
    run.kind = kind;
    run.attributes = std::move(attributes);
    run.types.clear();
    run.inputs.clear();
    for (TensorId input : inputs) {
      run.types.push_back(types_[input]);
      run.inputs.push_back(bytes_[input]);
    }
    const KernelResult result = run_guarded(bench_, run);
    EXPECT_EQ(result.own_allocations, 0) << kind;
    for (InPlacePair pair : registry().at(kind).in_place) {
      if (static_cast<std::size_t>(pair.input) >= run.inputs.size()) continue;
      run.in_place = {pair};
      EXPECT_TRUE(run_guarded(bench_, run).outputs == result.outputs) << kind << " gives other bits in place";
    }
    std::vector<TensorId> made;
    for (std::size_t i = 0; i < result.outputs.size(); ++i) made.push_back(store(result.types[i], result.outputs[i]));
    return made;
  }

  void change_forward(const std::string& attribute, Attribute value) override {
    op_.attributes[attribute] = std::move(value);
    append_outputs();
  }

  std::vector<ByteVector> gradients;  // one per input, empty where the rule set none
  ByteVector cotangent_bytes;
  Array cotangent;

 private:
  TensorId store(TensorType type, ByteVector bytes) {
    types_.push_back(std::move(type));
    return bytes_.push_back(std::move(bytes));
  }

  void append_outputs() {
    KernelRun forward = run_;
    forward.attributes = op_.attributes;
    const KernelResult result = run_guarded(bench_, forward);
    EXPECT_EQ(result.own_allocations, 0) << op_.kind;
    for (std::size_t i = 0; i < op_.outputs.size(); ++i)
      EXPECT_TRUE(result.outputs[i] == bytes_[op_.outputs[i]]) << "output " << i << " changes with the attribute";
    for (std::size_t i = op_.outputs.size(); i < result.outputs.size(); ++i)
      op_.outputs.push_back(store(result.types[i], result.outputs[i]));
  }

  Row row_;
  const Bench& bench_;
  KernelRun run_;
  Op op_;
  IdVector<TensorId, TensorType> types_;
  IdVector<TensorId, ByteVector> bytes_;
  TensorId cotangent_ = kNoTensor;
};

}  // namespace

EagerGradients eager_gradients(const Row& row, const Bench& bench, int threads) {
  EagerGradient made(row, bench, threads);
  return {std::move(made.gradients), std::move(made.cotangent)};
}

}  // namespace thimble::testing
