// Ops of a decoder's step against the ops of whole sentences, bit for bit, and what rows of the table do not show.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "guarded_run.h"
#include "test_tensors.h"
#include "thimble/error.h"
#include "thimble/ops.h"

namespace thimble::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

const TensorType kPosition{DType::i32, {1}, false};

class Decoding : public ::testing::Test {
 protected:
  Decoding() { register_ops(registry_); }

  std::vector<ByteVector> run(const std::string& kind, const std::vector<TensorType>& types,
                              const std::vector<ByteVector>& inputs, const Attributes& attributes) {
    KernelRun run{.kind = kind, .types = types, .inputs = inputs, .attributes = attributes};
    run.samples = run.batch = types[0].shape[0];
    return run_guarded(registry_, run).outputs;
  }

  Floats normals(std::int64_t count) { return testing::normals(count, random_); }

  OpRegistry registry_;
  std::mt19937_64 random_{1};
};

// ---- convolution

constexpr std::int64_t kSentences = 3, kBeam = 4, kHeads = 2, kChannels = 72, kDepth = 31;
const Ints kThere{4, 2, 0};

// One hypothesis so far: what it was at every position, and which rows that lay in.
struct History {
  Floats x, logits;
  Ints rows;
};

class StepConvolutions : public Decoding {
 protected:
  struct Case {
    std::int64_t kernel;
    bool is_dynamic;
    std::int64_t logits() const { return kHeads * kernel; }
    Attributes attributes() const { return {{"heads", kHeads}, {"kernel", kernel}}; }
  };

  // Every hypothesis goes on from a random one of its sentence.
  std::vector<History> grown(const std::vector<History>& before, const Case& one, std::int64_t t) {
    std::vector<History> after(static_cast<std::size_t>(kSentences * kBeam));
    for (std::int64_t row = 0; row < kSentences * kBeam; ++row) {
      const std::int32_t there = kThere[static_cast<std::size_t>(row / kBeam)];
      if (row % kBeam >= there) continue;
      History& history = after[static_cast<std::size_t>(row)];
      const auto parent = static_cast<std::int32_t>(random_() % static_cast<std::uint64_t>(there));
      if (t > 0) {
        history = before[static_cast<std::size_t>(row / kBeam * kBeam + parent)];
        history.rows.push_back(parent);
      }
      append(history.x, normals(kChannels));
      append(history.logits, normals(one.logits()));
    }
    return after;
  }

  static void append(Floats& to, const Floats& values) { to.insert(to.end(), values.begin(), values.end()); }

  // y and the ring; what is not there is NaN.
  std::vector<ByteVector> step(const Case& one, const std::vector<History>& all, const ByteVector& ring,
                               const Floats& weights, std::int64_t t) {
    Floats x, logits;
    Ints ancestors;
    for (const History& history : all) {
      const bool is_there = !history.x.empty();
      append(x, is_there ? Floats(history.x.end() - kChannels, history.x.end()) : Floats(kChannels, kNaN));
      const auto count = static_cast<std::size_t>(one.logits());
      append(logits,
             is_there ? Floats(history.logits.end() - one.logits(), history.logits.end()) : Floats(count, kNaN));
      for (std::int64_t back = 1; back <= kDepth; ++back)
        ancestors.push_back(is_there && back <= t ? history.rows.at(static_cast<std::size_t>(t - back)) : -1);
    }
    return run(one.is_dynamic ? "step_conv" : "light_step_conv",
               {batched({kSentences, kBeam, kChannels}),
                one.is_dynamic ? batched({kSentences, kBeam, one.logits()}) : plain({kHeads, one.kernel}),
                plain({kSentences * kBeam + 2, one.kernel, kChannels}), integers({kSentences, kBeam, kDepth}),
                integers({kSentences}), kPosition},
               {bytes_from(x), bytes_from(one.is_dynamic ? logits : weights), ring, bytes_from(ancestors),
                bytes_from(kThere), bytes_from(Ints{static_cast<std::int32_t>(t)})},
               one.attributes());
  }

  // Row t of the causal convolution of each history as a whole sentence.
  Floats whole(const Case& one, const std::vector<History>& all, const Floats& weights, std::int64_t t) {
    const std::int64_t rows = kSentences * kBeam;
    Floats x, logits, last;
    Ints lengths;
    for (const History& history : all) {
      const bool is_there = !history.x.empty();
      append(x, is_there ? history.x : Floats(static_cast<std::size_t>((t + 1) * kChannels), kNaN));
      append(logits, is_there ? history.logits : Floats(static_cast<std::size_t>((t + 1) * one.logits()), kNaN));
      lengths.push_back(is_there ? static_cast<std::int32_t>(t + 1) : 0);
    }
    Attributes attributes = one.attributes();
    attributes.insert({{"causal", std::int64_t{1}}, {"rate", 0.0}, {"stream", std::int64_t{0}}});
    const auto y = values_from<float>(
        run(one.is_dynamic ? "dynamic_conv" : "light_conv",
            {batched({rows, t + 1, kChannels}),
             one.is_dynamic ? batched({rows, t + 1, one.logits()}) : plain({kHeads, one.kernel}), integers({rows})},
            {bytes_from(x), bytes_from(one.is_dynamic ? logits : weights), bytes_from(lengths)}, attributes)[0]);
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto end = y.begin() + (row + 1) * (t + 1) * kChannels;
      append(last, Floats(end - kChannels, end));
    }
    return last;
  }
};

