// How fast a plan trains on the device, and how much of it: one JSON object a line.
//   training_speed MODEL BATCH MATH BUDGET [STEPS]     wrn-28-2 100 tf32 plain | 64MB; dynamicconv-iwslt 4000 fp32
//   plain
// Inputs stay as they are filled once, as a peer's that lie on the device; copying them in is part of the step.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <string>
#include <vector>

#include "../cuda_under_test.h"
#include "thimble/initialize.h"
#include "thimble/planner.h"
#include "thimble/runtime.h"
#include "thimble/training_plan.h"
#include "thimble/translation_plan.h"

namespace {

using namespace thimble;
using Clock = std::chrono::steady_clock;

constexpr int kWindows = 7;
constexpr std::int64_t kRoom = 25;  // ids of a sentence

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Job {
  std::vector<PlanRequest> variants;
  std::string program;
  std::int64_t items = 0;  // of a step
};

Job pictures(const std::string& model, std::int64_t batch, const DeviceDescription& device, bool plain) {
  TrainingChoices choices;
  choices.model = parse_wide_resnet(model);
  choices.batch = batch;
  choices.device = device;
  choices.train_samples = batch * 10;
  choices.test_samples = batch;
  Job job{{}, kTrainProgram, batch};
  const OpRegistry& registry = testing::cuda_registry();
  if (plain) {
    job.variants = {request_training(choices, registry)};
    return job;
  }
  for (bool fuse : {false, true}) {
    choices.fuse_convolutions = fuse;
    for (PlanRequest& variant : training_variants(choices, registry, 8)) job.variants.push_back(std::move(variant));
  }
  return job;
}

Job text(const std::string& model, std::int64_t tokens, const DeviceDescription& device, bool plain) {
  TranslationChoices choices{.model = parse_dynamic_conv(model), .max_tokens = tokens};
  choices.buckets = {{.room = kRoom, .sentences = tokens / kRoom}};
  choices.device = device;
  const OpRegistry& registry = testing::cuda_registry();
  return {plain ? std::vector{request_translation(choices, registry)} : translation_variants(choices, registry, 250),
          bucket_program("train", kRoom), tokens};
}

Plan plan_of(const Job& job, const std::string& budget) {
  if (budget == "plain") return make_plan(job.variants.front(), testing::cuda_registry());
  const Frontier frontier(job.variants, testing::cuda_registry(), {.loops = LoopOrder::either});
  if (budget == "smallest") return frontier.plan(frontier.candidates().back());
  PlanOrNo answer = frontier.within(parse_bytes(budget));
  if (Plan* plan = std::get_if<Plan>(&answer)) return std::move(*plan);
  throw InvalidArgument("nothing fits " + budget);
}

void fill(ProgramView& view, const Program& program) {
  for (const Tensor& tensor : program.graph.tensors) {
    if (tensor.producer != kNoOp || is_persistent(tensor)) continue;
    if (tensor.type.dtype == DType::f32) {
      const auto values = view.as<float>(tensor.name);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 2654435761U % 1000) / 500 - 1;
    } else {
      const bool is_length = tensor.name.ends_with("lengths");
      const auto ids = view.as<std::int32_t>(tensor.name);
      for (std::size_t i = 0; i < ids.size(); ++i)
        ids[i] = is_length                 ? static_cast<std::int32_t>(kRoom)
                 : tensor.name == "labels" ? static_cast<std::int32_t>(i % 10)
                                           : static_cast<std::int32_t>(4 + i * 2654435761U % 6000);
    }
  }
}

void run(const std::string& model, std::int64_t size, const std::string& math, const std::string& budget, int steps) {
  const auto backend = testing::cuda_under_test();
  DeviceDescription description = backend->description();
  description = with_math(std::move(description), math);
  const bool is_text = model.starts_with("dynamicconv") || model.starts_with("lightconv");
  const bool plain = budget == "plain";
  const Job job = is_text ? text(model, size, description, plain) : pictures(model, size, description, plain);
  const Plan plan = plan_of(job, budget);

  const auto device = backend->open();
  const DeviceMemory before = device->memory_info();
  Runtime runtime(plan, testing::cuda_registry(), *device, {.capture = steps > 0});
  for (const PersistentTensor& tensor : plan.persistent) {
    const auto bytes = runtime.persistent(tensor.name);
    initialize_parameter({reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)}, tensor.name,
                         tensor.type, 1);
  }
  const Program& program = plan.program(job.program);
  StepScalars scalars{.seed = 1, .step = 0, .learning_rate = 1e-3F, .loss_terms = job.items};
  const ViewFunction first = [&](ProgramView& view) { fill(view, program); };
  const ViewFunction again = [](ProgramView&) {};
  const auto step = [&](const ViewFunction& inputs) {
    runtime.run(job.program, scalars, inputs, nullptr);
    ++scalars.step;
  };
  step(first);
  if (steps == 0) return;
  for (int i = 0; i < 4; ++i) step(first);
  const DeviceMemory warm = device->memory_info();
  std::vector<double> windows;
  for (int window = 0; window < kWindows; ++window) {
    const auto start = Clock::now();
    for (int i = 0; i < steps; ++i) step(again);
    windows.push_back(seconds_since(start) / steps);
  }
  const DeviceMemory after = device->memory_info();
  std::nth_element(windows.begin(), windows.begin() + kWindows / 2, windows.end());
  const double seconds = windows[kWindows / 2];
  const auto used = [&](const DeviceMemory& at) { return static_cast<long long>(before.free.value - at.free.value); };
  const ProgramCost cost = program_cost(program, testing::cuda_registry(), description, nullptr);
  std::printf(
      "{\"model\": \"%s\", \"size\": %lld, \"math\": \"%s\", \"budget\": \"%s\", \"device\": \"%s\", "
      "\"milliseconds\": %.4f, \"items_per_second\": %.1f, \"arena_bytes\": %lld, \"high_water_bytes\": %lld, "
      "\"used_bytes\": %lld, \"used_bytes_after\": %lld, \"captured\": %s, \"predicted_milliseconds\": %.4f, "
      "\"recomputed_percent\": %.1f}\n",
      model.c_str(), static_cast<long long>(size), math.c_str(), budget.c_str(), std::string(device->name()).c_str(),
      1e3 * seconds, static_cast<double>(job.items) / seconds, static_cast<long long>(plan.arena.value),
      static_cast<long long>(runtime.last_high_water().value), used(warm), used(after),
      runtime.was_captured() ? "true" : "false", cost.milliseconds, 100 * cost.recompute_flops / cost.flops);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "training_speed MODEL BATCH MATH BUDGET [STEPS]\n");
    return 2;
  }
  try {
    run(argv[1], std::atoll(argv[2]), argv[3], argv[4], argc > 5 ? std::atoi(argv[5]) : 20);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "training_speed: %s\n", error.what());
    return 1;
  }
  return 0;
}
