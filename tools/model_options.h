// The options that name a model and how to train it, shared by `plan` and `train`.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "thimble/planner.h"
#include "thimble/training_plan.h"

namespace thimble {

struct ModelOptions {
  std::string model;  ///< a name such as wrn-28-2, or `wrn` with --depth and --width; or a plan file
  int depth = 28;
  int width = 2;
  std::int64_t batch = 128;
  std::string microbatch = "auto";  ///< auto, N or a,b,c; auto without a budget: no cut
  std::int64_t least_microbatch = 8;
  std::string budget;
  std::string optimizer = "nesterov";
  std::string fuse = "auto";
  std::string remat = "auto";
  std::string accumulate = "gradient";
  std::string device = "cpu";
  int threads = 0;  ///< 0: as many as the machine has
  std::uint64_t planner_seed = 0;
  double weight_decay = 5e-4;
  double dropout = 0;
};

void add_model_options(CLI::App& app, ModelOptions& options);

/// Throws InvalidArgument for a model, cut or optimizer it does not know.
TrainingChoices training_choices(const ModelOptions& options);

/// Everything that may be chosen for these options.
Frontier training_frontier(const ModelOptions& options, const TrainingChoices& choices);

/// Without a budget the plain plan: no cut, everything kept. With one, the fastest of training_frontier that fits.
PlanOrNo plan_training(const ModelOptions& options, const TrainingChoices& choices);

/// The budget in bytes, if one was given. Throws InvalidArgument.
std::optional<Bytes> budget_bytes(const ModelOptions& options);

/// Everything the registry holds: the ops of ops/.
const OpRegistry& registry();

Plan load_plan(const std::string& path);
/// Temporary name, then rename. Throws EnvironmentError.
void write_file(const std::string& path, const std::string& text);
std::string read_file(const std::string& path);

}  // namespace thimble
