// Translation models from the command line: planned, written and replayed; what is for another kind of model is
// refused.
#include <algorithm>

#include "run_command.h"

namespace thimble {
namespace {

using TranslationCommand = Command;

TEST_F(TranslationCommand, PlansAllBucketsInOneArenaAndReplaysThem) {
  const Result result = thimble("plan dynamicconv-iwslt --max-tokens 352 --chunk 176 --json -o " + in("plan.json"));
  ASSERT_EQ(result.code, 0) << result.output;
  const Json report = Json::parse(result.output);
  EXPECT_EQ(report.at("bytes_by_role").at("weights"), 4 * 38'685'184);
  std::int64_t most = 0;
  for (const Json& program : report.at("programs"))
    most = std::max(most, program.at("planned_bytes").get<std::int64_t>());
  EXPECT_EQ(report.at("arena_bytes"), most);
  EXPECT_EQ(report.at("programs").size(), 25U);  // 12 buckets trained and evaluated, and saving
  EXPECT_EQ(report.at("microbatches").size(), 2U);
  EXPECT_EQ(thimble("replay " + in("plan.json")).code, 0);
  EXPECT_EQ(thimble("train " + in("plan.json") + " --data synthetic --steps 1 --out " + in("run")).code, 2);
}

TEST_F(TranslationCommand, RefusesWhatIsForAnotherKindOfModel) {
  for (const char* arguments : {"plan dynamicconv-iwslt --batch 5", "plan lightconv-iwslt --norm group",
                                "plan dynamicconv-iwslt --optimizer momentum", "plan wrn-28-2 --chunk 5",
                                "plan wrn-28-2 --optimizer adam", "plan dynamicconv-iwslt --chunk 4001",
                                "plan dynamicconv-iwslt --chunk x", "plan dynamicconv-iwslt --max-tokens 100",
                                "plan dynamicconv-small", "plan wrn-28-2 --channels 64", "train dynamicconv-iwslt --data synthetic --steps 1"}) {
    const Result result = thimble(arguments, true);
    EXPECT_EQ(result.code, 2) << arguments << ": " << result.output;
  }
}

}  // namespace
}  // namespace thimble
