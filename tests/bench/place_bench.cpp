// Prints, for each problem file named, how far placement stays above max live and how long it takes.
//   place_bench instances/somas/*.csv
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>

#include "thimble/error.h"
#include "thimble/placement.h"
#include "thimble/problem_csv.h"

namespace {

void run(const char* path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw thimble::EnvironmentError(std::string(path) + ": cannot be opened");
  std::ostringstream text;
  text << in.rdbuf();
  const thimble::PlacementProblem problem = thimble::read_problem_csv(text.str(), path).problem;
  const auto start = std::chrono::steady_clock::now();
  const thimble::Placement placement = thimble::place_buffers(problem);
  const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
  const auto errors = thimble::check_placement(problem, placement.offsets);
  if (!errors.empty()) throw thimble::Error(std::string(path) + ": " + errors.front());
  const auto bound = static_cast<double>(placement.lower_bound.value);
  const double gap = bound > 0 ? 100.0 * (static_cast<double>(placement.peak.value) / bound - 1.0) : 0.0;
  std::printf("%8zu %14lld %14lld %8.4f %9.1f  %s (%s)\n", problem.buffers.size(),
              static_cast<long long>(placement.lower_bound.value), static_cast<long long>(placement.peak.value), gap,
              time.count(), path, placement.made_by.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  std::printf("%8s %14s %14s %8s %9s  %s\n", "buffers", "max live", "peak", "gap %", "ms", "file (made by)");
  try {
    for (int i = 1; i < argc; ++i) run(argv[i]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
