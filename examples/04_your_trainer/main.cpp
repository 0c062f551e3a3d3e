// Learns which of two spirals a point lies on, in one arena whose size is known before the first step.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <numbers>
#include <random>
#include <string>

#include "ops.h"
#include "thimble/differentiate.h"
#include "thimble/runtime.h"

namespace {

using namespace thimble;

constexpr std::int64_t kBatch = 256, kWidth = 32, kSteps = 600;

// Two hidden layers, then a single unit whose sign is the answer.
Graph classifier(const OpRegistry& registry) {
  Graph graph;
  graph.batch = kBatch;
  TensorId value = graph.add_input("points", {DType::f32, {kBatch, 2}, true}, Role::input);
  const auto add_layer = [&](const std::string& name, std::int64_t inputs, std::int64_t outputs) {
    const TensorId weight = graph.add_input(name + ".weight", {DType::f32, {outputs, inputs}}, Role::weight);
    const TensorId bias = graph.add_input(name + ".bias", {DType::f32, {outputs}}, Role::weight);
    value = graph.add_op(registry, "dense_tanh", name, {value, weight, bias}).front();
  };
  add_layer("first", 2, kWidth);
  add_layer("second", kWidth, kWidth);
  add_layer("answer", kWidth, 1);
  return graph;
}

// Two programs share the arena; weights and their momentum keep their addresses from one to the other.
Plan plan_training(const OpRegistry& registry, const std::vector<std::int64_t>& microbatches) {
  Graph evaluation = classifier(registry), forward = evaluation;
  evaluation.mark_output(evaluation.find("answer"));
  const TensorId target = forward.add_input("target", {DType::f32, {kBatch, 1}, true}, Role::input);
  const TensorId loss = forward.add_op(registry, "squared_loss", "loss", {forward.find("answer"), target}).front();
  forward.mark_output(loss);
  const Optimizer optimizer{.kind = "momentum_sgd", .state = {"momentum"}, .attributes = {{"momentum", 0.9}}};

  PlanRequest request;
  request.model = "two spirals";
  request.batch = kBatch;
  request.programs = {{"train", differentiate(forward, registry, loss, optimizer), microbatches},
                      {"evaluate", evaluation, microbatches}};
  return make_plan(request, registry);
}

// In [0, 1). std::uniform_real_distribution differs between standard libraries; this does not.
float uniform(std::mt19937& random) { return static_cast<float>(random() >> 8) / static_cast<float>(1 << 24); }

float label_of(std::int64_t sample) { return sample % 2 == 0 ? 1.0F : -1.0F; }

// Even samples lie on one arm, odd ones on the other, half a turn away. Every sample has a seed of its own: how the
// batch is cut must not change what is drawn.
void fill_points(std::span<float> point, HalfOpen samples, std::int64_t step) {
  for (std::int64_t n = samples.begin; n < samples.end; ++n, point = point.subspan(2)) {
    std::mt19937 random(static_cast<std::uint32_t>(step * kBatch + n));
    const float radius = 0.1F + 0.9F * uniform(random), angle = 2 * std::numbers::pi_v<float> * radius;
    point[0] = label_of(n) * radius * std::cos(angle) + 0.04F * (uniform(random) - 0.5F);
    point[1] = label_of(n) * radius * std::sin(angle) + 0.04F * (uniform(random) - 0.5F);
  }
}

void initialize(Runtime& runtime) {
  std::mt19937 random(1);
  for (const PersistentTensor& tensor : runtime.plan().persistent) {
    const bool is_matrix = tensor.type.shape.size() == 2;
    float bound = is_matrix ? 2 / std::sqrt(static_cast<float>(tensor.type.shape[1])) : 1;
    if (tensor.role != Role::weight) bound = 0;  // momentum
    const std::span<std::byte> raw = runtime.persistent(tensor.name);
    for (float& value : std::span(reinterpret_cast<float*>(raw.data()), raw.size() / sizeof(float)))
      value = bound * (2 * uniform(random) - 1);
  }
}

// Points are made where they are read, in the arena, a microbatch at a time; once read their bytes serve others.
double train_step(Runtime& runtime, std::int64_t step) {
  double loss = 0;
  runtime.run(
      "train", {.seed = 1, .step = step, .learning_rate = 0.3F},
      [&](ProgramView& inputs) {
        const HalfOpen samples = inputs.samples();
        fill_points(inputs.as<float>("points"), samples, step);
        const std::span<float> target = inputs.as<float>("target");
        for (std::size_t n = 0; n < target.size(); ++n)
          target[n] = label_of(samples.begin + static_cast<std::int64_t>(n));
      },
      [&](ProgramView& outputs) { loss = outputs.as<float>("loss")[0]; });
  return loss;
}

double accuracy(Runtime& runtime) {
  std::int64_t right = 0;
  runtime.run(
      "evaluate", {},
      [](ProgramView& inputs) { fill_points(inputs.as<float>("points"), inputs.samples(), /*step=*/kSteps); },
      [&](ProgramView& outputs) {
        const std::span<float> answer = outputs.as<float>("answer");
        for (std::int64_t n = 0; n < kBatch; ++n)
          right += answer[static_cast<std::size_t>(n)] * label_of(n) > 0 ? 1 : 0;
      });
  return static_cast<double>(right) / kBatch;
}

}  // namespace

int main() try {
  OpRegistry registry;
  your_trainer::register_ops(registry);
  const Plan plan = plan_training(registry, {64, 64, 64, 64});
  const std::vector<std::string> findings = check_plan(plan, registry);
  for (const std::string& finding : findings) std::fprintf(stderr, "check_plan: %s\n", finding.c_str());
  if (!findings.empty()) return 1;
  std::printf("planned     %s; without microbatches %s\n", to_string(plan.arena).c_str(),
              to_string(plan_training(registry, {kBatch}).arena).c_str());

  HostMemory memory;
  // While ops are young: freed bytes become NaN, and a write into free bytes beside a span is found.
  Runtime runtime(plan, registry, memory, {.poison = true, .canaries = true});
  initialize(runtime);
  const double first = train_step(runtime, 0);
  double last = first;
  Bytes high_water = runtime.last_high_water();
  for (std::int64_t step = 1; step < kSteps; ++step) {
    last = train_step(runtime, step);
    high_water = std::max(high_water, runtime.last_high_water());
  }
  const double right = accuracy(runtime);
  std::printf("high water  %s\n", to_string(high_water).c_str());
  std::printf("loss        %.4f at the first step, %.4f at the last\n", first, last);
  std::printf("accuracy    %.1f %% of %d new points\n", 100 * right, static_cast<int>(kBatch));
  return high_water == plan.arena && last < first / 10 && right > 0.98 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
