// From a model and a batch to the request that a plan is made from: one program for the training step, the last short
// batch of an epoch, evaluation, its short batch, and saving a checkpoint.
//
//   TrainingChoices choices{.model = parse_wide_resnet("wrn-28-2"), .batch = 100};
//   Plan plan = make_plan(request_training(choices, registry), registry);
//   choices_of(plan) == choices;
#pragma once

#include <cstdint>
#include <vector>

#include "thimble/op_registry.h"
#include "thimble/plan.h"
#include "thimble/wide_resnet.h"

namespace thimble {

inline constexpr const char* kTrainProgram = "train";
inline constexpr const char* kTrainShortProgram = "train_short";
inline constexpr const char* kEvaluateProgram = "evaluate";
inline constexpr const char* kEvaluateShortProgram = "evaluate_short";
inline constexpr const char* kSaveProgram = "save";

/// SGD as torch.optim.SGD has it (dampening 0); the recipe of Zagoruyko and Komodakis by default.
struct SgdOptions {
  double momentum = 0.9;
  double weight_decay = 5e-4;
  bool nesterov = true;
  /// Microbatches add their gradients to the momentum itself. The same step in real arithmetic; heavy ball only.
  bool accumulate_in_momentum = false;
  bool operator==(const SgdOptions&) const = default;
};

struct TrainingChoices {
  WideResNet model;
  /// Convolutions normalise what they read, a few samples at a time: the graph rewrite "norm_conv". Needs `model.fuse`.
  bool fuse_convolutions = false;
  std::int64_t batch = 128;
  std::vector<std::int64_t> microbatches{};  ///< empty: the batch in one piece
  std::int64_t train_samples = 50000;        ///< decides whether an epoch ends with a short batch
  std::int64_t test_samples = 10000;
  SgdOptions sgd{};
  bool barrier_before_update = false;
  DeviceDescription device{};
  std::uint64_t planner_seed = 0;
};

/// The cut of `batch` samples into parts of at most `part`: equal parts, then the rest.
std::vector<std::int64_t> cut_evenly(std::int64_t batch, std::int64_t part);

/// Throws InvalidArgument where the batch is not positive, the microbatches do not sum to it or the fusions contradict.
PlanRequest request_training(const TrainingChoices& choices, const OpRegistry& registry);

/// What a planner may choose from: `choices` with every even cut of the batch into parts of at least `least_part`
/// samples (the batch itself where it has fewer), or with the cut it names. Largest parts first.
std::vector<PlanRequest> training_variants(const TrainingChoices& choices, const OpRegistry& registry,
                                           std::int64_t least_part);

/// Reads back what request_training wrote into the plan. Throws BadInput where the plan is of no training run.
TrainingChoices choices_of(const Plan& plan);

}  // namespace thimble
