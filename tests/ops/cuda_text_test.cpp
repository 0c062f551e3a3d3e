// CUDA kernels of ops on text: what rows of the table do not show.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "cuda_bench.h"
#include "op_table_run.h"
#include "test_tensors.h"

namespace thimble::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

const TensorType kPosition{DType::i32, {1}, false};

class CudaText : public ::testing::Test {
 protected:
  static KernelRun run_of_kind(const std::string& kind, const std::vector<TensorType>& types,
                               const std::vector<ByteVector>& inputs, const Attributes& attributes) {
    KernelRun run{.kind = kind, .types = types, .inputs = inputs, .attributes = attributes};
    run.samples = run.batch = types[0].shape[0];
    run.device = cuda_bench().description;
    return run;
  }
  static std::vector<ByteVector> run(const std::string& kind, const std::vector<TensorType>& types,
                                     const std::vector<ByteVector>& inputs, const Attributes& attributes) {
    return run_guarded(cuda_bench(), run_of_kind(kind, types, inputs, attributes)).outputs;
  }

  Floats normals(std::int64_t count) { return testing::normals(count, random_); }

  std::mt19937_64 random_{1};
};

// ---- rows that do not begin at 16 bytes

// What a kernel makes of addresses that are `shift` bytes off.
std::vector<ByteVector> run_shifted(const KernelRun& run, std::size_t shift) {
  const Bench& bench = cuda_bench();
  OpShape shape{run.types, {}, run.attributes, run.device};
  for (const OutputSpec& spec : bench.registry.at(run.kind).infer(run.types, run.attributes))
    shape.outputs.push_back(spec.type);
  const auto allocate = [&](std::int64_t size) {
    return bench.device->memory().allocate(Bytes{size + static_cast<std::int64_t>(shift)});
  };
  std::vector<MemoryBlock> blocks;
  std::vector<const std::byte*> inputs;
  std::vector<std::byte*> outputs;
  for (const ByteVector& bytes : run.inputs) {
    std::byte* at = blocks.emplace_back(allocate(static_cast<std::int64_t>(bytes.size()))).data() + shift;
    bench.device->copy_in(at, bytes.data(), Bytes{static_cast<std::int64_t>(bytes.size())});
    inputs.push_back(at);
  }
  for (const TensorType& type : shape.outputs)
    outputs.push_back(blocks.emplace_back(allocate(bytes_of(type).value)).data() + shift);
  const MemoryBlock workspace = bench.device->memory().allocate(bench.registry.workspace(run.kind, shape));
  bench.registry.make_kernel(run.kind, shape)
      ->run({.inputs = inputs,
             .outputs = outputs,
             .workspace = workspace.data(),
             .samples = {0, run.samples},
             .batch = run.batch,
             .stream = bench.device->stream()});
  std::vector<ByteVector> made;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    made.emplace_back(static_cast<std::size_t>(bytes_of(shape.outputs[i]).value));
    bench.device->copy_out(made.back().data(), outputs[i], bytes_of(shape.outputs[i]));
  }
  bench.device->synchronize();
  return made;
}

TEST_F(CudaText, BitsDoNotDependOnAlignment) {
  const Attributes epsilon{{"epsilon", 1e-5}};
  for (const std::int64_t n : {72, 512, 1024}) {
    const ByteVector x = bytes_from(normals(9 * n)), dy = bytes_from(normals(9 * n)), gamma = bytes_from(normals(n));
    const TensorType rows = batched({3, 3, n}), vector = plain({n});
    const KernelRun forward = run_of_kind("layer_norm", {rows, vector, vector}, {x, gamma, gamma}, epsilon);
    EXPECT_TRUE(run_shifted(forward, 0) == run_shifted(forward, 4)) << n;
    const KernelRun backward = run_of_kind("layer_norm_backward", {rows, rows, vector}, {dy, x, gamma}, epsilon);
    EXPECT_TRUE(run_shifted(backward, 0) == run_shifted(backward, 4)) << n;
  }
  const ByteVector ids = bytes_from(Ints{4, 1, 1, 0, 4, 4}), lengths = bytes_from(Ints{3, 2});
  const KernelRun look_up =
      run_of_kind("embedding", {integers({2, 3}), integers({2}), plain({5, 24})},
                  {ids, lengths, bytes_from(normals(5 * 24))}, {{"scale", 2.0}, {"first_position", std::int64_t{2}}});
  EXPECT_TRUE(run_shifted(look_up, 0) == run_shifted(look_up, 4));
  const KernelRun gradient =
      run_of_kind("embedding_backward", {integers({2, 3}), integers({2}), batched({2, 3, 24})},
                  {ids, lengths, bytes_from(normals(6 * 24))}, {{"scale", 2.0}, {"vocabulary", std::int64_t{5}}});
  EXPECT_TRUE(run_shifted(gradient, 0) == run_shifted(gradient, 8));
}

