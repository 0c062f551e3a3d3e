// How lines of text become pieces, and pieces text again: not at all (they are pieces already), by a list of merges, or
// by a SentencePiece model.
//
//   const TextPieces pieces = TextPieces::of_folder("run");
//   pieces.apply("ein kleiner hund");                 // "ein klein@@ er hund"
//   pieces.join("a small d@@ og");                    // "a small dog"
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "thimble/byte_pair.h"
#include "thimble/sentence_pieces.h"

namespace thimble {

class TextPieces {
 public:
  /// Lines are pieces already; "@@" at a piece's end joins it to the next.
  TextPieces() = default;
  explicit TextPieces(BytePairCodes codes) : how_(std::move(codes)) {}
  explicit TextPieces(SentencePieces model) : how_(std::move(model)) {}

  /// From `pieces.model` (SentencePiece) or `pieces.codes` (merges) in the folder; without either, lines are pieces.
  /// Throws BadInput where both are there, and as SentencePieces::read and BytePairCodes::read.
  static TextPieces of_folder(const std::string& folder);

  /// Throws InvalidArgument for a line that is not UTF-8.
  std::string apply(std::string_view line) const;
  std::string join(std::string_view pieces) const;
  /// Whether joined pieces are raw text, not words split off by a tokeniser.
  bool makes_raw_text() const { return std::holds_alternative<SentencePieces>(how_); }

  static constexpr const char* kModelFile = "pieces.model";
  static constexpr const char* kCodesFile = "pieces.codes";

 private:
  std::variant<std::monostate, BytePairCodes, SentencePieces> how_;
};

}  // namespace thimble
