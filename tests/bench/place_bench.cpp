// Prints, for each problem file named, how far placement stays above max live and how long it takes. With a capacity it
// searches for a placement below it and prints the recorded times of the published solver beside ours.
//   place_bench instances/somas/*.csv
//   place_bench --capacity 1048576 [--nodes 2000000] instances/minimalloc/*.csv
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>
#include <string_view>

#include "thimble/error.h"
#include "thimble/exact_placement.h"
#include "thimble/problem_csv.h"

namespace {

using thimble::CapacityAnswer;

/// Seconds of one core, median of three, of MiniMalloc (commit 9f5cf81) at capacity 1,048,576: recorded in
/// shared/instances/minimalloc/README.md and shared/reference/allocators.md.
struct Recorded {
  std::string_view file;
  double seconds;
};
constexpr std::array<Recorded, 11> kMiniMalloc = {{{"A.1048576.csv", 4.45},
                                                   {"B.1048576.csv", 3.35},
                                                   {"C.1048576.csv", 0.58},
                                                   {"D.1048576.csv", 2.35},
                                                   {"E.1048576.csv", 3.26},
                                                   {"F.1048576.csv", 4.52},
                                                   {"G.1048576.csv", 0.96},
                                                   {"H.1048576.csv", 1.55},
                                                   {"I.1048576.csv", 3.37},
                                                   {"J.1048576.csv", 0.79},
                                                   {"K.1048576.csv", 0.51}}};

double user_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec) + 1e-6 * static_cast<double>(usage.ru_utime.tv_usec);
}

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

thimble::PlacementProblem read(const char* path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw thimble::EnvironmentError(std::string(path) + ": cannot be opened");
  std::ostringstream text;
  text << in.rdbuf();
  return thimble::read_problem_csv(text.str(), path).problem;
}

void run(const char* path) {
  const thimble::PlacementProblem problem = read(path);
  const double start = user_seconds();
  const thimble::Placement placement = thimble::place_buffers(problem);
  const double time = user_seconds() - start;
  const auto errors = thimble::check_placement(problem, placement.offsets);
  if (!errors.empty()) throw thimble::Error(std::string(path) + ": " + errors.front());
  const auto bound = static_cast<double>(placement.lower_bound.value);
  const double gap = bound > 0 ? 100.0 * (static_cast<double>(placement.peak.value) / bound - 1.0) : 0.0;
  std::printf("%8zu %14lld %14lld %8.4f %9.1f  %s (%s)\n", problem.buffers.size(),
              static_cast<long long>(placement.lower_bound.value), static_cast<long long>(placement.peak.value), gap,
              1e3 * time, path, placement.made_by.c_str());
}

void run_capacity(const char* path, thimble::Bytes capacity, std::int64_t node_limit) {
  const thimble::PlacementProblem problem = read(path);
  double best = 1e9;
  CapacityAnswer answer;
  for (int i = 0; i < 3; ++i) {  // the machine is shared: the fastest of three
    const double start = user_seconds();
    answer = thimble::place_into(problem, capacity, node_limit);
    best = std::min(best, user_seconds() - start);
  }
  const bool placed = answer.verdict == CapacityAnswer::Verdict::kPlaced;
  if (placed && !thimble::check_placement(problem, answer.placement.offsets, capacity).empty())
    throw thimble::Error(std::string(path) + ": the check refuses the placement");
  const char* verdict = placed                                                   ? "placed"
                        : answer.verdict == CapacityAnswer::Verdict::kInfeasible ? "infeasible"
                                                                                 : "not found";
  std::printf("%8zu %10s %10lld %8.3f ", problem.buffers.size(), verdict, static_cast<long long>(answer.nodes), best);
  const auto recorded = std::find_if(kMiniMalloc.begin(), kMiniMalloc.end(),
                                     [&](const Recorded& r) { return r.file == base_name(path); });
  if (recorded == kMiniMalloc.end() || capacity.value != 1'048'576)
    std::printf("%10s %7s  %s\n", "", "", path);
  else
    std::printf("%10.2f %6.0fx  %s\n", recorded->seconds, recorded->seconds / std::max(best, 1e-3), path);
}

}  // namespace

int main(int argc, char** argv) {
  thimble::Bytes capacity{-1};
  std::int64_t nodes = 2'000'000;
  try {
    int first = 1;
    for (; first + 1 < argc && argv[first][0] == '-'; first += 2) {
      const std::string_view option = argv[first];
      if (option != "--capacity" && option != "--nodes")
        throw thimble::InvalidArgument("unknown option " + std::string(option));
      const thimble::Bytes value = thimble::parse_bytes(argv[first + 1]);
      (option == "--capacity" ? capacity.value : nodes) = value.value;
    }
    if (capacity.value < 0)
      std::printf("%8s %14s %14s %8s %9s  %s\n", "buffers", "max live", "peak", "gap %", "user ms", "file (made by)");
    else
      std::printf("%8s %10s %10s %8s %10s %7s  %s\n", "buffers", "verdict", "nodes", "user s", "MiniMalloc", "faster",
                  "file");
    for (int i = first; i < argc; ++i) capacity.value < 0 ? run(argv[i]) : run_capacity(argv[i], capacity, nodes);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
