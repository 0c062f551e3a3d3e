// `thimble remat` as its users run it.
#include <zlib.h>

#include "run_command.h"

namespace thimble {
namespace {

// A chain a-b-c whose end reads a: 8 bytes without recomputation, 6 with, fewer not at all.
constexpr const char* kChain = R"({"format": "remat-exact/1", "tensors": [
  {"id": 0, "bytes": 2, "keep": false}, {"id": 1, "bytes": 3, "keep": false}, {"id": 2, "bytes": 3, "keep": false},
  {"id": 3, "bytes": 1, "keep": true}], "ops": [
  {"id": 0, "cost": 5, "workspace": 0, "in": [], "out": 0}, {"id": 1, "cost": 1, "workspace": 0, "in": [0], "out": 1},
  {"id": 2, "cost": 1, "workspace": 0, "in": [1], "out": 2}, {"id": 3, "cost": 1, "workspace": 0, "in": [0, 2], "out": 3}]})";

class RematCommand : public Command {
 protected:
  RematCommand() { write("chain.json", kChain); }

  Result remat(const std::string& arguments, bool both = false) const { return thimble("remat " + arguments, both); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(in(name), std::ios::binary) << text;
  }
  void write_gzip(const std::string& name, const std::string& text) const {
    gzFile file = gzopen(in(name).c_str(), "wb");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
  }
};

TEST_F(RematCommand, WritesAScheduleThatAnybodyCanReplay) {
  ASSERT_EQ(remat(in("chain.json") + " --budget 8 -o " + in("out.json")).code, 0);
  const Json out = Json::parse(read(in("out.json")));
  EXPECT_EQ(out.at("status"), "optimal");
  EXPECT_EQ(out.at("cost"), 8);
  EXPECT_EQ(out.at("cost_lower_bound"), 8);
  EXPECT_EQ(out.at("peak_bytes"), 8);
  EXPECT_EQ(out.at("schedule").front(), "c0");
}

TEST_F(RematCommand, RecomputesUnderATightBudget) {
  const Result result = remat(in("chain.json") + " --budget 6 --json");
  EXPECT_EQ(result.code, 0);
  const Json out = Json::parse(result.output);
  EXPECT_EQ(out.at("cost"), 13);
  EXPECT_EQ(out.at("status"), "optimal");
  EXPECT_LE(out.at("peak_bytes"), 6);
}

TEST_F(RematCommand, AProvenNoIsThreeAndWritesNothing) {
  const Result result = remat(in("chain.json") + " --budget 5 --json -o " + in("no.json"));
  EXPECT_EQ(result.code, 3);
  const Json out = Json::parse(result.output);
  EXPECT_EQ(out.at("status"), "infeasible");
  EXPECT_TRUE(out.at("cost").is_null());
  EXPECT_TRUE(out.at("schedule").empty());
  EXPECT_FALSE(fs::exists(in("no.json")));
}

TEST_F(RematCommand, NotFoundIsOne) {
  const Result result = remat(in("chain.json") + " --budget 6 --solver order --json");
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(Json::parse(result.output).at("status"), "not_found");
}

TEST_F(RematCommand, ReadsGzip) {
  write_gzip("chain.json.gz", kChain);
  EXPECT_EQ(remat(in("chain.json.gz") + " --budget 6 --json").output,
            remat(in("chain.json") + " --budget 6 --json").output);
}

TEST_F(RematCommand, DamagedFilesAreRefused) {
  write_gzip("whole.gz", kChain);
  const std::string whole = read(in("whole.gz"));
  write("cut.gz", whole.substr(0, whole.size() / 2));
  std::string flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x40);
  write("flipped.gz", flipped);
  write("tail.gz", whole + "x");
  write("cut.json", std::string(kChain).substr(0, 80));
  write("empty.json", "");
  for (const char* name : {"cut.gz", "flipped.gz", "tail.gz", "cut.json", "empty.json", "nowhere.json"}) {
    const Result result = remat(in(name) + " --budget 6", true);
    EXPECT_EQ(result.code, 1) << name;
    EXPECT_NE(result.output.find(name), std::string::npos) << result.output;
  }
}

TEST_F(RematCommand, AGzipBombIsRefused) {
  gzFile file = gzopen(in("bomb.gz").c_str(), "wb9");
  const std::string zeros(1 << 20, ' ');
  for (int i = 0; i < 300; ++i) gzwrite(file, zeros.data(), static_cast<unsigned>(zeros.size()));
  gzclose(file);
  const Result result = remat(in("bomb.gz") + " --budget 6", true);
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.output.find("holds more than"), std::string::npos) << result.output;
}

TEST_F(RematCommand, WrongUsageIsTwo) {
  for (const std::string& arguments : {std::string(), in("chain.json"), in("chain.json") + " --budget 8XB",
                                       in("chain.json") + " --budget 6 --solver magic"})
    EXPECT_EQ(remat(arguments).code, 2) << arguments;
}

TEST_F(RematCommand, PrintsALineForPeople) {
  const Result result = remat(in("chain.json") + " --budget 6");
  EXPECT_NE(result.output.find("cost          13"), std::string::npos) << result.output;
}

}  // namespace
}  // namespace thimble
