#include "thimble/training_plan.h"

#include <algorithm>

#include "plan_options.h"
#include "save_program.h"
#include "thimble/cuda.h"
#include "thimble/differentiate.h"
#include "thimble/error.h"

namespace thimble {
namespace {

Optimizer sgd_optimizer(const SgdOptions& sgd) {
  if (sgd.accumulate_in_momentum)
    return {.kind = "momentum_update",
            .state = {"momentum"},
            .attributes = {{"momentum", sgd.momentum}, {"weight_decay", sgd.weight_decay}},
            .accumulate_kind = "momentum_accumulate"};
  return {
      .kind = "sgd_update",
      .state = {"momentum"},
      .attributes = {
          {"momentum", sgd.momentum}, {"weight_decay", sgd.weight_decay}, {"nesterov", std::int64_t{sgd.nesterov}}}};
}

constexpr const char *kNormConvRewrite = "norm_conv", *kNormGateRewrite = "norm_gate";

// On a device a gradient is as slow as what it reads: a gate that is computed is no output that is read.
Graph rewritten(Graph graph, const TrainingChoices& choices, const OpRegistry& registry) {
  if (choices.fuse_convolutions) return registry.rewrite(kNormConvRewrite).apply(graph, registry);
  return choices.device.backend == kCudaBackend ? registry.rewrite(kNormGateRewrite).apply(graph, registry) : graph;
}

Graph step_graph(const TrainingChoices& choices, const OpRegistry& registry, std::int64_t batch) {
  Graph forward = build_wide_resnet(choices.model, registry, batch, Mode::train);
  const TensorId loss = forward.find("loss");
  return rewritten(differentiate(std::move(forward), registry, loss, sgd_optimizer(choices.sgd)), choices, registry);
}

Graph evaluation_graph(const TrainingChoices& choices, const OpRegistry& registry, std::int64_t batch) {
  return rewritten(build_wide_resnet(choices.model, registry, batch, Mode::evaluate), choices, registry);
}

// The option `fuse`: nothing, normalisation with its ReLU, or both with the convolution behind them.
const char* fuse_text(const TrainingChoices& choices) {
  if (choices.fuse_convolutions) return "conv";
  return choices.model.fuse ? "auto" : "off";
}

std::map<std::string, std::string> options_of(const TrainingChoices& choices) {
  return {{"depth", std::to_string(choices.model.depth)},
          {"width", std::to_string(choices.model.width)},
          {"classes", std::to_string(choices.model.classes)},
          {"dropout", number_text(choices.model.dropout)},
          {"fuse", fuse_text(choices)},
          {"norm", choices.model.norm == Norm::group ? "group" : "batch"},
          {"train_samples", std::to_string(choices.train_samples)},
          {"test_samples", std::to_string(choices.test_samples)},
          {"momentum", number_text(choices.sgd.momentum)},
          {"weight_decay", number_text(choices.sgd.weight_decay)},
          {"nesterov", choices.sgd.nesterov ? "1" : "0"},
          {"accumulate", choices.sgd.accumulate_in_momentum ? "momentum" : "gradient"}};
}

}  // namespace

std::vector<std::int64_t> cut_evenly(std::int64_t batch, std::int64_t part) {
  if (part <= 0) throw InvalidArgument("microbatch of " + std::to_string(part) + " samples; it has at least 1");
  std::vector<std::int64_t> cut;
  for (std::int64_t left = batch; left > 0; left -= cut.back()) cut.push_back(std::min(part, left));
  return cut;
}

PlanRequest request_training(const TrainingChoices& choices, const OpRegistry& registry) {
  if (choices.sgd.accumulate_in_momentum && choices.sgd.nesterov)
    throw InvalidArgument(
        "gradients cannot be summed in the momentum with Nesterov's, which reads them once more; choose momentum");
  if (choices.batch <= 0)
    throw InvalidArgument("batch of " + std::to_string(choices.batch) + " samples; it has at least 1");
  if (choices.fuse_convolutions && !choices.model.fuse)
    throw InvalidArgument("convolutions cannot take in a normalisation whose ReLU is an op of its own; set model.fuse");
  const std::vector<std::int64_t> cut =
      choices.microbatches.empty() ? std::vector{choices.batch} : choices.microbatches;
  const std::int64_t part = *std::max_element(cut.begin(), cut.end());
  PlanRequest request{.model = "wrn-" + std::to_string(choices.model.depth) + "-" + std::to_string(choices.model.width),
                      .options = options_of(choices),
                      .batch = choices.batch,
                      .device = choices.device,
                      .planner_seed = choices.planner_seed,
                      .budget = std::nullopt,
                      .programs = {}};
  const auto add = [&](const char* name, Graph graph, std::vector<std::int64_t> microbatches) {
    request.programs.push_back({name, std::move(graph), std::move(microbatches), choices.barrier_before_update});
  };
  add(kTrainProgram, step_graph(choices, registry, choices.batch), cut);
  if (const std::int64_t rest = choices.train_samples % choices.batch; rest != 0)
    add(kTrainShortProgram, step_graph(choices, registry, rest), cut_evenly(rest, part));
  // Evaluation has no sums over the batch that a cut would change: a part at a time keeps it small.
  add(kEvaluateProgram, evaluation_graph(choices, registry, part), {part});
  if (const std::int64_t rest = choices.test_samples % part; rest != 0)
    add(kEvaluateShortProgram, evaluation_graph(choices, registry, rest), {rest});
  request.programs.push_back(save_program(request.programs.front().graph));
  return request;
}

std::vector<PlanRequest> training_variants(const TrainingChoices& choices, const OpRegistry& registry,
                                           std::int64_t least_part) {
  if (!choices.microbatches.empty()) return {request_training(choices, registry)};
  std::vector<PlanRequest> variants;
  for (std::int64_t part = choices.batch; part >= std::min(choices.batch, least_part); --part) {
    if (choices.batch % part != 0) continue;
    TrainingChoices cut = choices;
    cut.microbatches = cut_evenly(choices.batch, part);
    variants.push_back(request_training(cut, registry));
  }
  return variants;
}

TrainingChoices choices_of(const Plan& plan) {
  TrainingChoices choices;
  choices.model.depth = plan_number<int>(plan, "depth", 10, 10000);
  choices.model.width = plan_number<int>(plan, "width", 1, 1000);
  choices.model.classes = plan_number<int>(plan, "classes", 2, 1 << 20);
  choices.model.dropout = plan_number<double>(plan, "dropout", 0, 1);
  const std::string& fuse = plan_option(plan, "fuse");
  if (fuse != "off" && fuse != "auto" && fuse != "conv")
    throw BadInput("plan: option 'fuse' is '" + fuse + "', not off, auto or conv");
  choices.model.fuse = fuse != "off";
  choices.fuse_convolutions = fuse == "conv";
  const std::string& norm = plan_option(plan, "norm");
  if (norm != "batch" && norm != "group") throw BadInput("plan: option 'norm' is '" + norm + "', not batch or group");
  choices.model.norm = norm == "group" ? Norm::group : Norm::batch;
  choices.batch = plan.batch;
  choices.microbatches = plan.program(kTrainProgram).microbatches;
  choices.train_samples = plan_number<std::int64_t>(plan, "train_samples", 1, std::int64_t{1} << 40);
  choices.test_samples = plan_number<std::int64_t>(plan, "test_samples", 1, std::int64_t{1} << 40);
  choices.sgd.momentum = plan_number<double>(plan, "momentum", 0, 1);
  choices.sgd.weight_decay = plan_number<double>(plan, "weight_decay", 0, 1e6);
  choices.sgd.nesterov = plan_number<int>(plan, "nesterov", 0, 1) == 1;
  choices.sgd.accumulate_in_momentum = plan_option(plan, "accumulate") == "momentum";
  choices.device = plan.device;
  choices.planner_seed = plan.planner_seed;
  return choices;
}

}  // namespace thimble
