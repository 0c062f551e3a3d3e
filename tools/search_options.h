// The options of a search for translations, shared by `translate` and `eval`.
#pragma once

#include <CLI/CLI.hpp>

#include "devices.h"
#include "thimble/translator.h"

namespace thimble {

struct SearchOptions {
  BeamOptions beam{};
  std::int64_t sentences = 32;
  DeviceOptions device{};
};

/// --device, --threads and --math are the search's, whatever the model was trained on.
void add_search_options(CLI::App& app, SearchOptions& options);

/// For a model of the plan, with the weights of a checkpoint, and the device that it searches on.
class OpenTranslator {
 public:
  /// Throws EnvironmentError where the device is not there.
  OpenTranslator(const Plan& plan, const std::string& checkpoint, const SearchOptions& options);
  Translator* operator->() { return translator_.get(); }
  Translator& operator*() { return *translator_; }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Translator> translator_;
};

}  // namespace thimble
