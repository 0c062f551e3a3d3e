#include "thimble/translation_trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <set>

#include "../cipher_text.h"
#include "../scheduler/other_placements.h"
#include "small_translation.h"
#include "temporary_folder.h"
#include "thimble/error.h"
#include "thimble/planner.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

Vocabulary vocabulary_of(const std::vector<std::string>& lines) {
  PieceCounts counts;
  for (const std::string& line : lines) counts.add_line(line);
  return Vocabulary(counts, 100);
}

// Twelve words and the specials a side.
ParallelText cipher_ids(std::int64_t pairs, std::uint32_t seed) {
  constexpr std::int64_t kMostWords = 7;
  static const CipherText every_word(100, kMostWords, 1);
  static const Vocabulary source = vocabulary_of(every_word.sources), target = vocabulary_of(every_word.targets);
  const CipherText lines(pairs, kMostWords, seed);
  ParallelText text;
  const auto add = [](SentenceIds& side, const Vocabulary& vocabulary, const std::string& line) {
    EXPECT_EQ(vocabulary.encode_to(side.ids, line), 0);
    side.begins.push_back(static_cast<std::int64_t>(side.ids.size()));
  };
  for (const std::string& line : lines.sources) add(text.sources, source, line);
  for (const std::string& line : lines.targets) add(text.targets, target, line);
  return text;
}

TranslationChoices small_choices(std::int64_t chunk = 0, double dropout = 0.2) {
  TranslationChoices choices{.model = small_translation_model()};
  choices.model.source_vocabulary = choices.model.target_vocabulary = 16;
  choices.model.dropout = choices.model.attention_dropout = choices.model.tap_dropout = dropout;
  choices.max_tokens = 64;
  choices.buckets = make_buckets(std::vector<std::int64_t>{3, 5, 8}, choices.max_tokens);
  choices.chunk = chunk;
  choices.device.threads = 1;
  return choices;
}

Plan plan_of(const TranslationChoices& choices) {
  return make_plan(request_translation(choices, registry()), registry());
}

const RunOptions kOptions{
    .steps = 12, .seed = 1, .learning_rate = {.base = 3e-3, .kind = ScheduleKind::inverse_sqrt, .warmup_steps = 4}};

// What a trainer needs, for 70 pairs: 6 batches an epoch and more.
struct Bench {
  ParallelText train = cipher_ids(70, 2), valid = cipher_ids(30, 3);
  HostMemory memory;
  Runtime runtime;

