#include "search_options.h"

#include "model_options.h"
#include "thimble/error.h"

namespace thimble {

void add_search_options(CLI::App& app, SearchOptions& options) {
  app.add_option("--beam", options.beam.beam, "hypotheses of a sentence")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  app.add_option("--lenpen", options.beam.length_penalty,
                 "scores are divided by length to this power; more favours longer translations")
      ->capture_default_str()
      ->check(CLI::Range(-10.0, 10.0));
  app.add_option("--max-length", options.beam.longest, "pieces of a translation")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, kLongestSentence));
  app.add_option("--sentences", options.sentences, "searched at a time, at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  add_device_options(app, options.device);
}

OpenTranslator::OpenTranslator(const Plan& plan, const std::string& checkpoint, const SearchOptions& options) {
  const DynamicConv model = translation_choices_of(plan).model;
  const DeviceDescription description = describe(options.device);
  device_ = open_device(description);
  const TranslatorOptions asked{.sentences = options.sentences, .beam = options.beam, .device = description};
  translator_ = device_ ? std::make_unique<Translator>(model, registry(), asked, *device_)
                        : std::make_unique<Translator>(model, registry(), asked);
  translator_->load(checkpoint);
}

}  // namespace thimble