TEST_F(StepConvolutions, StepByStepHaveTheBitsOfTheCausalConvolution) {
  for (const Case& one : {Case{1, true}, Case{3, true}, Case{31, true}, Case{3, false}, Case{31, false}}) {
    const Floats weights = normals(one.logits());
    std::vector<History> all;
    ByteVector ring =
        bytes_from(Floats(static_cast<std::size_t>((kSentences * kBeam + 2) * one.kernel * kChannels), kNaN));
    for (std::int64_t t = 0; t < 70; ++t) {
      all = grown(all, one, t);
      const std::vector<ByteVector> made = step(one, all, ring, weights, t);
      ASSERT_TRUE(values_from<float>(made[0]) == whole(one, all, weights, t))
          << "kernel " << one.kernel << ", dynamic " << one.is_dynamic << ", position " << t;
      ring = made[1];
    }
  }
}

TEST_F(StepConvolutions, RefuseAncestorsAndPositionsThatCannotBe) {
  const Case one{3, false};
  const auto accepts = [&](std::int32_t ancestor, std::int32_t position) {
    KernelRun run{.kind = "light_step_conv",
                  .types = {batched({1, 2, 4}), plain({kHeads, 3}), plain({2, 3, 4}), integers({1, 2, 2}),
                            integers({1}), kPosition},
                  .inputs = {bytes_from(Floats(8)), bytes_from(Floats(6)), bytes_from(Floats(24)),
                             bytes_from(Ints{0, ancestor, -1, -1}), bytes_from(Ints{1}), bytes_from(Ints{position})},
                  .attributes = one.attributes()};
    run.samples = run.batch = 1;
    try {
      run_guarded(registry_, run);
    } catch (const InvalidArgument&) {
      return false;
    }
    return true;
  };
  EXPECT_TRUE(accepts(1, 1023));
  EXPECT_FALSE(accepts(1, 1024));
  EXPECT_FALSE(accepts(1, -1));
  EXPECT_FALSE(accepts(2, 2));
  EXPECT_FALSE(accepts(-1, 2));
  EXPECT_TRUE(accepts(-1, 1));  // nothing is two positions back
}

// ---- attention

TEST_F(Decoding, AttentionOverPoolsHasTheBitsOfAttention) {
  constexpr std::int64_t kRoom = 40, kRows = 5 * kRoom + 7;
  const Ints there{4, 1, 0, 3, 4}, columns{40, 7, 9, 0, 33};
  const TensorType q = batched({5, 4, 48}), kv = batched({5, kRoom, 48}), pool = plain({kRows, 48});
  const ByteVector queries = bytes_from(normals(5 * 4 * 48));
  std::vector<ByteVector> sentences, pools;
  for (int i = 0; i < 2; ++i) {
    Floats values = normals(5 * kRoom * 48);
    for (std::int64_t n = 0; n < 5; ++n)
      std::fill(values.begin() + (n * kRoom + columns[static_cast<std::size_t>(n)]) * 48,
                values.begin() + (n + 1) * kRoom * 48, kNaN);
    sentences.push_back(bytes_from(values));
    pools.push_back(run("keep_rows", {kv, pool}, {sentences.back(), bytes_from(Floats(kRows * 48, kNaN))}, {})[0]);
  }
  const std::vector<TensorType> lengths{integers({5}), integers({5})};
  const auto whole = run("attention", {q, kv, kv, lengths[0], lengths[1]},
                         {queries, sentences[0], sentences[1], bytes_from(there), bytes_from(columns)},
                         {{"heads", std::int64_t{3}}, {"rate", 0.0}, {"stream", std::int64_t{0}}});
  const auto made = run("pool_attention", {q, pool, pool, lengths[0], lengths[1]},
                        {queries, pools[0], pools[1], bytes_from(there), bytes_from(columns)},
                        {{"heads", std::int64_t{3}}, {"room", kRoom}});
  ASSERT_EQ(made.size(), 1U);
  EXPECT_TRUE(made[0] == whole[0]);
}

TEST_F(Decoding, RowsAreKeptWhereTheirSentencesLieInTheStep) {
  KernelRun run{.kind = "keep_rows",
                .types = {batched({1, 2, 1}), plain({6, 1})},
                .inputs = {bytes_from(Floats{8, 9}), bytes_from(Floats{1, 2, 3, 4, 5, 6})},
                .attributes = {},
                .first_sample = 1,
                .samples = 1,
                .batch = 2};
  EXPECT_EQ(values_from<float>(run_guarded(registry_, run).outputs[0]), (Floats{1, 2, 8, 9, 5, 6}));
  run.first_sample = 3;
  EXPECT_THROW(run_guarded(registry_, run), InvalidArgument);
}

