// Placement on lifetimes of real training steps (the folder `shared`, which is not part of a release).
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "thimble/exact_placement.h"
#include "thimble/problem_csv.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

fs::path shared_folder() {
  if (const char* folder = std::getenv("THIMBLE_SHARED")) return folder;
  return fs::path(THIMBLE_SOURCE_DIR) / ".." / "shared";
}

bool is_required() {
  const char* value = std::getenv("THIMBLE_REQUIRE_SHARED");
  return value && std::string(value) == "1";
}

std::vector<fs::path> instances(std::initializer_list<const char*> kinds) {
  std::vector<fs::path> files;
  for (const char* kind : kinds) {
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(shared_folder() / "instances" / kind, missing))
      if (entry.path().extension() == ".csv") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

PlacementProblem read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return read_problem_csv(text.str(), path.filename().string()).problem;
}

TEST(Instances, TrainingTracesArePlacedWithin08PercentOfMaxLive) {
  const std::vector<fs::path> files = instances({"somas", "dtr", "torch", "iopddl"});
  if (files.empty()) {
    const std::string why = "no trace under " + shared_folder().string() + "/instances; set THIMBLE_SHARED";
    if (is_required()) FAIL() << why;
    GTEST_SKIP() << "all traces skipped: " << why;
  }
  std::printf("%-28s %8s %9s %8s\n", "trace", "buffers", "gap %", "ms");
  for (const fs::path& path : files) {
    const PlacementProblem problem = read(path);
    const auto start = std::chrono::steady_clock::now();
    const Placement p = place_buffers(problem);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    const double gap = 100.0 * (static_cast<double>(p.peak.value) / static_cast<double>(p.lower_bound.value) - 1.0);
    std::printf("%-28s %8zu %9.4f %8.0f\n", path.filename().c_str(), problem.buffers.size(), gap, time.count());
    EXPECT_TRUE(check_placement(problem, p.offsets, p.peak).empty()) << path;
    EXPECT_GE(p.peak, p.lower_bound) << path;
    EXPECT_LE(gap, 0.8) << path;
  }
}

TEST(Instances, HardOnesArePackedIntoTheirCapacity) {
  const std::vector<fs::path> files = instances({"minimalloc"});
  if (files.empty()) {
    const std::string why = "no problem under " + shared_folder().string() + "/instances; set THIMBLE_SHARED";
    if (is_required()) FAIL() << why;
    GTEST_SKIP() << "all hard problems skipped: " << why;
  }
  constexpr Bytes kCapacity{1'048'576};
  for (const fs::path& path : files) {
    const PlacementProblem problem = read(path);
    const CapacityAnswer answer = place_into(problem, kCapacity, 200'000);
    std::printf("%-28s %8zu buffers %8lld nodes\n", path.filename().c_str(), problem.buffers.size(),
                static_cast<long long>(answer.nodes));
    ASSERT_EQ(answer.verdict, CapacityAnswer::Verdict::kPlaced) << path;
    EXPECT_TRUE(check_placement(problem, answer.placement.offsets, kCapacity).empty()) << path;
    EXPECT_EQ(place_into(problem, max_live(problem) - Bytes{1}, 200'000).verdict, CapacityAnswer::Verdict::kInfeasible);
  }
}

}  // namespace
}  // namespace thimble
