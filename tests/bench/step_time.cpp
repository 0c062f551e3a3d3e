// Where a training step's time goes: milliseconds, GFLOP/s and GB/s by op kind, against a roofline of this device.
//   step_time [DEPTH WIDTH BATCH THREADS STEPS FUSE]    (default 28 2 100 2 6 auto; the first step is not counted)
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "kind_timer.h"
#include "thimble/ops.h"
#include "thimble/runtime.h"
#include "thimble/trainer.h"
#include "thimble/training_plan.h"

namespace {

using namespace thimble;

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

  KindTimer timer(runtime, registry, runtime.plan().program(kTrainProgram));
  timer.measure(steps - 1, [&] { trainer.step(); });
  timer.print();
  const double samples = static_cast<double>(runtime.plan().batch);
  std::printf("one step %.1f ms, %.1f images/s\n", timer.milliseconds(), 1000 * samples / timer.milliseconds());
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
