// What a model is trained on, and what its plan has to know of that.
#pragma once

#include <memory>

#include "model_options.h"
#include "thimble/dataset.h"
#include "thimble/text_folder.h"

namespace thimble {

struct TextData {
  TextFolder folder;
  LoadedPairs train, held_out;
  std::string held_out_set;
};

/// Pictures, or text.
struct TrainingData {
  DataSets pictures{};
  std::unique_ptr<TextData> text{};
};

/// Loads `--data` for a model by name, and has its sizes in `options.sizes` from then on: samples, or vocabularies and
/// the rooms that pad these sentences least. Throws as load_data and TextFolder do; InvalidArgument where text is asked
/// of a folder that is not named, or a set of it has no pair that is short enough.
TrainingData load_training_data(ModelOptions& options);

/// The data that a plan was made for: as many samples where they are synthetic.
TrainingData load_training_data(const Plan& plan, const std::string& source);

/// What a checkpoint is evaluated on: of text the set alone. Throws as load_training_data.
TrainingData load_evaluation_data(const Plan& plan, const std::string& source, const std::string& set);

/// Says on standard error what was read to train on and what was left out.
void report_text(const TextData& text);

}  // namespace thimble
