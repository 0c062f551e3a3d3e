// A training step of the recipe's DynamicConv on random sentences that fill their room: milliseconds, GFLOP/s and GB/s
// by op kind, and tokens a second.
//   translation_step [SENTENCES ROOM CHUNK THREADS STEPS BUDGET]    (default 25 40 0 2 4; the first step is not
//   counted)
#include <cstdlib>
#include <exception>
#include <random>

#include "kind_timer.h"
#include "thimble/error.h"
#include "thimble/initialize.h"
#include "thimble/ops.h"
#include "thimble/planner.h"
#include "thimble/translation_plan.h"

namespace {

using namespace thimble;

Plan plan_for(const TranslationChoices& choices, const OpRegistry& registry, const char* budget) {
  PlanRequest request = request_translation(choices, registry);
  if (budget == nullptr) return make_plan(request, registry);
  const PlanOrNo answer =
      Frontier({std::move(request)}, registry, {.loops = LoopOrder::either}).within(parse_bytes(budget));
  if (const Plan* plan = std::get_if<Plan>(&answer)) return *plan;
  throw InvalidArgument(std::string("nothing fits ") + budget);
}

void run(const TranslationChoices& choices, int steps, const char* budget) {
  OpRegistry registry;
  register_ops(registry);
  HostMemory memory;
  Runtime runtime(plan_for(choices, registry, budget), registry, memory);
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    initialize_parameter({reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)}, tensor.name,
                         tensor.type, 1);
  }
  const Bucket& bucket = choices.buckets.front();
  std::mt19937 random(1);
  const auto fill = [&](ProgramView& view) {
    for (const char* name : {"source", "target_input", "target_output"})
      for (std::int32_t& id : view.as<std::int32_t>(name)) id = 4 + static_cast<std::int32_t>(random() % 6000);
    for (const char* name : {"source_lengths", "target_lengths"})
      for (std::int32_t& length : view.as<std::int32_t>(name)) length = static_cast<std::int32_t>(bucket.room);
  };
  StepScalars scalars{.seed = 1, .step = 0, .learning_rate = 1e-4f, .loss_terms = bucket.room * bucket.sentences};
  const std::string name = bucket_program("train", bucket.room);
  const auto step = [&] {
    runtime.run(name, scalars, fill, nullptr);
    ++scalars.step;
  };
  step();
  KindTimer timer(runtime, registry, runtime.plan().program(name));
  timer.measure(steps - 1, step);
  timer.print();
  std::printf("one step %.1f ms, %.1f target tokens/s, arena %.1f MB\n", timer.milliseconds(),
              1000 * static_cast<double>(scalars.loss_terms) / timer.milliseconds(),
              static_cast<double>(runtime.plan().arena.value) / 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  const auto number = [&](int i, int value) { return argc > i ? std::atoi(argv[i]) : value; };
  TranslationChoices choices;
  choices.buckets = {{number(2, 40), number(1, 25)}};
  choices.max_tokens = choices.buckets[0].room * choices.buckets[0].sentences;
  choices.chunk = number(3, 0);
  choices.device.threads = number(4, 2);
  try {
    run(choices, number(5, 4), argc > 6 ? argv[6] : nullptr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