// ---- embedding

TEST_F(Decoding, EmbeddingAtAPositionHasTheBitsOfThatRow) {
  constexpr std::int64_t kRoom = 50;
  const Attributes attributes{{"scale", std::sqrt(24.0)}, {"first_position", std::int64_t{2}}};
  const ByteVector table = bytes_from(normals(30 * 24));
  Ints ids(2 * kRoom);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random_() % 30);
  const auto whole = values_from<float>(run("embedding", {integers({2, kRoom}), integers({2}), plain({30, 24})},
                                            {bytes_from(ids), bytes_from(Ints{kRoom, kRoom}), table}, attributes)[0]);
  for (const std::int32_t t : {0, 1, 49}) {
    const auto at = [&](std::int64_t n) { return n * kRoom + t; };
    const Ints step{ids[static_cast<std::size_t>(at(0))], ids[static_cast<std::size_t>(at(1))], -1};
    const auto y =
        values_from<float>(run("embedding_at", {integers({1, 3}), integers({1}), plain({30, 24}), kPosition},
                               {bytes_from(step), bytes_from(Ints{2}), table, bytes_from(Ints{t})}, attributes)[0]);
    for (std::int64_t n = 0; n < 2; ++n)
      EXPECT_TRUE(std::equal(y.begin() + n * 24, y.begin() + (n + 1) * 24, whole.begin() + at(n) * 24)) << t;
    EXPECT_EQ(Floats(y.begin() + 48, y.end()), Floats(24, 0.0F));
  }
}

TEST_F(Decoding, EmbeddingRefusesPositionsThatCannotBe) {
  for (const std::int32_t t : {-1, 1024})
    EXPECT_THROW(run("embedding_at", {integers({1, 1}), integers({1}), plain({5, 4}), kPosition},
                     {bytes_from(Ints{1}), bytes_from(Ints{1}), bytes_from(Floats(20)), bytes_from(Ints{t})},
                     {{"scale", 1.0}, {"first_position", std::int64_t{2}}}),
                 InvalidArgument);
}

// ---- best tokens

class BestTokensRule : public Decoding {
 protected:
  // Of one hypothesis whose logits are these.
  std::vector<ByteVector> best(const Floats& logits, std::int64_t count, std::int64_t first) {
    return run("best_tokens", {batched({1, 1, 1}), plain({static_cast<std::int64_t>(logits.size()), 1}), integers({1})},
               {bytes_from(Floats{1}), bytes_from(logits), bytes_from(Ints{1})},
               {{"count", count}, {"first", first}, {"slice", std::int64_t{4}}});
  }
};

TEST_F(BestTokensRule, GivesEqualOnesByIdAndNoneBelowTheFirst) {
  const Floats logits{9, 9, 1, 3, 2, 3, 0, 3, 1};
  EXPECT_EQ(values_from<std::int32_t>(best(logits, 5, 2)[1]), (Ints{3, 5, 7, 4, 2}));  // and not the equal entry 8
  const auto made = best(logits, 6, 2);
  EXPECT_EQ(values_from<std::int32_t>(made[1]), (Ints{3, 5, 7, 4, 2, 8}));
  const Floats scores = values_from<float>(made[0]);
  const double sum = 2 * std::exp(9) + 3 * std::exp(3) + std::exp(2) + 2 * std::exp(1) + 1;
  EXPECT_NEAR(scores[0], 3 - std::log(sum), 1e-5);  // what is never given counts all the same
  EXPECT_NEAR(scores[5], 1 - std::log(sum), 1e-5);
}

TEST_F(BestTokensRule, GivesIdsOfTheVocabularyEvenForNaN) {
  for (const std::int64_t count : {1, 7, 38})
    for (const std::int32_t id : values_from<std::int32_t>(best(Floats(40, kNaN), count, 2)[1]))
      EXPECT_TRUE(id >= 2 && id < 40) << id;
}

TEST_F(BestTokensRule, DoesNotDependOnTheSlice) {
  const TensorType x = batched({6, 4, 32}), w = plain({301, 32});
  const std::vector<ByteVector> inputs{bytes_from(normals(6 * 4 * 32)), bytes_from(normals(301 * 32)),
                                       bytes_from(Ints{4, 0, 2, 4, 1, 3})};
  const auto made = [&](std::int64_t slice) {
    return run("best_tokens", {x, w, integers({6})}, inputs,
               {{"count", std::int64_t{5}}, {"first", std::int64_t{2}}, {"slice", slice}})[1];
  };
  EXPECT_TRUE(made(1000) == made(3));
}

}  // namespace
}  // namespace thimble::testing