  explicit Bench(const Plan& plan) : runtime(plan, registry(), memory, {.poison = true, .canaries = true}) {}
  explicit Bench(const TranslationChoices& choices = small_choices()) : Bench(plan_of(choices)) {}
  std::unique_ptr<TranslationTrainer> trainer(const RunOptions& options = kOptions) {
    return std::make_unique<TranslationTrainer>(runtime, train, valid, options);
  }
  // Weights and optimizer state by name.
  std::map<std::string, std::string> bits() {
    std::map<std::string, std::string> all;
    for (const PersistentTensor& tensor : runtime.plan().persistent) {
      const auto bytes = runtime.persistent(tensor.name);
      all[tensor.name].assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    return all;
  }
};

// Bits and the last loss after a dozen steps.
std::pair<std::map<std::string, std::string>, double> train(const Plan& plan) {
  Bench bench(plan);
  const auto trainer = bench.trainer();
  trainer->initialize();
  TranslationStep last;
  while (!trainer->is_done()) last = trainer->step();
  return {bench.bits(), last.loss};
}

TEST(TranslationTrainer, LowersTheLoss) {
  Bench bench(small_choices(0, 0.0));
  const auto trainer =
      bench.trainer({.epochs = 12, .seed = 1, .learning_rate = {.base = 5e-3, .kind = ScheduleKind::constant}});
  trainer->initialize();
  EXPECT_EQ(trainer->total_steps(), 12 * trainer->steps_per_epoch());
  const double fresh = trainer->evaluate().nll;
  std::vector<double> epochs;  // mean loss over target ids
  while (!trainer->is_done()) {
    double loss = 0;
    std::int64_t tokens = 0;
    for (std::int64_t i = 0; i < trainer->steps_per_epoch(); ++i) {
      const TranslationStep step = trainer->step();
      EXPECT_EQ(step.step, trainer->steps_done());
      EXPECT_GT(step.loss, step.nll * 0.9) << "smoothed";
      loss += step.loss * static_cast<double>(step.target_tokens);
      tokens += step.target_tokens;
    }
    EXPECT_EQ(tokens, static_cast<std::int64_t>(bench.train.targets.ids.size())) << "every pair once";
    epochs.push_back(loss / static_cast<double>(tokens));
  }
  EXPECT_NEAR(fresh, std::log(16), 0.7);
  EXPECT_LT(epochs.back(), epochs.front() - 0.5);
  EXPECT_LT(trainer->evaluate().nll, fresh - 0.5);
}

TEST(TranslationTrainer, GoesOnFromACheckpointBitForBit) {
  const TemporaryFolder folder;
  const Plan plan = plan_of(small_choices());
  Bench whole(plan);
  const auto uninterrupted = whole.trainer();
  uninterrupted->initialize();
  std::vector<double> losses;
  while (!uninterrupted->is_done()) losses.push_back(uninterrupted->step().loss);
  for (std::int64_t steps : {1, 7, 12}) {  // an epoch ends in between
    {
      Bench first(plan);
      const auto trainer = first.trainer();
      trainer->initialize();
      while (trainer->steps_done() < steps) {
        trainer->step();
        trainer->evaluate();  // sees nothing of training, and leaves nothing behind
      }
      trainer->save(folder.file("checkpoint"));
    }
    Bench second(plan);
    const auto trainer = second.trainer();
    trainer->load(folder.file("checkpoint"));
    EXPECT_EQ(trainer->steps_done(), steps);
    while (!trainer->is_done()) {
      const auto at = static_cast<std::size_t>(trainer->steps_done());
      EXPECT_EQ(trainer->step().loss, losses[at]) << at;
    }
    EXPECT_TRUE(second.bits() == whole.bits()) << steps;
  }
}

// The order of 70 pairs where nothing is dropped, and what is dropped where there is one pair; from the same weights.
TEST(TranslationTrainer, SeesWhatTheSeedSays) {
  for (const auto& [pairs, dropout] : {std::pair{70, 0.0}, {1, 0.2}}) {
    const Plan plan = plan_of(small_choices(0, dropout));
    const auto bits = [&, pairs = pairs](std::uint64_t seed) {
      Bench bench(plan);
      bench.train = cipher_ids(pairs, 2);
      bench.trainer()->initialize();
      RunOptions options = kOptions;
      options.seed = seed;
      options.steps = 3;
      const auto trainer = bench.trainer(options);
      while (!trainer->is_done()) trainer->step();
      return bench.bits();
    };
    EXPECT_TRUE(bits(1) == bits(1));
    EXPECT_FALSE(bits(1) == bits(2)) << pairs;
  }
}

TEST(TranslationTrainer, OrderRecomputationAndPlacementChangeNoBits) {
  for (std::int64_t chunk : {0, 24}) {
    const PlanRequest request = request_translation(small_choices(chunk), registry());
    const Plan plain = make_plan(request, registry());
    const auto expected = train(plain);
    std::size_t recomputed = 0, most_repeats = 0, plans = 0;
    const auto repeats = [](const Plan& plan) {
      const auto& order = plan.programs.front().schedule.order;
      return static_cast<std::size_t>(std::count_if(order.begin(), order.end(), [](const ScheduleNode& node) {
        return node.kind == ScheduleNode::Kind::repeat;
      }));
    };
    const Frontier frontier({request}, registry(), {.most_evaluations = 300, .loops = LoopOrder::either});
    for (const Plan& plan : frontier.curve(3)) {
      EXPECT_TRUE(train(plan) == expected) << plan.arena.value;
      for (const ScheduledStep& step : plan.programs.front().schedule.steps)
        recomputed += step.is_recomputation ? 1 : 0;
      most_repeats = std::max(most_repeats, repeats(plan));
      ++plans;
    }
    EXPECT_GT(plans, 1U);
    EXPECT_GT(recomputed, 10U);
    EXPECT_EQ(most_repeats > 1, chunk != 0) << "block by block";
    for (const auto& change : {testing::turn_over, testing::spread_out}) {
      Plan other = plain;
      change(other);
      EXPECT_NE(other.persistent.front().offset, plain.persistent.front().offset);
      EXPECT_TRUE(train(other) == expected) << chunk;
    }
  }
}

// The mean over target ids, whatever sentences are evaluated together: here one pair at a time is the judge.
TEST(TranslationTrainer, EvaluatesTheMeanOverTargetIds) {
  const TemporaryFolder folder;
  Bench bench;
  const auto trainer = bench.trainer();
  trainer->initialize();
  while (!trainer->is_done()) trainer->step();
  trainer->save(folder.file("checkpoint"));
  const TranslationEvaluation result = trainer->evaluate();
  EXPECT_EQ(result.sentences, 30);
  EXPECT_EQ(result.target_tokens, static_cast<std::int64_t>(bench.valid.targets.ids.size()));
  EXPECT_DOUBLE_EQ(result.perplexity(), std::exp(result.nll));
  EXPECT_EQ(trainer->evaluate().nll, result.nll) << "nothing is dropped";

  double sum = 0;
  for (std::int64_t pair = 0; pair < bench.valid.size(); ++pair) {
    ParallelText one;
    const auto copy = [](std::span<const std::int32_t> ids) {
      return SentenceIds{{ids.begin(), ids.end()}, {0, static_cast<std::int64_t>(ids.size())}};
    };
    one = {copy(bench.valid.source(pair)), copy(bench.valid.target(pair))};
    const TranslationEvaluation alone = TranslationTrainer(bench.runtime, bench.train, one, kOptions).evaluate();
    EXPECT_EQ(alone.target_tokens, static_cast<std::int64_t>(one.targets.ids.size()));
    sum += alone.nll * static_cast<double>(alone.target_tokens);
  }
  EXPECT_NEAR(result.nll, sum / static_cast<double>(result.target_tokens), 1e-5 * result.nll);  // sums of floats

  for (const TranslationChoices& choices : {small_choices(20), small_choices(1), small_choices(0, 0.0)}) {
    Bench other(choices);
    const auto evaluator = other.trainer();
    evaluator->load_initial(folder.file("checkpoint"));
    const TranslationEvaluation same = evaluator->evaluate();
    EXPECT_EQ(same.target_tokens, result.target_tokens);
    EXPECT_NEAR(same.nll, result.nll, 1e-5 * result.nll) << choices.chunk;
  }
}

TEST(TranslationTrainer, RefusesAnotherRunBeforeItTouchesATensor) {
  const TemporaryFolder folder;
  const std::string checkpoint = folder.file("checkpoint");
  {
    Bench bench;
    const auto trainer = bench.trainer();
    trainer->initialize();
    trainer->step();
    trainer->save(checkpoint);
  }
  const auto refused = [&](Bench& bench, const RunOptions& options, const std::string& part) {
    const auto trainer = bench.trainer(options);
    trainer->initialize();
    const auto before = bench.bits();
    const std::string message = message_of<BadInput>([&] { trainer->load(checkpoint); });
    EXPECT_TRUE(holds(message, part)) << message;
    EXPECT_TRUE(bench.bits() == before) << part;
    EXPECT_EQ(trainer->steps_done(), 0);
  };
  const auto changed = [](auto change) {
    RunOptions options = kOptions;
    change(options);
    return options;
  };
  Bench same;
  refused(same, changed([](RunOptions& o) { o.seed = 2; }), "seed 1, this run has 2");
  refused(same, changed([](RunOptions& o) { o.steps = 13; }), "a run of steps 12, this run has 13");
  refused(same, changed([](RunOptions& o) { o.learning_rate.base = 0.01; }),
          "learning rate 0.003 inverse_sqrt, warmup 4 steps, this run has 0.01 inverse_sqrt");
  refused(same, changed([](RunOptions& o) { o.learning_rate.warmup_steps = 5; }),
          "this run has 0.003 inverse_sqrt, warmup 5");
  Bench other_text;
  other_text.train = cipher_ids(70, 4);
  refused(other_text, kOptions, "data set 70 sentence pairs ");
  Bench turned;  // the same ids, cut elsewhere
  ++turned.train.sources.begins[1];
  refused(turned, kOptions, "data set 70 sentence pairs ");
  TranslationChoices choices = small_choices(0, 0.1);
  Bench dropping(choices);
  refused(dropping, kOptions, "regularization dropout 0.2");
  choices = small_choices();
  choices.model.smoothing = 0.2;
  Bench smooth(choices);
  refused(smooth, kOptions, "smoothing 0.2");
  choices = small_choices();
  choices.adam.weight_decay = 0.01;
  Bench heavy(choices);
  refused(heavy, kOptions, "optimizer adam, beta1 0.9");
  choices = small_choices();
  choices.buckets = make_buckets(std::vector<std::int64_t>{4, 8}, choices.max_tokens);
  Bench padded(choices);
  refused(padded, kOptions, "rooms 4,8");
  choices = small_choices();
  choices.max_tokens = 72;
  choices.buckets.back().sentences = 9;
  Bench larger(choices);
  refused(larger, kOptions, "batch 64, this run has 72");
  choices = small_choices();
  choices.model.channels = 64;
  Bench wider(choices);
  refused(wider, kOptions, "the model needs");

  Bench cut(small_choices(24));  // how the work is cut is no part of what is learned
  const auto trainer = cut.trainer();
  trainer->load(checkpoint);
  EXPECT_EQ(trainer->steps_done(), 1);
}

TEST(TranslationTrainer, RefusesTextThatThePlanIsNotFor) {
  Bench bench;
  const auto refusal = [&](const ParallelText& train, const ParallelText& valid) {
    return message_of<InvalidArgument>([&] { TranslationTrainer(bench.runtime, train, valid, kOptions); });
  };
  const auto with = [&](std::int32_t id, SentenceIds ParallelText::*side) {
    ParallelText text = cipher_ids(10, 5);
    (text.*side).ids[3] = id;
    return text;
  };
  const std::string vocabulary = ", the plan's vocabulary has 16";
  EXPECT_EQ(refusal(with(16, &ParallelText::sources), bench.valid),
            "translation trainer: a source has id 16" + vocabulary);
  EXPECT_EQ(refusal(with(-1, &ParallelText::targets), bench.valid),
            "translation trainer: a target has id -1" + vocabulary);
  EXPECT_EQ(refusal(bench.train, with(99, &ParallelText::targets)),
            "translation trainer: a target has id 99" + vocabulary);
  ParallelText long_one = cipher_ids(10, 5);
  long_one.targets.ids.insert(long_one.targets.ids.begin() + 1, 9, 4);
  for (std::size_t i = 1; i < long_one.targets.begins.size(); ++i) long_one.targets.begins[i] += 9;
  const std::string no_room = "batches: pair 0 has " + std::to_string(long_one.target(0).size()) + " ids";
  EXPECT_TRUE(holds(refusal(long_one, bench.valid), no_room));
  EXPECT_TRUE(holds(refusal(bench.train, long_one), no_room));
  EXPECT_EQ(refusal({}, bench.valid), "translation trainer: there is no sentence pair to train on");

  TrainingChoices pictures{.model = {.depth = 10, .width = 1}, .batch = 4, .train_samples = 8, .test_samples = 4};
  Bench other(make_plan(request_training(pictures, registry()), registry()));
  EXPECT_THROW(other.trainer(), BadInput);
}

TEST(TranslationTrainer, UsesWhatIsPlannedInEveryProgram) {
  const TemporaryFolder folder;
  for (std::int64_t chunk : {0, 24}) {
    Bench bench(small_choices(chunk));
    const Plan& plan = bench.runtime.plan();
    const auto trainer = bench.trainer();
    trainer->initialize();
    std::set<std::string> seen;
    const auto expect_planned = [&](const std::string& program) {
      EXPECT_EQ(bench.runtime.last_high_water(), plan.program(program).planned) << program;
      seen.insert(program);
    };
    while (!trainer->is_done()) {
      const std::string program = trainer->next_program();
      trainer->step();
      expect_planned(program);
    }
    for (const Bucket& bucket : small_choices().buckets) {
      SentenceIds words{{4, 2}, {0, 2}};  // one pair that fills its room
      words.ids.insert(words.ids.begin(), static_cast<std::size_t>(bucket.room) - 2, 5);
      words.begins.back() = bucket.room;
      const ParallelText valid{words, words};
      EXPECT_EQ(TranslationTrainer(bench.runtime, bench.train, valid, kOptions).evaluate().sentences, 1);
      expect_planned(bucket_program("evaluate", bucket.room));
    }
    trainer->save(folder.file("checkpoint"));
    expect_planned(kSaveProgram);
    EXPECT_EQ(seen.size(), plan.programs.size());
  }
}

}  // namespace
}  // namespace thimble
