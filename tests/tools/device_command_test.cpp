// --device: plans for a GPU that is not there, and clear words where one is needed.
#include <gmock/gmock.h>

#include "run_command.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

TEST_F(Command, PlansForAGpuThatIsNotThere) {
  for (const std::string model : {"wrn-16-1 --batch 20", "wrn-16-1 --batch 20 --fuse conv", "wrn-16-1 --norm group",
                                  "dynamicconv --channels 32 --hidden 64 --heads 2 --max-tokens 200 --longest 40"}) {
    const Result plain = thimble("plan " + model + " --device h200 --json -o " + in("plan.json"), false);
    ASSERT_EQ(plain.code, 0) << model << plain.output;
    const Json plan = Json::parse(read(in("plan.json")));
    EXPECT_EQ(plan.at("device").at("name"), "h200");
    EXPECT_EQ(plan.at("device").at("backend"), "cuda");
    EXPECT_EQ(thimble("replay " + in("plan.json")).code, 0) << model;
    const std::int64_t bytes = Json::parse(plain.output).at("arena_bytes");
    const Result less = thimble("plan " + model + " --device h200 --json --budget " + std::to_string(bytes * 9 / 10));
    EXPECT_EQ(less.code, 0) << model;
    EXPECT_LE(Json::parse(less.output).at("arena_bytes"), bytes * 9 / 10);
  }
}

TEST_F(Command, MathIsPartOfTheArithmetic) {
  const auto hash = [&](const char* math) {
    EXPECT_EQ(
        thimble(std::string("plan wrn-10-1 --batch 8 --device h100 -o ") + in("plan.json") + " --math " + math).code,
        0);
    return Json::parse(read(in("plan.json"))).at("arithmetic_hash").dump();
  };
  EXPECT_NE(hash("fp32"), hash("tf32"));
}

TEST_F(Command, APlanForAGpuDoesNotTrainWithoutOne) {
  if (thimble("plan wrn-10-1 --batch 8 --device cuda").code == 0) GTEST_SKIP() << "there is a GPU";
  const Result found = thimble("train wrn-10-1 --batch 8 --data synthetic --steps 1 --device cuda", true);
  EXPECT_EQ(found.code, 1);
  EXPECT_THAT(found.output, HasSubstr("--device cuda: no CUDA driver"));
  ASSERT_EQ(thimble("plan wrn-10-1 --batch 8 --device h200 -o " + in("plan.json")).code, 0);
  const Result planned = thimble("train " + in("plan.json") + " --data synthetic --steps 1", true);
  EXPECT_EQ(planned.code, 1);
  EXPECT_THAT(planned.output, HasSubstr("device 'h200': "));
}

TEST_F(Command, OpsAreMeasuredOnTheDeviceOfThePlan) {
  const std::string small = "plan wrn-10-1 --batch 2 --device ";
  ASSERT_EQ(thimble(small + "emulated --calibrate -o " + in("plan.json")).code, 0);
  const std::string table = " --calibration " + in("plan.calibration.json");
  EXPECT_EQ(thimble(small + "emulated" + table).code, 0);
  EXPECT_EQ(thimble(small + "h200" + table).code, 1) << "measured elsewhere";
  const Result there = thimble(small + "h200 --calibrate", true);
  if (there.code != 0) {
    EXPECT_EQ(there.code, 1);
    EXPECT_THAT(there.output, HasSubstr("device 'h200': "));
  }
}

TEST_F(Command, OptionsOfOtherDevicesAreRefused) {
  for (const char* arguments : {"plan wrn-10-1 --math tf32", "plan wrn-10-1 --device h200 --threads 3",
                                "plan wrn-10-1 --device abacus", "plan wrn-10-1 --device h200 --math int3"})
    EXPECT_EQ(thimble(arguments).code, 2) << arguments;
}

}  // namespace
}  // namespace thimble
