// Where a training step's time goes: milliseconds, GFLOP/s and GB/s by op kind, against a roofline of this device.
//   step_time [DEPTH WIDTH BATCH THREADS STEPS FUSE]    (default 28 2 100 2 6 auto; the first step is not counted)
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <string>

#include "thimble/ops.h"
#include "thimble/runtime.h"
#include "thimble/trainer.h"
#include "thimble/training_plan.h"

namespace {

using namespace thimble;
using Clock = std::chrono::steady_clock;

struct Total {
  double milliseconds = 0, flops = 0, bytes = 0;
  std::int64_t calls = 0;
};

void run(const TrainingChoices& choices, int steps) {
  OpRegistry registry;
  register_ops(registry);
  const DataSets data = load_data("synthetic");
  TrainingChoices sized = choices;
  sized.train_samples = data.train.size();
  sized.test_samples = data.test.size();
  HostMemory memory;
  Runtime runtime(make_plan(request_training(sized, registry), registry), registry, memory);
  Trainer trainer(runtime, data.train, data.test, {.steps = steps});
  trainer.initialize();
  trainer.step();

  // An event precedes its kernel: the time up to the next one belongs to it.
  const Program& program = runtime.plan().program(kTrainProgram);
  std::map<std::string, Total> totals;
  Total* current = nullptr;
  Clock::time_point since;
  const auto close = [&] {
    if (current != nullptr)
      current->milliseconds += std::chrono::duration<double, std::milli>(Clock::now() - since).count();
    current = nullptr;
  };
  runtime.set_event_listener([&](const RuntimeEvent& event) {
    if (event.kind != RuntimeEvent::Kind::step) return;
    close();
    const OpId op = program.schedule.steps[static_cast<std::size_t>(index(event.step))].op;
    const OpShape shape = shape_of(program.graph, op, event.samples.size(), runtime.plan().device);
    const OpCost cost = registry.cost(program.graph.ops[op].kind, shape);
    current = &totals[program.graph.ops[op].kind];
    current->flops += cost.flops;
    current->bytes += cost.bytes;
    ++current->calls;
    since = Clock::now();
  });
  const auto start = Clock::now();
  for (int i = 1; i < steps; ++i) {
    trainer.step();
    close();
  }
  const double whole = std::chrono::duration<double, std::milli>(Clock::now() - start).count() / (steps - 1);

  std::printf("%-28s %6s %9s %6s %9s %8s\n", "kind", "calls", "ms/step", "%", "GFLOP/s", "GB/s");
  double sum = 0;
  for (const auto& [kind, total] : totals) {
    const double ms = total.milliseconds / (steps - 1);
    sum += ms;
    std::printf("%-28s %6lld %9.2f %6.1f %9.1f %8.1f\n", kind.c_str(),
                static_cast<long long>(total.calls / (steps - 1)), ms, 100 * ms / whole,
                total.flops / total.milliseconds / 1e6, total.bytes / total.milliseconds / 1e6);
  }
  std::printf("%-28s %6s %9.2f %6.1f\n", "outside kernels", "", whole - sum, 100 * (whole - sum) / whole);
  const double samples = static_cast<double>(runtime.plan().batch);
  std::printf("one step %.1f ms, %.1f images/s\n", whole, 1000 * samples / whole);
}

}  // namespace

int main(int argc, char** argv) {
  const auto number = [&](int i, int value) { return argc > i ? std::atoi(argv[i]) : value; };
  TrainingChoices choices;
  choices.model.depth = number(1, 28);
  choices.model.width = number(2, 2);
  choices.batch = number(3, 100);
  choices.device.threads = number(4, 2);
  const std::string fuse = argc > 6 ? argv[6] : "auto";
  choices.model.fuse = fuse != "off";
  choices.fuse_convolutions = fuse == "conv";
  try {
    run(choices, number(5, 6));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
