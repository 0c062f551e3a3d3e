// SentencePiece models: raw text to pieces and back, without a tokeniser before.
//
//   const SentencePieces pieces = train_sentence_pieces({"train.de", "train.en"}, {.vocabulary_size = 8000});
//   pieces.write("joint.model");                       // or: SentencePieces::read("joint.model")
//   pieces.apply("Hello world.");                      // "▁Hello ▁wor ld ."
//   pieces.join("▁Hello ▁wor ld .");                   // "Hello world."
//
// Numbers come from a Vocabulary over lines of pieces; those inside the model are not used.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

class SentencePieces {
 public:
  /// A model file as SentencePiece writes it, at most 64 MiB. Throws EnvironmentError where the file cannot be read,
  /// BadInput where the library refuses it or it has no pieces. The library trusts the tables inside a model that
  /// parses: read models only from where you would take a program.
  static SentencePieces read(const std::string& path);
  /// To a temporary name, then renamed. Throws EnvironmentError where the file cannot be written.
  void write(const std::string& path) const;

  /// From the bytes of a model that messages call `name`.
  SentencePieces(std::string_view model, const std::string& name);
  SentencePieces(SentencePieces&&) noexcept;
  SentencePieces& operator=(SentencePieces&&) noexcept;
  ~SentencePieces();

  std::int64_t size() const;                ///< of the model's own vocabulary, specials included
  std::string piece(std::int64_t i) const;  ///< throws InvalidArgument outside [0, size())

  /// A raw line as pieces joined by spaces; what the model does not know stays as it is. Normalises as the model says
  /// (NFKC, and spaces that are needless go, where it does not say otherwise). Throws InvalidArgument, naming the byte,
  /// for a line that is not UTF-8 or holds a NUL byte.
  std::string apply(std::string_view line) const;
  /// Pieces, separated by spaces, as raw text.
  std::string join(std::string_view pieces) const;

 private:
  struct Model;
  std::unique_ptr<Model> model_;
};

enum class SentencePieceKind { unigram, byte_pair };

struct SentencePieceTraining {
  std::int64_t vocabulary_size = 8000;  ///< with SentencePiece's own <unk>, <s> and </s>
  SentencePieceKind kind = SentencePieceKind::unigram;
  double character_coverage = 0.9995;  ///< characters that get a piece, by how often they come
};

/// Learns pieces from the lines of the files; equal text and options give equal bytes (one thread, no sampling). Lines
/// of more than 4192 bytes or without a visible character are left out, as SentencePiece's own tools do. Throws
/// EnvironmentError and BadInput as PieceCounts::add_file, InvalidArgument for options out of range or a size that the
/// text is too small or has too many characters for, in the library's words.
SentencePieces train_sentence_pieces(const std::vector<std::string>& files, const SentencePieceTraining& options);

}  // namespace thimble
