// Measured times at the command line: measured once, kept beside the plan, read again.
#include "run_command.h"

namespace thimble {
namespace {

constexpr const char* kModel = "wrn --depth 10 --width 1 --batch 16 --threads 2 --budget 5MB ";

TEST_F(Command, CalibratesOnceAndPlansTheSameFromTheFile) {
  ASSERT_EQ(thimble("plan " + std::string(kModel) + "--calibrate -o " + in("plan.json")).code, 0);
  ASSERT_TRUE(fs::exists(in("plan.calibration.json")));
  const std::string table = read(in("plan.calibration.json"));
  const Result again = thimble("plan " + std::string(kModel) + "--json --calibration " + in("plan.calibration.json") +
                               " -o " + in("b.json"));
  ASSERT_EQ(again.code, 0);
  EXPECT_EQ(read(in("plan.json")), read(in("b.json")));
  EXPECT_EQ(read(in("plan.calibration.json")), table);
  EXPECT_FALSE(fs::exists(in("b.calibration.json")));
  const Json plan = Json::parse(read(in("plan.json")));
  EXPECT_EQ(plan.at("calibration").get<std::string>().size(), 32U);
  EXPECT_EQ(Json::parse(again.output).at("calibration"), plan.at("calibration"));
  EXPECT_EQ(thimble("replay " + in("plan.json")).code, 0);
}

// Ops on sentences look at the lengths: with none to be found they would do nothing, or refuse.
TEST_F(Command, TextIsCalibratedToo) {
  const std::string model = "plan dynamicconv --channels 32 --hidden 64 --heads 2 --max-tokens 200 --longest 40 ";
  ASSERT_EQ(thimble(model + "--calibrate -o " + in("plan.json")).code, 0);
  const std::string table = read(in("plan.calibration.json"));
  for (const char* kind :
       {"\"attention_backward\"", "\"dynamic_conv\"", "\"embedding_backward\"", "\"vocabulary_loss\""})
    EXPECT_NE(table.find(kind), std::string::npos) << kind;
  EXPECT_EQ(thimble(model + "--calibration " + in("plan.calibration.json")).code, 0);
}

TEST_F(Command, WithoutATableThePlanSaysSo) {
  ASSERT_EQ(thimble("plan " + std::string(kModel) + "-o " + in("plan.json")).code, 0);
  EXPECT_TRUE(Json::parse(read(in("plan.json"))).at("calibration").is_null());
}

TEST_F(Command, RefusesATableOfAnotherPlaceOrOfNone) {
  const std::string model = "plan wrn-10-1 --batch 16 --threads ";
  ASSERT_EQ(thimble(model + "2 --calibrate --calibration " + in("table.json")).code, 0);
  EXPECT_EQ(thimble(model + "2 --calibration " + in("table.json")).code, 0);
  const Result other = thimble(model + "1 --calibration " + in("table.json"), true);
  EXPECT_EQ(other.code, 1);
  EXPECT_NE(other.output.find("threads: was measured with '2', here it is '1'"), std::string::npos) << other.output;
  EXPECT_EQ(thimble(model + "2 --calibration " + in("nowhere.json")).code, 1);
  EXPECT_EQ(thimble("frontier wrn-10-1 --batch 16 --threads 1 --calibration " + in("table.json")).code, 1);
  // Of a larger batch it knows nothing: said, and priced by the roofline.
  const Result larger = thimble("plan wrn-10-1 --batch 24 --threads 2 --calibration " + in("table.json"), true);
  EXPECT_EQ(larger.code, 0);
  EXPECT_NE(larger.output.find("priced by the roofline"), std::string::npos) << larger.output;
}

TEST_F(Command, ARunKeepsTheTableOfItsPlan) {
  const std::string run =
      "train wrn-10-1 --batch 16 --budget 5MB --data synthetic --calibrate --out " + in("run") + " ";
  ASSERT_EQ(thimble(run + "--steps 2").code, 0);
  const std::string table = read(in("run/plan.calibration.json")), plan = read(in("run/plan.json"));
  ASSERT_FALSE(table.empty());
  ASSERT_EQ(thimble(run + "--steps 2 --resume").code, 0);
  EXPECT_EQ(read(in("run/plan.calibration.json")), table) << "what is gone on with is not measured again";
  EXPECT_EQ(read(in("run/plan.json")), plan);
  EXPECT_EQ(thimble("train " + in("run/plan.json") + " --calibrate --data synthetic --steps 1").code, 2);
}

TEST_F(Command, AFrontierIsDrawnFromATable) {
  const std::string model = "frontier wrn-10-1 --batch 16 --threads 2 --points 4 --json ";
  const Result measured = thimble(model + "--calibrate --calibration " + in("table.json"));
  ASSERT_EQ(measured.code, 0);
  const Result read_again = thimble(model + "--calibration " + in("table.json"));
  EXPECT_EQ(read_again.output, measured.output);
  EXPECT_TRUE(Json::parse(measured.output).at("calibration").is_string());
}

}  // namespace
}  // namespace thimble
