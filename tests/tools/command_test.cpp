// The command as its users run it: exit codes, JSON, files, and the promises that need a whole run to show.
#include <algorithm>

#include "run_command.h"

namespace thimble {
namespace {

TEST_F(Command, PlanJsonHasEveryField) {
  const Result result = thimble("plan wrn-28-2 --batch 100 --json");
  ASSERT_EQ(result.code, 0);
  const Json report = Json::parse(result.output);
  for (const char* key :
       {"model",           "batch",       "microbatch",        "microbatches",    "loops",         "loop_count",
        "device",          "arena_bytes", "lower_bound_bytes", "live_peak_bytes", "bytes_by_role", "peak_program",
        "peak_step",       "flops",       "recompute_flops",   "predicted_ms",    "budget_bytes",  "fits",
        "arithmetic_hash", "threads",     "planner_seed"})
    EXPECT_TRUE(report.contains(key)) << key;
  std::int64_t sum = 0;
  for (const char* role :
       {"weights", "optimizer", "gradients", "activations", "statistics", "state", "workspace", "input", "other"})
    sum += report.at("bytes_by_role").at(role).get<std::int64_t>();
  EXPECT_EQ(sum, report.at("live_peak_bytes"));
  EXPECT_LE(report.at("live_peak_bytes"), report.at("lower_bound_bytes"));
  EXPECT_EQ(report.at("arena_bytes"), report.at("lower_bound_bytes"));
}

TEST_F(Command, PlanIsTheSameBytesTwice) {
  ASSERT_EQ(thimble("plan wrn-16-1 --batch 20 --threads 2 -o " + in("a.json")).code, 0);
  ASSERT_EQ(thimble("plan wrn-16-1 --batch 20 --threads 2 -o " + in("b.json")).code, 0);
  EXPECT_EQ(read(in("a.json")), read(in("b.json")));
}

// As the README has it: a plan made for the official number of pictures trains on as many synthetic ones.
TEST_F(Command, APlanFileTrainsOnSyntheticData) {
  ASSERT_EQ(thimble("plan wrn-10-1 --batch 100 --budget 12MB -o " + in("plan.json")).code, 0);
  const Result result = thimble("train " + in("plan.json") + " --data synthetic --steps 2 --out " + in("run"), true);
  ASSERT_EQ(result.code, 0) << result.output;
  const Json last = last_line(in("run/metrics.jsonl"));
  EXPECT_EQ(last.at("test_samples"), 10000);
  EXPECT_EQ(last.at("arena_high_water_bytes"), last.at("arena_bytes"));
  EXPECT_LE(last.at("arena_bytes"), 12'000'000);
}

TEST_F(Command, AMissedBudgetIsAnHonestNo) {
  const Result result = thimble("plan wrn-10-1 --batch 32 --budget 1MB --json -o " + in("no.json"));
  EXPECT_EQ(result.code, 3);
  const Json report = Json::parse(result.output);
  EXPECT_FALSE(report.at("fits"));
  EXPECT_GT(report.at("smallest_arena_bytes"), 1000000);
  EXPECT_FALSE(report.at("forced_by").empty());
  EXPECT_FALSE(fs::exists(in("no.json")));
  ASSERT_FALSE(report.at("could_allow").empty());
  for (const Json& one : report.at("could_allow")) EXPECT_LT(one.at("arena_bytes"), report.at("smallest_arena_bytes"));
}

// What a missed budget suggests holds when it is done: the first allowance of those that fit is taken at its word.
TEST_F(Command, AMissedBudgetSaysWhatWouldFit) {
  const std::string plan = "plan wrn-10-1 --batch 32 --optimizer momentum";
  const Json no = Json::parse(thimble(plan + " --budget 1MB --json").output);
  const auto smallest = no.at("smallest_arena_bytes").get<std::int64_t>();
  const Json report = Json::parse(thimble(plan + " --budget " + std::to_string(smallest - 1) + " --json").output);
  EXPECT_EQ(report.at("smallest_arena_bytes"), smallest);
  const Json& first = report.at("could_allow").at(0);
  ASSERT_TRUE(first.at("fits"));
  const std::string option = first.at("option");
  const Json yes =
      Json::parse(thimble(plan + " " + option + " --budget " + std::to_string(smallest - 1) + " --json").output);
  EXPECT_EQ(yes.at("arena_bytes"), first.at("arena_bytes")) << option;
  EXPECT_EQ(thimble(plan + " --budget " + std::to_string(smallest)).code, 0) << "the smallest fits, one less does not";
}

// A budget that no plan in microbatch-major order keeps: block-major order does, and says so.
TEST_F(Command, BlockMajorOrderFitsWhereGradientsAreMostOfTheBytes) {
  const std::string plan = "plan wrn-16-2 --batch 12 --min-microbatch 1 --threads 1";
  const Json plain = Json::parse(thimble(plan + " --loops microbatch --budget 1MB --json").output);
  const auto less = plain.at("smallest_arena_bytes").get<std::int64_t>() - 1;
  const std::string budget = " --budget " + std::to_string(less) + " --json";
  EXPECT_EQ(thimble(plan + " --loops microbatch" + budget).code, 3);
  const Result result = thimble(plan + budget + " -o " + in("block.json"));
  ASSERT_EQ(result.code, 0) << result.output;
  const Json report = Json::parse(result.output);
  EXPECT_EQ(report.at("loops"), "block");
  EXPECT_GT(report.at("loop_count"), 2);
  EXPECT_LE(report.at("arena_bytes"), less);
  const Result words = thimble(plan + " --budget " + std::to_string(less) + " --explain");
  EXPECT_NE(words.output.find("block by block, in "), std::string::npos) << words.output;
  EXPECT_EQ(thimble("replay " + in("block.json")).code, 0);
}

TEST_F(Command, BlockMajorOrderNeedsNoBudget) {
  const std::string plan = "plan wrn-10-1 --batch 4 --microbatch 1 --json --loops ";
  const Json block = Json::parse(thimble(plan + "block").output), plain = Json::parse(thimble(plan + "auto").output);
  EXPECT_EQ(block.at("loops"), "block");
  EXPECT_EQ(plain.at("loops"), "microbatch");
  EXPECT_EQ(plain.at("loop_count"), 1);
  EXPECT_EQ(block.at("arithmetic_hash"), plain.at("arithmetic_hash"));
}

// A budget that cuts the batch cuts its statistics; what keeping them whole would take is said beside it.
TEST_F(Command, SaysWhatTheStatisticsOfTheWholeBatchWouldTake) {
  const std::string plan = "plan wrn-10-1 --batch 24 --min-microbatch 1 --threads 1";
  const Json whole = Json::parse(thimble(plan + " --microbatch 24 --budget 1kB --json").output);
  const auto least = whole.at("smallest_arena_bytes").get<std::int64_t>();
  char text[120];
  std::snprintf(text, sizeof text, "(--microbatch 24) would take at least %.1f MB, ", static_cast<double>(least) / 1e6);
  const Result below = thimble(plan + " --budget " + std::to_string(least - 1) + " --explain");
  ASSERT_EQ(below.code, 0) << below.output;
  EXPECT_NE(below.output.find(text), std::string::npos) << below.output << text;
  // A plan in parts that is faster than the whole batch in the same bytes.
  const Result above = thimble(plan + " --budget " + std::to_string(least) + " --explain");
  EXPECT_NE(above.output.find("(--microbatch 24) fit too: "), std::string::npos) << above.output;
  const Result group = thimble(plan + " --norm group --budget " + std::to_string(least) + " --explain");
  EXPECT_EQ(group.output.find("--microbatch 24"), std::string::npos) << group.output;
}

TEST_F(Command, SaysWhoseStatisticsNormalise) {
  const std::string plan = "plan wrn-10-1 --batch 24";
  const auto statistics = [&](const std::string& options) {
    return Json::parse(thimble(plan + options + " --json").output).at("statistics");
  };
  EXPECT_EQ(statistics(""), "of the whole batch of 24 samples");
  EXPECT_EQ(statistics(" --microbatch 8"), "of a microbatch of 8 samples");
  EXPECT_EQ(statistics(" --microbatch 1"), "of a microbatch of 1 sample");
  EXPECT_EQ(statistics(" --microbatch 4,20"), "of a microbatch of 4 to 20 samples");
  EXPECT_EQ(statistics(" --microbatch 8 --norm group"), "of every sample by itself, which no cut changes");
  const std::string table = thimble(plan + " --norm group").output;
  EXPECT_NE(table.find("norm group: statistics of every sample by itself"), std::string::npos) << table;
  EXPECT_EQ(thimble(plan + " --norm layer").code, 2);
}

// Where a budget is missed, the smallest microbatch is the one that statistics allow, and the way out is named.
TEST_F(Command, OnlySharedStatisticsKeepMicrobatchesLarge) {
  const auto refused = [this](const std::string& options) {
    const Json report = Json::parse(thimble("plan wrn-10-1 --batch 32 --budget 1MB --json" + options).output);
    std::vector<std::string> allowed;
    for (const Json& one : report.at("could_allow")) allowed.push_back(one.at("option"));
    return std::pair{report.at("microbatch").get<int>(), allowed};
  };
  const auto names = [](const std::vector<std::string>& allowed, const std::string& part) {
    return std::ranges::any_of(allowed, [&](const std::string& one) { return one.find(part) != std::string::npos; });
  };
  const auto [of_batch, with_batch] = refused("");
  EXPECT_EQ(of_batch, 8);
  EXPECT_TRUE(names(with_batch, "--norm group"));
  EXPECT_TRUE(names(with_batch, "--min-microbatch 1"));
  const auto [of_group, with_group] = refused(" --norm group");
  EXPECT_EQ(of_group, 1);
  EXPECT_FALSE(names(with_group, "--norm") || names(with_group, "--min-microbatch"));
  const auto [at_least, with_least] = refused(" --norm group --min-microbatch 4");
  EXPECT_EQ(at_least, 4);
  EXPECT_TRUE(names(with_least, "--min-microbatch 1"));
}

TEST_F(Command, WrongUsageIsTwo) {
  for (const char* arguments : {"", "plan", "plan nothing", "plan wrn-28-2 --batch 0", "plan wrn-28-2 --budget 8XB",
                                "plan wrn-28-2 --batch 10 --microbatch 3,4", "plan wrn-28-2 --loops sideways"})
    EXPECT_EQ(thimble(arguments).code, 2) << arguments;
}

TEST_F(Command, MissingDataNamesTheFileAndItsSource) {
  const Result result = thimble("train wrn-10-1 --data " + in("nowhere"), true);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.output.find("data_batch_1.bin"), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("Toronto"), std::string::npos) << result.output;
}

TEST_F(Command, TrainingKeepsThePlansPromises) {
  ASSERT_EQ(thimble(std::string(kSmall) + "--steps 50 --canaries --out " + in("run")).code, 0);
  const Json last = last_line(in("run/metrics.jsonl"));
  EXPECT_EQ(last.at("steps"), 50);
  EXPECT_EQ(last.at("arena_high_water_bytes"), last.at("arena_bytes"));
  if (last.at("allocations_counted")) {
    EXPECT_EQ(last.at("allocations_during_steps"), 0);
    // No tensor: what sgemm packs into has 16,640 bytes with AVX2 and 73,984 with AVX-512, whatever the product.
    EXPECT_LT(last.at("library_largest_allocation_bytes"), 80'000);
    EXPECT_LT(last.at("rss_growth_bytes"), 256 * 1024);
  }
  EXPECT_TRUE(last.contains("test_accuracy"));
  EXPECT_TRUE(last.contains("library_bytes"));
}

TEST_F(Command, BitsDoNotDependOnRunThreadsPoisonOrResumption) {
  const std::string run = std::string(kSmall) + "--steps 12 --out ";
  ASSERT_EQ(thimble(run + in("one") + " --threads 1").code, 0);
  ASSERT_EQ(thimble(run + in("two") + " --threads 2").code, 0);
  ASSERT_EQ(thimble(run + in("again") + " --threads 2 --poison").code, 0);
  const std::string expected = weights(in("one/checkpoint.safetensors"));
  EXPECT_EQ(weights(in("two/checkpoint.safetensors")), expected);
  EXPECT_EQ(weights(in("again/checkpoint.safetensors")), expected);
}

TEST_F(Command, ReplayAgreesWithARecordedTraceAndFindsAChangedLine) {
  ASSERT_EQ(
      thimble(std::string(kSmall) + "--microbatch 12 --steps 2 --trace " + in("trace.csv") + " --out " + in("run"))
          .code,
      0);
  EXPECT_EQ(thimble("replay " + in("run/plan.json") + " " + in("trace.csv")).code, 0);
  std::string trace = read(in("trace.csv"));
  const std::size_t third = trace.find('\n', trace.find('\n', trace.find('\n') + 1) + 1);
  trace.insert(third, "0");
  std::ofstream(in("other.csv")) << trace;
  const Result result = thimble("replay " + in("run/plan.json") + " " + in("other.csv"));
  EXPECT_EQ(result.code, 3);
  EXPECT_NE(result.output.find("line 3"), std::string::npos) << result.output;
}

TEST_F(Command, ADamagedPlanIsRefused) {
  ASSERT_EQ(thimble("plan wrn-10-1 --batch 8 -o " + in("plan.json")).code, 0);
  std::string plan = read(in("plan.json"));
  std::ofstream(in("cut.json")) << plan.substr(0, plan.size() / 2);
  EXPECT_EQ(thimble("replay " + in("cut.json")).code, 1);
  const std::string key = "\"version\":5";
  plan.replace(plan.find(key), key.size(), "\"version\":3");
  std::ofstream(in("version.json")) << plan;
  const Result result = thimble("replay " + in("version.json"), true);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.output.find("version"), std::string::npos);
}

TEST_F(Command, ViewDrawsThePeak) {
  ASSERT_EQ(thimble("plan wrn-10-1 --batch 8 -o " + in("plan.json")).code, 0);
  const Result result = thimble("view " + in("plan.json"));
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.output.find("<- peak"), std::string::npos);
  EXPECT_EQ(result.output.find("!|"), std::string::npos);
}

