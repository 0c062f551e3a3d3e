// Each barrier of each kernel is left out once, and somebody has to notice: ThreadSanitizer, a row of the op table
// whose result is wrong, or the shim. Which rows pass it stands in what cuda_table_tsan has written
// (record_places.cpp).
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;

// Lines of a source that have a barrier. What stands between `#if SIMT_GPU` and its end is not compiled here.
struct BarrierLines {
  std::vector<int> here, on_gpu_only;
};

BarrierLines barrier_lines(std::istream& source) {
  static const std::regex barrier(R"(\b__sync(threads(_\w+)?|warp)\s*\()");
  static const std::regex begins_gpu(R"(\s*#\s*if\s+SIMT_GPU\s*)"), begins_cpu(R"(\s*#\s*if\s+!\s*SIMT_GPU\s*)");
  static const std::regex begins(R"(\s*#\s*if.*)"), turns(R"(\s*#\s*el.*)"), ends(R"(\s*#\s*endif.*)");
  enum class Branch { gpu, cpu, both };
  std::vector<Branch> open;
  BarrierLines lines;
  std::string text;
  for (int line = 1; std::getline(source, text); ++line) {
    text = text.substr(0, text.find("//"));
    if (std::regex_match(text, begins_gpu)) {
      open.push_back(Branch::gpu);
    } else if (std::regex_match(text, begins_cpu)) {
      open.push_back(Branch::cpu);
    } else if (std::regex_match(text, begins)) {
      open.push_back(Branch::both);
    } else if (std::regex_match(text, turns) && !open.empty()) {
      open.back() = open.back() == Branch::gpu ? Branch::cpu : open.back() == Branch::cpu ? Branch::gpu : Branch::both;
    } else if (std::regex_match(text, ends) && !open.empty()) {
      open.pop_back();
    } else if (std::regex_search(text, barrier)) {
      const bool is_gpu = std::find(open.begin(), open.end(), Branch::gpu) != open.end();
      (is_gpu ? lines.on_gpu_only : lines.here).push_back(line);
    }
  }
  return lines;
}

// "embedding.cu:199" and so on, of all sources of kernels. The shim's own headers define what others call.
std::vector<std::string> barriers_of_kernels() {
  std::vector<std::string> places;
  for (const auto& entry : fs::directory_iterator(THIMBLE_SOURCE_DIR "/ops")) {
    const std::string file = entry.path().filename().string();
    if ((!file.ends_with(".cu") && !file.ends_with(".h")) || file.starts_with("simt")) continue;
    std::ifstream source(entry.path());
    for (const int line : barrier_lines(source).here) places.push_back(file + ":" + std::to_string(line));
  }
  std::sort(places.begin(), places.end());
  return places;
}

struct PassingTest {
  int milliseconds;
  std::string name;
};
// By place, the cheapest first.
using PassingTests = std::map<std::string, std::vector<PassingTest>>;

// What cuda_table_tsan has written.
PassingTests read_passing_tests() {
  PassingTests of_barriers;
  for (const auto& entry : fs::directory_iterator(THIMBLE_PASSED_PLACES_DIR)) {
    std::ifstream in(entry.path());
    PassingTest test;
    for (std::string text; std::getline(in, text);) {
      std::istringstream line(text);
      std::string what, name;
      line >> what >> name;
      if (what == "test") {
        test.name = name;
        line >> test.milliseconds;
      } else if (what == "barrier") {
        of_barriers[fs::path(name).filename().string()].push_back(test);
      }
    }
  }
  for (auto& [place, tests] : of_barriers)
    std::sort(tests.begin(), tests.end(), [](const PassingTest& a, const PassingTest& b) {
      return std::tie(a.milliseconds, a.name) < std::tie(b.milliseconds, b.name);
    });
  return of_barriers;
}

const PassingTests& passing_tests() {
  static const PassingTests all = read_passing_tests();
  return all;
}

