// Where the time of a plan's training step goes, by op kind: measured, and as the planner predicts it.
//   thimble plan wrn-28-2 --batch 100 --budget 70MB --calibrate --calibration TABLE -o PLAN
//   step_time PLAN [TABLE [STEPS]]    (6 steps, of which the first is not counted)
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>

#include "kind_timer.h"
#include "plan_file.h"
#include "thimble/ops.h"
#include "thimble/runtime.h"
#include "thimble/trainer.h"
#include "thimble/training_plan.h"

namespace {

using namespace thimble;

void run(const std::string& plan_path, const std::string& table_path, int steps) {
  OpRegistry registry;
  register_ops(registry);
  HostMemory memory;
  Runtime runtime(read_plan_file(plan_path), registry, memory);
  std::optional<CalibrationTable> table;
  if (!table_path.empty())
    table = read_calibration(read_file(table_path), table_path, this_place(runtime.plan().device, registry));
  const DataSets data = load_data("synthetic");
  Trainer trainer(runtime, data.train, data.test, {.steps = steps});
  trainer.initialize();
  trainer.step();

  KindTimer timer(runtime, registry, runtime.plan().program(kTrainProgram), table ? &*table : nullptr);
  timer.measure(steps - 1, [&] { trainer.step(); });
  timer.print();
  std::printf("%.1f images/s\n", 1000 * static_cast<double>(runtime.plan().batch) / timer.milliseconds());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: step_time PLAN [TABLE [STEPS]]\n");
    return 2;
  }
  try {
    run(argv[1], argc > 2 ? argv[2] : "", argc > 3 ? std::atoi(argv[3]) : 6);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