TEST_F(CudaText, BitsOfTapConvolutionsDoNotDependOnAlignment) {
  constexpr std::int64_t kHeads = 2, kKernel = 5;
  const Attributes attributes{
      {"heads", kHeads}, {"kernel", kKernel}, {"causal", std::int64_t{0}}, {"rate", 0.0}, {"stream", std::int64_t{1}}};
  for (const std::int64_t room : {9, 40})     // a tile, several
    for (const std::int64_t n : {144, 72}) {  // four channels a lane, two
      const TensorType x = batched({2, room, n}), logits = batched({2, room, kHeads * kKernel}),
                       weights = plain({kHeads, kKernel});
      const ByteVector of_x = bytes_from(normals(2 * room * n)), of_dy = bytes_from(normals(2 * room * n)),
                       of_logits = bytes_from(normals(2 * room * kHeads * kKernel)),
                       of_weights = bytes_from(normals(kHeads * kKernel)),
                       lengths = bytes_from(Ints{static_cast<std::int32_t>(room), 7});
      for (const KernelRun& run :
           {run_of_kind("dynamic_conv", {x, logits, integers({2})}, {of_x, of_logits, lengths}, attributes),
            run_of_kind("dynamic_conv_backward", {x, x, logits, integers({2})}, {of_dy, of_x, of_logits, lengths},
                        attributes),
            run_of_kind("light_conv_backward", {x, x, weights, integers({2})}, {of_dy, of_x, of_weights, lengths},
                        attributes)})
        EXPECT_TRUE(run_shifted(run, 0) == run_shifted(run, 4)) << run.kind << " " << room << " " << n;
    }
}

// ---- embedding

TEST_F(CudaText, EmbeddingAtAPositionHasTheBitsOfThatRow) {
  constexpr std::int64_t kRoom = 40;
  const Attributes attributes{{"scale", std::sqrt(24.0)}, {"first_position", std::int64_t{2}}};
  const ByteVector table = bytes_from(normals(30 * 24));
  Ints ids(kRoom);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random_() % 30);
  const auto whole = values_from<float>(run("embedding", {integers({1, kRoom}), integers({1}), plain({30, 24})},
                                            {bytes_from(ids), bytes_from(Ints{kRoom}), table}, attributes)[0]);
  for (const std::int32_t t : {0, 1, 39}) {
    const ByteVector step = bytes_from(Ints{ids[static_cast<std::size_t>(t)]});
    EXPECT_EQ(values_from<float>(run("embedding_at", {integers({1, 1}), integers({1}), plain({30, 24}), kPosition},
                                     {step, bytes_from(Ints{1}), table, bytes_from(Ints{t})}, attributes)[0]),
              Floats(whole.begin() + t * 24, whole.begin() + (t + 1) * 24));
  }
}

// The CPU throws; a kernel has nobody to tell.
TEST_F(CudaText, EmbeddingGivesNaNForIdsThatTheTableLacks) {
  const Attributes attributes{{"scale", 1.0}, {"first_position", std::int64_t{2}}};
  const auto y =
      values_from<float>(run("embedding", {integers({1, 3}), integers({1}), plain({5, 4})},
                             {bytes_from(Ints{5, 4, -1}), bytes_from(Ints{3}), bytes_from(Floats(20))}, attributes)[0]);
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i / 4 != 1) << i;
}

