// The same plans in the same minutes: trains each of some plans of a WideResNet a step in turn, so that a machine that
// gets slower gets slower for all.
//   alternate_steps ROUNDS PLAN...    (plans for --data synthetic; one round before is not counted)
// A line of JSON for each plan: {"milliseconds": [one for each round], "high_water_bytes": N, "arena_bytes": N}.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "plan_file.h"
#include "thimble/ops.h"
#include "thimble/runtime.h"
#include "thimble/trainer.h"

namespace {

using namespace thimble;

struct Run {
  Run(const std::string& path, const OpRegistry& registry, const DataSets& data, int steps)
      : runtime(read_plan_file(path), registry, memory), trainer(runtime, data.train, data.test, {.steps = steps}) {
    trainer.initialize();
  }

  double step() {
    const auto start = std::chrono::steady_clock::now();
    trainer.step();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  }

  void print() const {
    std::printf("{\"milliseconds\": [");
    for (std::size_t i = 0; i < milliseconds.size(); ++i) std::printf("%s%.3f", i > 0 ? ", " : "", milliseconds[i]);
    std::printf("], \"high_water_bytes\": %lld, \"arena_bytes\": %lld}\n",
                static_cast<long long>(runtime.last_high_water().value),
                static_cast<long long>(runtime.plan().arena.value));
  }

  HostMemory memory;
  Runtime runtime;
  Trainer trainer;
  std::vector<double> milliseconds;
};

void alternate(int rounds, const std::vector<std::string>& paths) {
  OpRegistry registry;
  register_ops(registry);
  const DataSets data = load_data("synthetic");
  std::vector<std::unique_ptr<Run>> runs;
  runs.reserve(paths.size());
  for (const std::string& path : paths) runs.push_back(std::make_unique<Run>(path, registry, data, rounds + 1));
  for (auto& run : runs) run->step();
  for (int round = 0; round < rounds; ++round)
    for (auto& run : runs) run->milliseconds.push_back(run->step());
  for (const auto& run : runs) run->print();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: alternate_steps ROUNDS PLAN...\n");
    return 2;
  }
  try {
    alternate(std::atoi(argv[1]), {argv + 2, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
