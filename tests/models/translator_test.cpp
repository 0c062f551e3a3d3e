// Searching with a planned decoder that goes on position by position: it finds what an oracle finds that runs the whole
// decoder again, and what it finds is worth what the evaluation of whole sentences says.
#include "thimble/translator.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "../cuda_under_test.h"
#include "python_torch.h"
#include "small_translation.h"
#include "temporary_folder.h"
#include "thimble/error.h"
#include "thimble/safetensors.h"
#include "thimble/sentence_batches.h"

namespace thimble {
namespace {

constexpr std::int64_t kLongest = 14;

SentenceIds random_sources(const DynamicConv& model, std::int64_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  SentenceIds sources;
  for (std::int64_t i = 0; i < count; ++i) {
    for (auto n = 1 + random() % 19; n > 0; --n)
      sources.ids.push_back(
          3 + static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(model.source_vocabulary - 3)));
    sources.ids.push_back(Vocabulary::kEnd);
    sources.begins.push_back(static_cast<std::int64_t>(sources.ids.size()));
  }
  return sources;
}

// Evaluates whole sentences, and has weights that make some pieces far likelier than others.
struct Whole {
  static constexpr std::int64_t kRoom = 24;
  HostMemory memory;
  Runtime runtime;

  explicit Whole(const DynamicConv& model)
      : runtime(make_plan({.model = "whole",
                           .options = {},
                           .batch = 1,
                           .device = {},
                           .planner_seed = 0,
                           .budget = std::nullopt,
                           .programs = {{"evaluate",
                                         build_dynamic_conv(model, registry(), {1, kRoom, kRoom}, Mode::evaluate),
                                         {1}}}},
                          registry()),
                registry(), memory) {
    draw_small_weights(runtime, 3);
    const auto bytes = runtime.persistent("decoder.output.weight");
    const std::span values{reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
    for (float& value : values) value *= 2.5f;
  }

  void write(const std::string& path) {
    std::vector<NamedBytes> all;
    for (const PersistentTensor& tensor : runtime.plan().persistent)
      all.push_back({tensor.name, tensor.type, runtime.persistent(tensor.name)});
    write_safetensors(path, all, {});
  }

  double log_probability(std::span<const std::int32_t> source, const std::vector<std::int32_t>& ids) {
    ParallelText text;
    text.sources = {{source.begin(), source.end()}, {0, static_cast<std::int64_t>(source.size())}};
    text.targets.ids = ids;
    text.targets.ids.push_back(Vocabulary::kEnd);
    text.targets.begins.push_back(static_cast<std::int64_t>(text.targets.ids.size()));
    const std::int64_t pair[] = {0};
    double nll = 0;
    runtime.run(
        "evaluate", {.loss_terms = 1}, [&](ProgramView& view) { write_sentences(text, pair, kRoom, view); },
        [&](ProgramView& view) { nll = view.as<float>("nll")[0]; });
    return -nll;
  }
};

DeviceDescription threads(int count) {
  DeviceDescription device;
  device.threads = count;
  return device;
}

class TranslatorTest : public ::testing::Test {
 protected:
  std::vector<Translation> translate(const DynamicConv& model, const SentenceIds& sources,
                                     const TranslatorOptions& options) {
    Translator translator(model, registry(), options);
    translator.load(weights_);
    return translator.translate(sources);
  }

  TemporaryFolder folder_;
  std::string weights_ = folder_.file("weights.safetensors");
};

TEST_F(TranslatorTest, FindsWhatThePyTorchOracleFinds) {
  REQUIRE_TORCH_OR_SKIP();
  for (const auto& [dynamic, beam, penalty] :
       {std::tuple{true, 1, 1.0}, {true, 4, 1.0}, {true, 5, 0.2}, {false, 4, 1.5}}) {
    const DynamicConv model = small_translation_model(dynamic);
    Whole(model).write(weights_);
    const SentenceIds sources = random_sources(model, 12, 7);
    const BeamOptions options{.beam = beam, .length_penalty = penalty, .longest = kLongest};
    const auto found = translate(model, sources, {.sentences = 5, .beam = options, .device = threads(2)});
    std::ostringstream text;
    text.precision(9);
    for (std::size_t i = 0; i < found.size(); ++i) {
      for (std::int32_t id : sources[static_cast<std::int64_t>(i)]) text << id << ' ';
      text << '\n' << found[i].score;
      for (std::int32_t id : found[i].ids) text << ' ' << id;
      text << '\n';
    }
    folder_.write("translations.txt", text.str());
    std::ostringstream command;
    command << THIMBLE_PYTHON " " THIMBLE_SOURCE_DIR "/tests/models/translation_search_oracle.py " << folder_.path()
            << ' ' << model.heads << (dynamic ? " dynamic " : " light ") << beam << ' ' << penalty << ' ' << kLongest;
    EXPECT_EQ(std::system(command.str().c_str()), 0);
  }
}

TEST_F(TranslatorTest, ScoresAreWhatEvaluationSays) {
  const DynamicConv model = small_translation_model();
  Whole whole(model);
  whole.write(weights_);
  const SentenceIds sources = random_sources(model, 40, 11);
  const auto found = translate(model, sources, {.sentences = 16, .beam = {.longest = kLongest}, .device = threads(2)});
  int ended = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto length = static_cast<std::int64_t>(found[i].ids.size());
    if (length == kLongest) continue;  // it was cut, so there is no end to score
    ++ended;
    const double score = found[i].score * static_cast<double>(length + 1);
    EXPECT_NEAR(whole.log_probability(sources[static_cast<std::int64_t>(i)], found[i].ids), score, 1e-4) << i;
  }
  EXPECT_GT(ended, 10);
}

// Threads change no bit; which sentences are searched together changes rounding, here of scores alone.
TEST_F(TranslatorTest, KeepsTheOrderOfItsSources) {
  const DynamicConv model = small_translation_model();
  Whole(model).write(weights_);
  SentenceIds sources = random_sources(model, 33, 5);
  sources.ids.push_back(Vocabulary::kEnd);  // nothing but an end
  sources.begins.push_back(static_cast<std::int64_t>(sources.ids.size()));
  const BeamOptions beam{.beam = 3, .longest = kLongest};
  const auto one = translate(model, sources, {.sentences = 1, .beam = beam, .device = threads(1)});
  const auto some = translate(model, sources, {.sentences = 8, .beam = beam, .device = threads(1)});
  const auto threaded = translate(model, sources, {.sentences = 8, .beam = beam, .device = threads(2)});
  ASSERT_EQ(one.size(), 34U);
  EXPECT_TRUE(one.back().ids.empty());
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].ids, some[i].ids) << i;
    EXPECT_NEAR(one[i].score, some[i].score, 1e-5) << i;
    EXPECT_EQ(some[i].ids, threaded[i].ids) << i;
    EXPECT_EQ(some[i].score, threaded[i].score) << i;
  }
}