TEST_F(Command, PlaceFitsOrSaysNo) {
  std::ofstream(in("p.csv")) << "id,lower,upper,size\na,0,2,4\nb,1,3,4\nc,2,4,4\n";
  EXPECT_EQ(thimble("place " + in("p.csv") + " --capacity 8 -o " + in("s.csv")).code, 0);
  EXPECT_NE(read(in("s.csv")).find("offset"), std::string::npos);
  EXPECT_EQ(thimble("place " + in("p.csv") + " --capacity 7").code, 3);
}

TEST_F(Command, EvalReadsWhatTrainWrote) {
  ASSERT_EQ(thimble(std::string(kSmall) + "--steps 3 --out " + in("run")).code, 0);
  const Result result = thimble("eval " + in("run/plan.json") + " " + in("run/checkpoint.safetensors") + " --json");
  ASSERT_EQ(result.code, 0);
  EXPECT_EQ(Json::parse(result.output).at("test_accuracy"), last_line(in("run/metrics.jsonl")).at("test_accuracy"));
}

TEST_F(Command, SlowLearnsRealPictures) {
  const char* shared = std::getenv("THIMBLE_SHARED");
  const fs::path data =
      (shared != nullptr ? fs::path(shared) : fs::path(THIMBLE_SOURCE_DIR) / ".." / "shared") / "data/cifar10/small";
  if (!fs::exists(data)) {
    if (std::getenv("THIMBLE_REQUIRE_SHARED") != nullptr) FAIL() << data << " is missing";
    GTEST_SKIP() << data << " is missing";
  }
  ASSERT_EQ(thimble("train wrn-10-1 --batch 50 --lr 0.1 --schedule cosine --epochs 12 --seed 1 --data " +
                    data.string() + " --out " + in("run"))
                .code,
            0);
  const double accuracy = last_line(in("run/metrics.jsonl")).at("test_accuracy");
  std::printf("wrn-10-1 on 2,000 real pictures, 12 epochs: test accuracy %.3f (chance 0.1)\n", accuracy);
  EXPECT_GT(accuracy, 0.30);
}

}  // namespace
}  // namespace thimble