struct Ended {
  int status;
  std::string output;
};

Ended run(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {-1, "cannot run " + command};
  std::string output;
  std::array<char, 4096> part{};
  for (std::size_t read = 0; (read = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    output.append(part.data(), read);
  const int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, std::move(output)};
}

// What shows that the barrier is missing; "nothing" if the tests pass all the same.
std::string outcome(const std::string& place, const std::vector<PassingTest>& tests, std::size_t begin,
                    std::size_t end) {
  std::string filter;
  for (std::size_t i = begin; i < end; ++i) filter += (i == begin ? "" : ":") + tests[i].name;
  // The first report ends the program, with addresses only: looking lines up would take most of the time.
  const Ended ended = run("env -u GTEST_TOTAL_SHARDS -u GTEST_SHARD_INDEX -u THIMBLE_PASSED_PLACES SIMT_ORDER=forward" +
                          std::string(" TSAN_OPTIONS=halt_on_error=1:exitcode=66:symbolize=0 SIMT_WITHOUT=") + place +
                          " timeout 120 " THIMBLE_CUDA_TABLE_TSAN " --gtest_fail_fast --gtest_filter='" + filter + "'");
  const auto says = [&](const std::string& text) { return ended.output.find(text) != std::string::npos; };
  if (ended.status == 66 && says("WARNING: ThreadSanitizer: data race")) return "race";
  if (ended.status == 124) return "hangs";
  if (ended.status == 1 && says("[  FAILED  ]")) return says("simt: launch at") ? "caught" : "wrong";
  if (ended.status == 0 && says("[  PASSED  ] " + std::to_string(end - begin) + " test")) return "nothing";
  ADD_FAILURE() << "status " << ended.status << ": " << ended.output;
  return "error";
}

TEST(BarrierLines, AreThoseThatAreCompiledHere) {
  std::istringstream source(
      "  __syncthreads();\n"
      "  // __syncthreads();\n"
      "#if SIMT_GPU\n"
      "  __syncwarp();\n"
      "#if defined(OTHER)\n"
      "  __syncthreads();\n"
      "#endif\n"
      "#else\n"
      "  if (__syncthreads_and (done)) __syncwarp(mask);\n"
      "#endif\n"
      "#if !SIMT_GPU\n"
      "  __syncwarp();\n"
      "#endif\n"
      "  __shfl_sync(mask, x, 0); /* nor */ call__syncthreads();\n");
  const BarrierLines lines = barrier_lines(source);
  EXPECT_EQ(lines.here, (std::vector<int>{1, 9, 12}));
  EXPECT_EQ(lines.on_gpu_only, (std::vector<int>{4, 6}));
}

class Barriers : public testing::TestWithParam<std::string> {};

TEST_P(Barriers, AreMissed) {
  const std::string& place = GetParam();
  const auto found = passing_tests().find(place);
  ASSERT_NE(found, passing_tests().end()) << place << ": no row passes this barrier";
  const std::vector<PassingTest>& tests = found->second;
  // The cheapest alone, and where that is not enough the next ones together.
  std::string seen = "nothing";
  std::size_t begin = 0;
  for (std::size_t count = 1; begin < tests.size() && seen == "nothing"; count *= 4) {
    const std::size_t end = std::min(tests.size(), begin + count);
    seen = outcome(place, tests, begin, end);
    begin = end;
  }
  EXPECT_NE(seen, "nothing") << place << ": nobody notices in " << tests.size()
                             << " tests if this barrier is left out; it is redundant, or a row is missing";
  std::printf("%s: %s, after %zu of %zu tests\n", place.c_str(), seen.c_str(), begin, tests.size());
}

INSTANTIATE_TEST_SUITE_P(All, Barriers, testing::ValuesIn(barriers_of_kernels()), [](const auto& place) {
  std::string name = place.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '.' || c == ':'; }, '_');
  return name;
});

}  // namespace
