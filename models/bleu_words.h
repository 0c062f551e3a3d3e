// Text as BLEU counts it: lower-casing, the tokeniser 13a, and Python's idea of white space.
#pragma once

#include <locale.h>

#include <string>
#include <string_view>
#include <vector>

#include "thimble/bleu.h"

namespace thimble {

class WordRules {
 public:
  /// Throws EnvironmentError where lower-casing is asked for and the C library has no locale C.UTF-8.
  explicit WordRules(const BleuOptions& options);
  ~WordRules();
  WordRules(const WordRules&) = delete;
  WordRules& operator=(const WordRules&) = delete;

  /// Lower-cased and tokenised as the options say, ready for split_words. Throws InvalidArgument, naming `what` and the
  /// byte, for text that is not UTF-8.
  std::string prepare(std::string_view text, const std::string& what) const;

 private:
  std::string lower_case(std::string_view text) const;

  BleuOptions options_;
  locale_t characters_{};  // C.UTF-8, without a change of the program's own
};

/// The same as Python's str.split().
std::vector<std::string_view> split_words(std::string_view text);

}  // namespace thimble
