// The pieces that a model reads and writes, and their numbers: fairseq's dictionary, in its order and its file format.
//
//   PieceCounts counts;
//   counts.add_file("train.bpe.de");
//   const Vocabulary vocabulary(counts, 8848);
//   vocabulary.write("dict.de.txt");
//   const EncodedLine line = vocabulary.encode("das ist ein te@@ st");  // ids, kEnd last; line.unknown became kUnknown
//   vocabulary.decode(line.ids);                                        // "das ist ein te@@ st"
//
// Pieces are separated by ASCII white space; other white space (U+00A0) is part of a piece.
#pragma once

#include <cstdint>
#include <functional>
#include <istream>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace thimble {

/// Lets a map of strings be asked with views, without an allocation.
struct PieceHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view piece) const { return std::hash<std::string_view>{}(piece); }
};

/// How often each piece comes.
class PieceCounts {
 public:
  /// Throws InvalidArgument, naming the byte, for a line that is not UTF-8 or holds a NUL byte. What looks like a
  /// special ("</s>") is not counted.
  void add_line(std::string_view line);
  /// Every line. Throws EnvironmentError where the file cannot be read, BadInput, naming file, line and byte, for one
  /// that is not UTF-8, holds a NUL byte or a line of more than 1 MiB.
  void add_file(const std::string& path);

  const std::unordered_map<std::string, std::int64_t, PieceHash, std::equal_to<>>& counts() const { return counts_; }

 private:
  void add_checked_line(std::string_view line);

  std::unordered_map<std::string, std::int64_t, PieceHash, std::equal_to<>> counts_;
};

struct EncodedLine {
  std::vector<std::int32_t> ids;
  std::int64_t unknown = 0;  ///< pieces that became kUnknown
  bool operator==(const EncodedLine&) const = default;
};

class Vocabulary {
 public:
  static constexpr std::int32_t kBegin = 0;    ///< <s>
  static constexpr std::int32_t kPad = 1;      ///< <pad>
  static constexpr std::int32_t kEnd = 2;      ///< </s>
  static constexpr std::int32_t kUnknown = 3;  ///< <unk>
  static constexpr std::int32_t kSpecials = 4;
  static constexpr std::int32_t kMost = 1 << 24;  ///< of any vocabulary

  /// The specials, then the most frequent pieces, ties by their bytes, `limit` altogether at most. Throws
  /// InvalidArgument for a limit outside [kSpecials, kMost].
  Vocabulary(const PieceCounts& counts, std::int64_t limit);

  /// Lines `piece count`, in the order of the ids; the specials are not among them. Throws EnvironmentError where the
  /// file cannot be read; BadInput, naming file, line and value, for a line of another form, a count that is no number
  /// or negative, a piece that comes twice or is a special, and as PieceCounts::add_file.
  static Vocabulary read(const std::string& path);
  /// The same from a stream that messages call `name`.
  static Vocabulary parse(std::istream& in, const std::string& name);
  /// To a temporary name, then renamed. Throws EnvironmentError where the file cannot be written.
  void write(const std::string& path) const;

  std::int32_t size() const { return static_cast<std::int32_t>(pieces_.size()); }
  /// kUnknown for a piece that is not there, and for the name of a special: text cannot end a sentence.
  std::int32_t id(std::string_view piece) const;
  /// Throws InvalidArgument for an id outside [0, size()).
  const std::string& piece(std::int32_t id) const;
  std::int64_t count(std::int32_t id) const;  ///< 0 for a special; throws as piece()

  /// The ids of a line's pieces, then kEnd.
  EncodedLine encode(std::string_view line) const;
  /// Appends them to `ids`, and returns how many became kUnknown.
  std::int64_t encode_to(std::vector<std::int32_t>& ids, std::string_view line) const;
  /// Pieces joined by spaces, up to kEnd or the last; kPad and kBegin are left out, kUnknown is "<unk>". Throws
  /// InvalidArgument for an id outside [0, size()).
  std::string decode(std::span<const std::int32_t> ids) const;

 private:
  Vocabulary();  // the specials
  bool append(std::string_view piece, std::int64_t count);

  std::vector<std::string> pieces_;
  std::vector<std::int64_t> counts_;
  std::unordered_map<std::string, std::int32_t, PieceHash, std::equal_to<>> ids_;  // without the specials
};

}  // namespace thimble