// Sums of whole numbers are exact, so any order gives the same.
TEST_F(CudaText, EmbeddingGradientCountsEveryTokenOnce) {
  constexpr std::int64_t kRoom = 700, kSentences = 5, kVocabulary = 2300, kChannels = 4;
  Ints ids(kRoom * kSentences);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random_() % 4 != 0 ? 130 : random_() % kVocabulary);
  const Ints lengths{700, 0, 699, 1, 350};
  Floats dy(ids.size() * kChannels, kNaN), expected(kVocabulary * kChannels);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (static_cast<std::int32_t>(i % kRoom) >= lengths[i / kRoom]) continue;
    for (std::size_t c = 0; c < kChannels; ++c) {
      dy[i * kChannels + c] = static_cast<float>(random_() % 64);
      expected[static_cast<std::size_t>(ids[i]) * kChannels + c] += 2 * dy[i * kChannels + c];
    }
  }
  EXPECT_EQ(
      values_from<float>(run(
          "embedding_backward",
          {integers({kSentences, kRoom}), integers({kSentences}), batched({kSentences, kRoom, kChannels})},
          {bytes_from(ids), bytes_from(lengths), bytes_from(dy)}, {{"scale", 2.0}, {"vocabulary", kVocabulary}})[0]),
      expected);
}

// ---- Adam

TEST_F(CudaText, AdamHasTheBitsOfTheCpu) {
  const TensorType weight = plain({1023});
  Floats second = normals(1023);
  for (float& value : second) value *= value;
  KernelRun run =
      run_of_kind("adam_update", {weight, weight, weight, weight},
                  {bytes_from(normals(1023)), bytes_from(normals(1023)), bytes_from(normals(1023)), bytes_from(second)},
                  {{"beta1", 0.9}, {"beta2", 0.98}, {"epsilon", 1e-8}, {"weight_decay", 1e-4}});
  for (const std::int64_t step : {0, 1, 999, 123456}) {
    run.scalars = {.step = step, .learning_rate = 5e-4f};
    run.device = cuda_bench().description;
    const KernelResult made = run_guarded(cuda_bench(), run);
    run.device = {};
    EXPECT_TRUE(made.outputs == run_guarded(cpu_bench(), run).outputs) << step;
  }
}

// ---- best tokens

class CudaBestTokens : public CudaText {
 protected:
  // Of one hypothesis whose logits are these.
  static std::vector<ByteVector> best(const Floats& logits, std::int64_t count, std::int64_t first) {
    return run("best_tokens", {batched({1, 1, 1}), plain({static_cast<std::int64_t>(logits.size()), 1}), integers({1})},
               {bytes_from(Floats{1}), bytes_from(logits), bytes_from(Ints{1})},
               {{"count", count}, {"first", first}, {"slice", std::int64_t{4}}});
  }
};

TEST_F(CudaBestTokens, GivesEqualOnesByIdAndNoneBelowTheFirst) {
  const Floats logits{9, 9, 1, 3, 2, 3, -0.0f, 3, 1, 0};
  EXPECT_EQ(values_from<std::int32_t>(best(logits, 5, 2)[1]), (Ints{3, 5, 7, 4, 2}));  // and not the equal entry 8
  const auto made = best(logits, 8, 2);
  EXPECT_EQ(values_from<std::int32_t>(made[1]), (Ints{3, 5, 7, 4, 2, 8, 6, 9}));  // both zeros are equal
  const double sum = 2 * std::exp(9) + 3 * std::exp(3) + std::exp(2) + 2 * std::exp(1) + 2;
  EXPECT_NEAR(values_from<float>(made[0])[0], 3 - std::log(sum), 1e-5);  // what is never given counts all the same
  EXPECT_NEAR(values_from<float>(made[0])[5], 1 - std::log(sum), 1e-5);
}

TEST_F(CudaBestTokens, GivesIdsOfTheVocabularyEvenForNaN) {
  for (const std::int64_t count : {1, 7, 38}) {
    Ints ids = values_from<std::int32_t>(best(Floats(40, kNaN), count, 2)[1]);
    std::sort(ids.begin(), ids.end());
    EXPECT_TRUE(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
    EXPECT_TRUE(ids.front() >= 2 && ids.back() < 40);
  }
}

TEST_F(CudaBestTokens, ChoosesAsTheCpuDoes) {
  Floats logits = normals(1500);
  for (float& value : logits) value = std::round(4 * value);  // many equal ones, sums that are exact
  KernelRun run = run_of_kind("best_tokens", {batched({1, 1, 1}), plain({1500, 1}), integers({1})},
                              {bytes_from(Floats{1}), bytes_from(logits), bytes_from(Ints{1})},
                              {{"count", std::int64_t{300}}, {"first", std::int64_t{4}}, {"slice", std::int64_t{1}}});
  const KernelResult made = run_guarded(cuda_bench(), run);
  run.device = {};
  EXPECT_TRUE(made.outputs[1] == run_guarded(cpu_bench(), run).outputs[1]);
}

}  // namespace
}  // namespace thimble::testing
