// Lines of text in, translated lines out.
//
//   const TranslatedLines out = translate_lines(translator, TextFolder("run"), {"ein kleiner hund ."});
//   out.lines.front();                                // "a small dog ."
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "thimble/text_folder.h"
#include "thimble/translator.h"

namespace thimble {

struct TranslatedLines {
  std::vector<std::string> lines{};  ///< one for each that was given, in order; empty where that had no piece
  std::int64_t unknown = 0;          ///< pieces that the dictionary lacks: the model sees <unk>
  std::int64_t cut = 0;              ///< lines of more than kLongestSentence ids, of which the rest is dropped
};

/// Throws InvalidArgument for a line that is not UTF-8, and for a piece that the dictionary has and the model has not.
TranslatedLines translate_lines(Translator& translator, const TextFolder& text, std::span<const std::string> lines);

}  // namespace thimble
