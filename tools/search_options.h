// The options of a search for translations, shared by `translate` and `eval`.
#pragma once

#include <CLI/CLI.hpp>

#include "thimble/translator.h"

namespace thimble {

struct SearchOptions {
  BeamOptions beam{};
  std::int64_t sentences = 32;
  int threads = 0;  ///< 0: as many as the machine has
};

void add_search_options(CLI::App& app, SearchOptions& options);

/// For a model of the plan, with the weights of a checkpoint.
std::unique_ptr<Translator> make_translator(const Plan& plan, const std::string& checkpoint,
                                            const SearchOptions& options);

}  // namespace thimble
