// `thimble place` as its users run it.
#include "../allocator/problems.h"
#include "run_command.h"
#include "thimble/problem_csv.h"

namespace thimble {
namespace {

// Max live is 8.
constexpr const char* kProblem = "id,lower,upper,size\na,0,2,4\nb,1,3,4\nc,2,4,4\n";

class PlaceCommand : public Command {
 protected:
  void SetUp() override { std::ofstream(in("p.csv")) << kProblem; }
};

TEST_F(PlaceCommand, WritesTheProblemWithOffsets) {
  const Result result = thimble("place " + in("p.csv") + " --capacity 8B -o " + in("s.csv") + " --json");
  ASSERT_EQ(result.code, 0);
  const Json report = Json::parse(result.output);
  EXPECT_EQ(report.at("buffers"), 3);
  EXPECT_EQ(report.at("peak_bytes"), 8);
  EXPECT_EQ(report.at("lower_bound_bytes"), 8);
  EXPECT_EQ(report.at("capacity_bytes"), 8);
  EXPECT_EQ(report.at("gap_percent"), 0.0);
  EXPECT_TRUE(report.at("proven_optimal"));
  EXPECT_TRUE(report.at("fits"));
  EXPECT_GE(report.at("nodes"), 0);
  EXPECT_GE(report.at("seconds"), 0.0);
  EXPECT_TRUE(report.contains("made_by"));
  const std::string csv = read(in("s.csv"));
  EXPECT_EQ(csv.rfind("id,lower,upper,size,offset\na,0,2,4,", 0), 0U) << csv;
}

TEST_F(PlaceCommand, ProvenInfeasibleIsAnHonestNo) {
  const Result result = thimble("place " + in("p.csv") + " --capacity 7 -o " + in("s.csv"), true);
  EXPECT_EQ(result.code, 3);
  EXPECT_NE(result.output.find("proven infeasible"), std::string::npos) << result.output;
  EXPECT_FALSE(fs::exists(in("s.csv")));
  const Json report = Json::parse(thimble("place " + in("p.csv") + " --capacity 7 --json").output);
  EXPECT_FALSE(report.at("fits"));
  EXPECT_TRUE(report.at("proven_infeasible"));
  EXPECT_FALSE(report.at("proven_optimal"));
  EXPECT_TRUE(report.at("peak_bytes").is_null());
}

TEST_F(PlaceCommand, NotFoundWithinTheNodesIsOneAndSaysHowToSearchLonger) {
  std::ofstream out(in("hard.csv"));
  write_problem_csv(out, testing::cut_rectangle(3, 200));  // no greedy order reaches its 1000 bytes
  out.close();
  const Result found = thimble("place " + in("hard.csv") + " --capacity 1kB --json");
  EXPECT_EQ(found.code, 0);
  EXPECT_GT(Json::parse(found.output).at("nodes"), 0);
  const Result result = thimble("place " + in("hard.csv") + " --capacity 1kB --nodes 0 -o " + in("s.csv"), true);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.output.find("--nodes"), std::string::npos) << result.output;
  EXPECT_FALSE(fs::exists(in("s.csv")));
}

TEST_F(PlaceCommand, MinimizeIsTheDefault) {
  const Result plain = thimble("place " + in("p.csv") + " -o " + in("a.csv"));
  const Result minimized = thimble("place " + in("p.csv") + " --minimize -o " + in("b.csv"));
  EXPECT_EQ(plain.code, 0);
  EXPECT_EQ(plain.output, minimized.output);
  EXPECT_NE(plain.output.find("proven optimal"), std::string::npos) << plain.output;
  EXPECT_EQ(read(in("a.csv")), read(in("b.csv")));
}

TEST_F(PlaceCommand, WrongUsageIsTwo) {
  EXPECT_EQ(thimble("place " + in("p.csv") + " --nodes -1").code, 2);
  EXPECT_EQ(thimble("place " + in("p.csv") + " --capacity 8XB").code, 2);
  EXPECT_EQ(thimble("place").code, 2);
}

}  // namespace
}  // namespace thimble
