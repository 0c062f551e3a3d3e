// Translates sentences with a trained model, inside an arena that is planned before the first of them.
//
//   Translator translator(translation_choices_of(plan).model, registry, {.sentences = 32, .beam = {.beam = 4}});
//   translator.load("run/checkpoint.safetensors");
//   translator.translate(sources)[7].ids;             // in the order of the sources
//   translator.arena();                               // bytes; what was used is translator.high_water()
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thimble/beam_search.h"
#include "thimble/memory.h"
#include "thimble/parallel_text.h"
#include "thimble/runtime.h"
#include "thimble/search_plan.h"

namespace thimble {

struct TranslatorOptions {
  std::int64_t sentences = 32;  ///< at a time, at most
  BeamOptions beam{};
  DeviceDescription device{};
};

class Translator {
 public:
  /// Throws InvalidArgument where an option or a size of the model is out of range, or longer outputs are asked for
  /// than there are positions (kLongestSentence).
  Translator(const DynamicConv& model, const OpRegistry& registry, const TranslatorOptions& options);
  /// The same on a device, which `options` describes and which has to outlive the translator.
  Translator(const DynamicConv& model, const OpRegistry& registry, const TranslatorOptions& options, Device& device);

  /// Weights of any safetensors file that has them all. Throws as load_weights.
  void load(const std::string& path);

  /// Sources of like lengths are searched together; which ones changes rounding, nothing else. An empty source (an end
  /// alone) has an empty translation. Throws InvalidArgument where a source has no end, more than kLongestSentence ids,
  /// or one outside the vocabulary.
  std::vector<Translation> translate(const SentenceIds& sources);

  Bytes arena() const { return runtime_.plan().arena; }
  /// The most that was granted at a time so far, of what was planned.
  Bytes high_water() const { return high_water_; }
  const Plan& plan() const { return runtime_.plan(); }

 private:
  void search(const SentenceIds& sources, const Bucket& bucket, std::span<const std::int64_t> batch,
              std::vector<Translation>& translations);
  void run(const std::string& program, const ViewFunction& fill, const ViewFunction& read);

  DynamicConv model_;
  TranslatorOptions options_;
  std::vector<Bucket> buckets_;
  HostMemory memory_;
  Runtime runtime_;
  Bytes high_water_;
};

}  // namespace thimble
