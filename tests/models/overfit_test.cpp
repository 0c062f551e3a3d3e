// A small model learns 200 real sentence pairs by heart, and translates them again.
#include <fstream>

#include "all_ops.h"
#include "shared_text.h"
#include "thimble/bleu.h"
#include "thimble/text_folder.h"
#include "thimble/translate_lines.h"
#include "thimble/translation_trainer.h"

namespace thimble {
namespace {

constexpr std::size_t kPairs = 200;

void write_first_lines(const std::string& from, const std::string& to) {
  std::ofstream out(to);
  const std::vector<std::string> lines = lines_of(from);
  for (std::size_t i = 0; i < kPairs; ++i) out << lines.at(i) << '\n';
}

TEST(Translation, SlowOverfits200RealPairs) {
  const TemporaryFolder folder;
  UNPACK_IWSLT14_OR_SKIP(folder);
  for (const char* side : {"de", "en"})
    write_first_lines(folder.file(std::string("train.bpe.") + side), folder.file(std::string("few.") + side));
  prepare_text_folder(folder.file("text"), {.sets = {{"train", folder.file("few.de"), folder.file("few.en")}}});
  const TextFolder text(folder.file("text"));
  const ParallelText pairs = text.pairs("train", 176).text;
  ASSERT_EQ(pairs.size(), static_cast<std::int64_t>(kPairs));

  TranslationChoices choices{.model = {.source_vocabulary = text.source().size(),
                                       .target_vocabulary = text.target().size(),
                                       .channels = 128,
                                       .hidden = 128,
                                       .encoder_kernels = {3, 7},
                                       .decoder_kernels = {3, 7},
                                       .dropout = 0,
                                       .attention_dropout = 0,
                                       .tap_dropout = 0,
                                       .smoothing = 0},
                             .max_tokens = 600,
                             .buckets = make_buckets(usual_rooms(), 600)};
  choices.device.threads = 2;
  HostMemory memory;
  Runtime runtime(make_plan(request_translation(choices, registry()), registry()), registry(), memory);
  TranslationTrainer trainer(runtime, pairs, pairs,
                             {.epochs = 40,
                              .seed = 1,
                              .learning_rate = {.base = 2e-3, .kind = ScheduleKind::inverse_sqrt, .warmup_steps = 50}});
  trainer.initialize();
  while (!trainer.is_done()) trainer.step();
  EXPECT_LT(trainer.evaluate().perplexity(), 1.1);

  const std::string weights = folder.file("weights");
  trainer.save(weights);
  Translator translator(choices.model, registry(), {.device = choices.device});
  translator.load(weights);
  const std::vector<std::string> found = translate_lines(translator, text, text.sources("train")).lines;
  const double score =
      bleu(found, text.references("train"), {.tokens = BleuTokens::none, .smoothing = BleuSmoothing::none}).score;
  std::printf("BLEU %.2f after %lld steps\n", score, static_cast<long long>(trainer.steps_done()));
  EXPECT_GT(score, 90);
}

}  // namespace
}  // namespace thimble
