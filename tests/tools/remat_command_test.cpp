// `thimble remat` as its users run it.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// A chain a-b-c whose end reads a: 8 bytes without recomputation, 6 with, fewer not at all.
constexpr const char* kChain = R"({"format": "remat-exact/1", "tensors": [
  {"id": 0, "bytes": 2, "keep": false}, {"id": 1, "bytes": 3, "keep": false}, {"id": 2, "bytes": 3, "keep": false},
  {"id": 3, "bytes": 1, "keep": true}], "ops": [
  {"id": 0, "cost": 5, "workspace": 0, "in": [], "out": 0}, {"id": 1, "cost": 1, "workspace": 0, "in": [0], "out": 1},
  {"id": 2, "cost": 1, "workspace": 0, "in": [1], "out": 2}, {"id": 3, "cost": 1, "workspace": 0, "in": [0, 2], "out": 3}]})";

class RematCommand : public ::testing::Test {
 protected:
  RematCommand() : folder_(fs::temp_directory_path() / ("thimble-remat-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
    write("chain.json", kChain);
  }
  ~RematCommand() override { fs::remove_all(folder_); }

  struct Result {
    int code;
    std::string output;
  };
  Result remat(const std::string& arguments, bool errors = false) const {
    const std::string line =
        std::string(THIMBLE_COMMAND) + " remat " + arguments + (errors ? " 2>&1 >/dev/null" : " 2>/dev/null");
    std::FILE* pipe = popen(line.c_str(), "r");
    std::string output;
    std::array<char, 4096> buffer;
    while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), n);
    const int status = pclose(pipe);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, output};
  }
  std::string in(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(in(name), std::ios::binary) << text;
  }
  void write_gzip(const std::string& name, const std::string& text) const {
    gzFile file = gzopen(in(name).c_str(), "wb");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
  }
  static std::string read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }

  fs::path folder_;
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
