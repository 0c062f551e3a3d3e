// The options that name a model and how to train it, shared by `plan` and `train`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices.h"
#include "thimble/calibration.h"
#include "thimble/planner.h"
#include "thimble/training_plan.h"
#include "thimble/translation_plan.h"

namespace thimble {

/// What a plan has to know of the data that it is for.
struct DataSizes {
  std::int64_t train_samples = 0, test_samples = 0;
  std::int64_t source_vocabulary = 0, target_vocabulary = 0;
  std::vector<std::int64_t> rooms{};  ///< of buckets, ascending
};

struct ModelOptions {
  /// A name such as wrn-28-2 or dynamicconv-iwslt, or `wrn` with --depth and --width; or a plan file.
  std::string model;
  int depth = 28;
  int width = 2;
  std::int64_t batch = 128;
  std::string microbatch = "auto";  ///< auto, N or a,b,c; auto without a budget: no cut
  std::string norm = "batch";
  std::optional<std::int64_t> least_microbatch;
  std::string budget;
  std::string optimizer;  ///< empty: nesterov for pictures, adam for text
  std::string fuse = "auto";
  std::string remat = "auto";
  std::string accumulate = "gradient";
  std::string loops = "auto";
  DeviceOptions device;
  std::uint64_t planner_seed = 0;
  bool calibrate = false;
  std::string calibration;             ///< the table to read, or with `calibrate` to write
  std::optional<double> weight_decay;  ///< 5e-4 for pictures, 1e-4 for text
  std::optional<double> dropout;       ///< 0 for pictures, 0.3 for text
  std::string data;                    ///< a folder, or `synthetic`; empty: the sizes of the recipe's data
  std::optional<DataSizes> sizes;      ///< of `data`, once that is loaded
  std::optional<std::int64_t> channels, hidden, heads;
  std::string encoder_kernels, decoder_kernels;  ///< 3,7,15; empty: the recipe's
  std::optional<double> attention_dropout, tap_dropout, smoothing;
  std::int64_t max_tokens = 4000;
  std::int64_t longest = 176;  ///< ids of a sentence, its end included
  std::string chunk = "auto";  ///< auto or N; auto without a budget: no cut
  std::int64_t least_chunk = 250;
  std::vector<std::string> of_pictures, of_text;  ///< options that were given and act on that kind of model alone
};

/// Whether the model translates text; else it classifies pictures.
bool is_translation(const ModelOptions& options);

/// The smallest microbatch that a planner may choose, in samples: the one asked for, else 8 with batch statistics
/// (fewer make poor ones) and 1 where every sample has its own.
std::int64_t least_microbatch(const ModelOptions& options);

void add_model_options(CLI::App& app, ModelOptions& options);

/// Throw InvalidArgument for a model, cut or optimizer they do not know, and for options of the other kind of model.
TrainingChoices training_choices(const ModelOptions& options);
TranslationChoices translation_choices(const ModelOptions& options);

/// What the options ask to train, made when it is needed: as it is, and every choice that a budget may make.
struct TrainingRequests {
  std::function<PlanRequest()> plain;
  std::function<std::vector<PlanRequest>()> variants;
};
TrainingRequests training_requests(const ModelOptions& options);

/// Null where the options ask for none.
using Calibration = std::shared_ptr<const CalibrationTable>;

/// Where the table of a plan is kept: run/plan.calibration.json for run/plan.json.
std::string calibration_beside(const std::string& plan_path);

struct TrainingFrontier {
  Frontier frontier;
  Calibration calibration;
};

/// Everything that may be chosen for these options. A table that was measured for it is written where --calibration
/// says, else to `table_path`, unless that is empty. `most_evaluations` as `PlannerOptions` has it.
TrainingFrontier training_frontier(const ModelOptions& options, const TrainingRequests& requests,
                                   const std::string& table_path,
                                   int most_evaluations = PlannerOptions{}.most_evaluations);

struct PlannedTraining {
  PlanOrNo answer;
  Calibration calibration = nullptr;
};

/// Without a budget the plain plan: no cut, or the one that is named, everything kept that the order of the loops
/// leaves. With one, the fastest of training_frontier that fits.
PlannedTraining plan_training(const ModelOptions& options, const TrainingRequests& requests,
                              const std::string& table_path, int most_evaluations = PlannerOptions{}.most_evaluations);

/// The budget in bytes, if one was given. Throws InvalidArgument.
std::optional<Bytes> budget_bytes(const ModelOptions& options);

/// With the kernels that its device needs.
Plan load_plan(const std::string& path);
/// Temporary name, then rename. Throws EnvironmentError.
void write_file(const std::string& path, const std::string& text);
std::string read_file(const std::string& path);

}  // namespace thimble
