// The judge of schedules, by hand-made schedules that break one rule each; the reader, by files that break one each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "remat_cases.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using namespace literals;

using ::testing::HasSubstr;
using Kind = RematStep::Kind;

RematStep c(std::int32_t op) { return {Kind::compute, op}; }
RematStep e(std::int32_t tensor) { return {Kind::free, tensor}; }

// op 0 makes tensors 0 and 1; op 1 reads both and makes 2, which is kept.
RematProblem pair() {
  return {{{Bytes{3}}, {Bytes{4}}, {Bytes{5}, true}}, {{7, Bytes{1}, {}, {0, 1}}, {2, Bytes{2}, {0, 1}, {2}}}};
}

TEST(RematReplay, AddsUpCostAndPeak) {
  const RematReplay replay = replay_remat(pair(), 14_B, {c(0), c(1), e(0), e(1)});
  EXPECT_TRUE(replay.findings.empty());
  EXPECT_EQ(replay.cost, 9);
  EXPECT_EQ(replay.peak, 14_B);
}

TEST(RematReplay, AnOpMakesAllItsOutputsResidentAgain) {
  const RematReplay replay = replay_remat(pair(), 14_B, {c(0), e(1), c(0), c(1)});
  EXPECT_TRUE(replay.findings.empty());
  EXPECT_EQ(replay.cost, 16);
}

TEST(RematReplay, FindsEachBrokenRule) {
  const auto first = [](const std::vector<RematStep>& steps, Bytes budget = 14_B) {
    const auto findings = replay_remat(pair(), budget, steps).findings;
    return findings.empty() ? std::string() : findings.front();
  };
  EXPECT_THAT(first({c(1)}), HasSubstr("reads tensor 0"));
  EXPECT_THAT(first({c(0), e(0), c(1)}), HasSubstr("reads tensor 0"));
  EXPECT_THAT(first({c(0), c(0), c(1)}), HasSubstr("all its outputs are resident"));
  EXPECT_THAT(first({c(0), c(1)}, 13_B), HasSubstr("needs 14 bytes"));
  EXPECT_THAT(first({c(0), c(1), e(2)}), HasSubstr("tensor 2 is not resident"));
  EXPECT_THAT(first({e(0)}), HasSubstr("not resident"));
  EXPECT_THAT(first({c(7)}), HasSubstr("no such op"));
  EXPECT_THAT(first({c(-1)}), HasSubstr("no such op"));
  EXPECT_THAT(first({e(3)}), HasSubstr("no such tensor"));
}

TEST(RematReplay, ConstantsAreThereAndCountNothing) {
  const RematProblem problem{{{Bytes{100}, false, true}, {Bytes{2}, true}}, {{1, Bytes{0}, {0}, {1}}}};
  EXPECT_EQ(replay_remat(problem, 2_B, {c(0)}).peak, 2_B);
  EXPECT_FALSE(replay_remat(problem, 2_B, {c(0), e(0)}).findings.empty());
}

constexpr const char* kGraph = R"({"format":"remat-graph/1","tensors":[
 {"id":0,"bytes":8,"kind":"const","producer":-1,"keep":false},{"id":1,"bytes":4,"kind":"act","producer":0,"keep":false},
 {"id":2,"bytes":4,"kind":"act","producer":0,"keep":true}],"ops":[
 {"id":0,"name":"f","phase":"fwd","cost":3,"in":[0],"out":[1,2],"inplace_of":[0],"workspace":5}]})";

TEST(RematJson, ReadsGraphs) {
  const RematProblem problem = read_remat_problem(kGraph, "g");
  ASSERT_EQ(problem.tensors.size(), 3U);
  EXPECT_TRUE(problem.tensors[0].constant);
  EXPECT_TRUE(problem.tensors[2].keep);
  EXPECT_EQ(problem.ops[0].outputs, (std::vector<std::int32_t>{1, 2}));
  EXPECT_EQ(problem.ops[0].workspace, 5_B);
}

TEST(RematJson, RefusesWhatBreaksARule) {
  const auto change = [](const std::string& from, const std::string& to) {
    std::string text = kGraph;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"remat-graph/1", "remat-graph/2"},
                                                        {"\"bytes\":4", "\"bytes\":-4"},
                                                        {"\"bytes\":4", "\"bytes\":4.5"},
                                                        {"\"bytes\":4", "\"bytes\":99999999999999999999"},
                                                        {"\"bytes\":4", "\"bytes\":9223372036854775807"},
                                                        {"\"in\":[0]", "\"in\":[3]"},
                                                        {"\"in\":[0]", "\"in\":[-1]"},
                                                        {"\"in\":[0]", "\"in\":[1]"},
                                                        {"\"in\":[0]", "\"in\":0"},
                                                        {"\"out\":[1,2]", "\"out\":[1,1]"},
                                                        {"\"out\":[1,2]", "\"out\":[0]"},
                                                        {"\"keep\":true", "\"keep\":1"},
                                                        {"\"kind\":\"act\"", "\"kind\":\"x\""},
                                                        {"\"cost\":3", "\"cost\":\"3\""},
                                                        {"\"cost\":3,", ""},
                                                        {"\"id\":1", "\"id\":7"},
                                                        {"\"workspace\":5", "\"workspace\":-5"},
                                                        {"\"workspace\":5", "\"workspace\":18446744073709551615"},
                                                        {"}]}", "}]"}})
    EXPECT_THROW(read_remat_problem(change(from, to), "g"), BadInput) << from << " -> " << to;
  for (const std::string& text : {std::string(), std::string("[]"), std::string("{}"), std::string(100'000, '['),
                                  std::string("{\"format\":\"remat-graph/1\",\"tensors\":{},\"ops\":[]}")})
    EXPECT_THROW(read_remat_problem(text, "g"), BadInput) << text.substr(0, 40);
}

TEST(RematJson, EveryPrefixIsRefused) {
  const std::string text = kGraph;
  for (std::size_t i = 0; i < text.size(); ++i) EXPECT_THROW(read_remat_problem(text.substr(0, i), "g"), BadInput) << i;
}

TEST(RematJson, SumsThatOverflowAreRefused) {
  std::string text = R"({"format":"remat-exact/1","tensors":[)";
  for (int i = 0; i < 3; ++i) text += std::string(i ? "," : "") + R"({"bytes":4503599627370496,"keep":false})";
  EXPECT_THROW(read_remat_problem(text + R"(],"ops":[]})", "g"), BadInput);
}

TEST(RematJson, WritesWhatAnybodyCanReplay) {
  const RematProblem problem = remat_cases::chain(4);
  const RematResult result = solve_remat(problem, 100_B);
  const auto json = nlohmann::json::parse(write_remat_result(result, 100_B));
  EXPECT_EQ(json.at("status"), "optimal");
  std::vector<RematStep> steps;
  for (const auto& step : json.at("schedule")) {
    const auto text = step.get<std::string>();
    steps.push_back({text[0] == 'c' ? Kind::compute : Kind::free, std::stoi(text.substr(1))});
  }
  EXPECT_EQ(steps, result.schedule);
  EXPECT_EQ(replay_remat(problem, 100_B, steps).peak.value, json.at("peak_bytes"));
  const auto no = nlohmann::json::parse(write_remat_result(solve_remat(problem, 1_B), 1_B));
  EXPECT_TRUE(no.at("cost").is_null());
  EXPECT_TRUE(no.at("peak_bytes").is_null());
  EXPECT_EQ(no.at("status"), "infeasible");
}

}  // namespace
}  // namespace thimble