TEST_F(TranslatorTest, FindsTheSameOnCuda) {
  const auto cuda = testing::cuda_under_test();
  const auto device = cuda->open();
  for (const bool dynamic : {true, false}) {
    const DynamicConv model = small_translation_model(dynamic);
    Whole(model).write(weights_);
    const SentenceIds sources = random_sources(model, 9, 5);
    TranslatorOptions options{.sentences = 4, .beam = {.beam = 3, .longest = kLongest}, .device = threads(1)};
    const auto expected = translate(model, sources, options);
    options.device = cuda->description();
    Translator translator(model, testing::cuda_registry(), options, *device);
    translator.load(weights_);
    const auto found = translator.translate(sources);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(found[i].ids, expected[i].ids) << i;
      EXPECT_NEAR(found[i].score, expected[i].score, 1e-5) << i;
    }
    Bytes most;
    for (const Program& program : translator.plan().programs) most = std::max(most, program.planned);
    EXPECT_LE(translator.high_water(), most);
    EXPECT_GT(translator.high_water(), Bytes{});
  }
}

TEST_F(TranslatorTest, StaysInItsArena) {
  const DynamicConv model = small_translation_model();
  Whole(model).write(weights_);
  Translator translator(model, registry(), {.sentences = 4, .beam = {.longest = kLongest}});
  translator.load(weights_);
  EXPECT_EQ(check_plan(translator.plan(), registry()), std::vector<std::string>{});
  Bytes most;
  for (const Program& program : translator.plan().programs) most = std::max(most, program.planned);
  EXPECT_EQ(translator.arena(), most);
  SentenceIds longest;
  longest.ids.assign(kLongestSentence - 1, 5);
  longest.ids.push_back(Vocabulary::kEnd);
  longest.begins.push_back(kLongestSentence);
  EXPECT_EQ(translator.translate(longest).size(), 1U);
  EXPECT_EQ(translator.high_water(), std::max(translator.plan().program(bucket_program("encode", 1024)).planned,
                                              translator.plan().program(bucket_program("advance", 1024)).planned));
}

TEST_F(TranslatorTest, RefusesWhatItCannotTranslate) {
  const DynamicConv model = small_translation_model();
  Translator translator(model, registry(), {.sentences = 2});
  const auto translate_ids = [&](std::vector<std::int32_t> ids) {
    SentenceIds sources;
    sources.begins.push_back(static_cast<std::int64_t>(ids.size()));
    sources.ids = std::move(ids);
    translator.translate(sources);
  };
  EXPECT_THROW(translate_ids({}), InvalidArgument);
  EXPECT_THROW(translate_ids({4, 5}), InvalidArgument);
  EXPECT_THROW(translate_ids({4, -1, 2}), InvalidArgument);
  EXPECT_THROW(translate_ids({4, static_cast<std::int32_t>(model.source_vocabulary), 2}), InvalidArgument);
  std::vector<std::int32_t> too_long(kLongestSentence, 5);
  too_long.push_back(Vocabulary::kEnd);
  EXPECT_THROW(translate_ids(too_long), InvalidArgument);
  EXPECT_THROW(Translator(model, registry(), {.beam = {.beam = 0}}), InvalidArgument);
  EXPECT_THROW(Translator(model, registry(), {.beam = {.longest = 1025}}), InvalidArgument);
  write_safetensors(weights_, std::vector<NamedBytes>{}, {});
  EXPECT_TRUE(holds(message_of<BadInput>([&] { translator.load(weights_); }), "lacks weights"));
}

}  // namespace
}  // namespace thimble
