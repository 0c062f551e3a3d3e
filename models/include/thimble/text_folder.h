// A folder of text to train a translation model on, and what a trained model needs of it: two dictionaries and how
// lines become pieces.
//
//   prepare_text_folder("text", {.sets = {{"train", "de/train.de", "de/train.en"}}, .sentence_pieces = 6000});
//   const TextFolder folder("text");
//   folder.pairs("train", 176).text.size();
//   folder.target().size();                           // pieces that a model of it chooses from
//
// Files: `source.dict` and `target.dict` (Vocabulary), `pieces.model` or `pieces.codes` (TextPieces) where lines are
// not pieces already, and for each set `train.source`, `train.target`: the same line of both is a pair.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thimble/parallel_text.h"
#include "thimble/text_pieces.h"
#include "thimble/vocabulary.h"

namespace thimble {

class TextFolder {
 public:
  /// Throws as Vocabulary::read and TextPieces::of_folder.
  explicit TextFolder(const std::string& folder);

  const Vocabulary& source() const { return source_; }
  const Vocabulary& target() const { return target_; }
  const TextPieces& pieces() const { return pieces_; }

  /// Throws as read_parallel_text.
  LoadedPairs pairs(const std::string& set, std::int64_t longest) const;
  /// Lines of one side as text to compare translations with: pieces joined where they are pieces already.
  std::vector<std::string> references(const std::string& set) const;
  /// The lines to translate, as they are.
  std::vector<std::string> sources(const std::string& set) const;

  /// Puts dictionaries and pieces into another folder, in place of those it had, so that a trained model stands alone.
  /// Nothing where it is the same folder. Throws EnvironmentError where they cannot be written.
  void copy_rules(const std::string& to) const;

 private:
  std::string folder_;
  Vocabulary source_, target_;
  TextPieces pieces_;
};

struct TextPreparation {
  struct Set {
    std::string name, source_file, target_file;
  };
  std::vector<Set> sets{};           ///< the first is learned from
  std::int64_t sentence_pieces = 0;  ///< learn a SentencePiece model of both sides with as many pieces; or
  std::string codes{};               ///< cut words by this list of merges; or, with neither, lines are pieces
  std::int64_t source_limit = Vocabulary::kMost, target_limit = Vocabulary::kMost;  ///< of the dictionaries
};

/// Makes such a folder. Throws InvalidArgument where there is no set or both kinds of pieces are asked for, and as
/// train_sentence_pieces, PieceCounts::add_line, BytePairCodes::read; BadInput where the files of a set have not the
/// same number of lines or are no UTF-8, and EnvironmentError where a file cannot be read or written. A set that is
/// refused leaves an earlier folder as it was.
void prepare_text_folder(const std::string& folder, const TextPreparation& preparation);

}  // namespace thimble
