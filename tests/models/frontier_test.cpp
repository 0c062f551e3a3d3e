// The promises of a planner on a real network: one arithmetic, one set of bits, whatever is kept or made again.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "all_ops.h"
#include "picture_inputs.h"
#include "thimble/initialize.h"
#include "thimble/live_counter.h"
#include "thimble/planner.h"
#include "thimble/replay.h"
#include "thimble/runtime.h"
#include "thimble/training_plan.h"

namespace thimble {
namespace {

TrainingChoices small_net() {
  TrainingChoices choices;
  choices.model = {.depth = 16, .width = 1, .dropout = 0.3};
  choices.batch = 12;
  choices.train_samples = 120;
  choices.test_samples = 12;
  choices.device.threads = 2;
  return choices;
}

// All persistent bytes after some steps on synthetic pictures.
std::vector<std::byte> train(const Plan& plan, int steps) {
  HostMemory memory;
  Runtime runtime(plan, registry(), memory, {.poison = true, .canaries = true});
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    initialize_parameter({reinterpret_cast<float*>(bytes.data()), bytes.size() / 4}, tensor.name, tensor.type, 3);
  }
  const Dataset data = synthetic_data(plan.batch * steps, 7);
  for (int step = 0; step < steps; ++step) {
    runtime.run(
        kTrainProgram, {.seed = 9, .step = step, .learning_rate = 0.05f},
        [&](ProgramView& in) { fill_in_order(data, step * plan.batch, in); }, nullptr);
    EXPECT_EQ(runtime.last_high_water(), plan.program(kTrainProgram).planned);
  }
  std::vector<std::byte> all;
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return all;
}

TEST(WideResNetFrontier, OneArithmeticGivesOneSetOfBits) {
  const Frontier frontier(training_variants(small_net(), registry(), 3), registry(), {.most_evaluations = 1500});
  std::map<std::string, std::vector<std::byte>> bits;
  int recomputing = 0;
  const std::vector<Plan> curve = frontier.curve(12);
  for (const Plan& plan : curve) {
    ASSERT_EQ(check_plan(plan, registry()), std::vector<std::string>{});
    ASSERT_EQ(replay(plan, registry()).problems, std::vector<std::string>{});
    for (const ScheduledStep& step : plan.program(kTrainProgram).schedule.steps) recomputing += step.is_recomputation;
    const std::vector<std::byte> after = train(plan, 5);
    const auto [known, is_new] = bits.try_emplace(plan.arithmetic_hash, after);
    EXPECT_TRUE(known->second == after) << plan.arena.value << " bytes";
  }
  EXPECT_GT(curve.size(), 6U);
  EXPECT_GT(recomputing, 10);
  EXPECT_LT(bits.size(), curve.size());
}

// A ladder of budgets: more bytes never give a slower plan, what is said not to fit does not, and one byte decides.
TEST(WideResNetFrontier, ABudgetOnlyFilters) {
  const Frontier frontier(training_variants(small_net(), registry(), 3), registry(), {.most_evaluations = 500});
  const std::vector<Plan> curve = frontier.curve(8);
  ASSERT_GE(curve.size(), 4U);
  std::map<Bytes, double> fastest;  // by arena
  for (const Candidate& candidate : frontier.candidates())
    fastest.try_emplace(frontier.plan(candidate).arena, candidate.milliseconds);
  const auto milliseconds = [&](Bytes budget) -> std::optional<double> {
    const PlanOrNo answer = frontier.within(budget);
    const Plan* plan = std::get_if<Plan>(&answer);
    if (plan == nullptr) return std::nullopt;
    EXPECT_LE(plan->arena, budget);
    return fastest.at(plan->arena);
  };
  const PlanOrNo none = frontier.within(Bytes{1});
  const auto& no = std::get<DoesNotFit>(none);
  EXPECT_LE(no.lower_bound, no.smallest.arena);
  EXPECT_FALSE(milliseconds(no.smallest.arena - Bytes{1}).has_value());
  std::optional<double> slower = milliseconds(no.smallest.arena);
  ASSERT_TRUE(slower.has_value());
  for (std::size_t i = curve.size(); i-- > 0;) {
    const std::optional<double> time = milliseconds(curve[i].arena);
    ASSERT_TRUE(time.has_value()) << curve[i].arena.value;
    EXPECT_LE(*time, *slower) << curve[i].arena.value;
    slower = time;
  }
}

// What WRN-28-2 needs at batch 100: bytes of the arena at most, and what is made again in percent of the step's FLOPs.
struct Figure {
  const char* what;
  std::vector<std::int64_t> cut;
  bool in_momentum;
  double most_percent;
  std::int64_t most_bytes;
  Norm norm = Norm::batch;
};

double recomputed_percent(const Plan& plan) {
  const Program& program = plan.program(kTrainProgram);
  double once = 0, again = 0;
  for (const ScheduledStep& step : program.schedule.steps) {
    const std::string& kind = program.graph.ops[step.op].kind;
    const double flops = registry().cost(kind, shape_of(program.graph, step.op, 1, plan.device)).flops;
    (step.is_recomputation ? again : once) += flops;
  }
  return 100 * again / once;
}

TEST(WideResNetFrontier, ReachesItsFiguresAtBatch100) {
  for (const Figure& figure :
       {Figure{"whole batch", {100}, false, 25, 62'700'000},
        Figure{"whole batch, more time", {100}, false, 33, 53'500'000},
        Figure{"batch statistics of 10", cut_evenly(100, 10), false, 20.5, 23'900'000},
        Figure{"one at a time", cut_evenly(100, 1), false, 19, 18'800'000},
        Figure{"one at a time, into the momentum", cut_evenly(100, 1), true, 20, 12'900'000},
        Figure{"group norm, two at a time", cut_evenly(100, 2), false, 1, 22'000'000, Norm::group},
        Figure{"group norm, one at a time", cut_evenly(100, 1), false, 18, 18'900'000, Norm::group}}) {
    TrainingChoices choices;
    choices.batch = 100;
    choices.microbatches = figure.cut;
    choices.model.norm = figure.norm;
    choices.fuse_convolutions = true;
    choices.device.threads = 2;
    choices.sgd.nesterov = !figure.in_momentum;
    choices.sgd.accumulate_in_momentum = figure.in_momentum;
    const Frontier frontier({request_training(choices, registry())}, registry());
    const PlanOrNo answer = frontier.within(Bytes{figure.most_bytes}), none = frontier.within(Bytes{1});
    EXPECT_LE(std::get<DoesNotFit>(none).lower_bound, std::get<DoesNotFit>(none).smallest.arena) << figure.what;
    const Plan* plan = std::get_if<Plan>(&answer);
    ASSERT_NE(plan, nullptr) << figure.what;
    EXPECT_LE(recomputed_percent(*plan), figure.most_percent) << figure.what;
    EXPECT_EQ(check_plan(*plan, registry()), std::vector<std::string>{});
    std::printf("%s: %lld bytes, %.1f %% recomputed\n", figure.what, static_cast<long long>(plan->arena.value),
                recomputed_percent(*plan));
  }
}

// Beside a count that shares nothing with us: the proven optima for a graph whose convolutions normalise on the way,
// and below those a block-by-block dynamic program's best (reference/remat.md, section 4.3). Units of 1024 floats a
// sample.
TEST(WideResNetFrontier, StaysByTheProvenOptimaAtBatch100) {
  constexpr std::pair<int, double> kUnitsAndPercent[] = {
      {480, 0},    {448, 0.72},  {416, 1.53},  {384, 2.97},  {352, 4.42},  {320, 5.86},  {288, 7.31},  {256, 8.76},
      {240, 9.48}, {224, 10.28}, {208, 11.73}, {192, 14.17}, {176, 17.04}, {160, 18.58}, {144, 23.81}, {128, 26.07}};
  TrainingChoices choices;
  choices.batch = 100;
  choices.device.threads = 2;
  std::vector<PlanRequest> variants;
  for (const bool fuse : {false, true}) {
    choices.fuse_convolutions = fuse;
    variants.push_back(request_training(choices, registry()));
  }
  const Frontier frontier(variants, registry());
  const std::int64_t persistent = 3 * 4 * 1'467'610;  // weights, gradients, momentum
  for (const auto& [units, percent] : kUnitsAndPercent) {
    const PlanOrNo answer = frontier.within(Bytes{persistent + std::int64_t{units} * 1024 * 4 * 100});
    const Plan* plan = std::get_if<Plan>(&answer);
    ASSERT_NE(plan, nullptr) << units;
    EXPECT_LE(recomputed_percent(*plan), percent + 0.1) << units << " units, " << plan->arena.value << " bytes";
  }
}

// A net of many blocks has to make less again for a sixth of its bytes than one of few: the chain of blocks is solved
// as a whole. Value by value it was 24.6, 20.0, 25.0 and 25.0 %.
TEST(WideResNetFrontier, NetsOfManyBlocksLoseNothing) {
  for (const auto& [depth, percent] :
       {std::pair{28, 26.0}, std::pair{58, 20.0}, std::pair{106, 20.0}, std::pair{310, 20.0}}) {
    TrainingChoices choices;
    choices.model.depth = depth;
    choices.batch = 100;
    choices.device.threads = 2;
    const Bytes plain = make_plan(request_training(choices, registry()), registry()).arena;
    choices.fuse_convolutions = true;
    const Frontier frontier({request_training(choices, registry())}, registry());
    const PlanOrNo answer = frontier.within(Bytes{plain.value / 6});
    const Plan* plan = std::get_if<Plan>(&answer);
    ASSERT_NE(plan, nullptr) << depth;
    EXPECT_LE(recomputed_percent(*plan), percent) << depth;
    std::printf("depth %d: %lld bytes of %lld, %.1f %% recomputed\n", depth, static_cast<long long>(plan->arena.value),
                static_cast<long long>(plain.value), recomputed_percent(*plan));
  }
}

// The counter that searches ask, beside the schedule: where sums are the momentum, their makers have later ids than who
// reads them.
TEST(WideResNetFrontier, IsCountedAsItIsScheduled) {
  for (const bool in_momentum : {false, true}) {
    TrainingChoices choices = small_net();
    choices.microbatches = {6, 6};
    choices.sgd.nesterov = !in_momentum;
    choices.sgd.accumulate_in_momentum = in_momentum;
    const Graph graph =
        accumulate_over_microbatches(request_training(choices, registry()).programs[0].graph, registry());
    const RecomputeBasis basis = recompute_basis(graph, registry());
    ScheduleOptions options{.microbatches = choices.microbatches,
                            .workspaces = IdVector<OpId, Bytes>(graph.ops.size(), Bytes{640})};
    LiveCounter counter(graph, registry(), options);
    for (const std::int32_t rank : {0, 1, kWithinBlock, kOnDemand}) {
      RecomputeRanks ranks = keep_everything(graph);
      for (TensorId t : basis.values) ranks[t] = rank;
      options.sequence = recompute_sequence(graph, basis, ranks);
      EXPECT_EQ(counter.count(options.sequence), live_by_step(make_schedule(graph, registry(), {}, options)))
          << "rank " << rank << (in_momentum ? ", into the momentum" : "");
    }
  }
}

// By the roofline: weights are read and ops are launched once more for every part, so that tiny parts are not free.
TEST(WideResNetFrontier, SmallerPartsArePredictedSlower) {
  const Frontier frontier(training_variants(small_net(), registry(), 1), registry(), {.recompute = false});
  ASSERT_EQ(frontier.candidates().size(), 6U);  // parts of 12, 6, 4, 3, 2, 1
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(frontier.candidates()[i].variant, i) << "fastest first";
  EXPECT_GT(frontier.candidates()[5].milliseconds, 2 * frontier.candidates()[0].milliseconds);
}

TEST(WideResNetFrontier, CutsAndSumsGiveTheSameMeanGradient) {
  TrainingChoices choices = small_net();
  choices.model.dropout = 0;
  choices.sgd = {.momentum = 0.9, .nesterov = false};
  choices.microbatches = {4, 4, 4};
  const std::vector<std::byte> summed = train(make_plan(request_training(choices, registry()), registry()), 1);
  choices.sgd.accumulate_in_momentum = true;
  const Plan in_momentum = make_plan(request_training(choices, registry()), registry());
  const std::vector<std::byte> other = train(in_momentum, 1);
  ASSERT_EQ(summed.size(), other.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i + 4 <= summed.size(); i += 4) {
    float a = 0, b = 0;
    std::memcpy(&a, &summed[i], 4);
    std::memcpy(&b, &other[i], 4);
    difference += (static_cast<double>(a) - b) * (static_cast<double>(a) - b);
    norm += static_cast<double>(a) * a;
  }
  EXPECT_GT(norm, 0);
  EXPECT_LT(std::sqrt(difference / norm), 1e-6);
}

TEST(WideResNetFrontier, SummingInTheMomentumSavesTheSums) {
  TrainingChoices choices;
  choices.batch = 100;
  choices.microbatches = cut_evenly(100, 10);
  choices.sgd.nesterov = false;
  const Bytes summed = make_plan(request_training(choices, registry()), registry()).arena;
  choices.sgd.accumulate_in_momentum = true;
  const Bytes in_momentum = make_plan(request_training(choices, registry()), registry()).arena;
  // All sums but those of a few channel vectors, which are there for a moment before they are added.
  EXPECT_GE((summed - in_momentum).value, 4 * 1467610 - 2048);
}

}  // namespace
}  // namespace thimble
