// Calls every library of an installed Thimble: plans a small network, runs one step of it, replays the plan.
#include <cstdio>

#include "thimble/memory.h"
#include "thimble/ops.h"
#include "thimble/plan.h"
#include "thimble/replay.h"
#include "thimble/runtime.h"
#include "thimble/training_plan.h"

int main() {
  using namespace thimble;
  OpRegistry registry;
  register_ops(registry);
  TrainingChoices choices;
  choices.model = parse_wide_resnet("wrn-10-1");
  choices.batch = 2;
  const Plan plan = make_plan(request_training(choices, registry), registry);
  HostMemory memory;
  Runtime runtime(plan, registry, memory);
  const auto nothing = [](ProgramView&) {};
  runtime.run(kTrainProgram, {.seed = 1, .step = 0, .learning_rate = 0.1f}, nothing, nothing);
  const Bytes planned = plan.program(kTrainProgram).planned;
  if (runtime.last_high_water() != planned || !replay(plan, registry).problems.empty()) return 1;
  std::printf("planned and used %s\n", to_string(planned).c_str());
  return 0;
}
