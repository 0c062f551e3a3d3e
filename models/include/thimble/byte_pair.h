// Byte pair encoding as subword-nmt does it: cuts words into pieces by a list of merges, and joins them again.
//
//   const BytePairCodes codes = BytePairCodes::read("bpe10k.codes");
//   codes.apply("das ist unglaublich");              // "das ist un@@ glaublich"
//   join_byte_pairs("das ist un@@ glaublich");       // "das ist unglaublich"
#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <string>
#include <string_view>

namespace thimble {

struct BytePairMerges;

class BytePairCodes {
 public:
  /// A codes file of subword-nmt 0.2: `#version: 0.2`, then a merge `left right` on each line, first ones first; of a
  /// merge that comes twice the first counts. Throws EnvironmentError where the file cannot be read; BadInput, naming
  /// file, line and value, for another version, a line that is no two pieces, text that is not UTF-8 or holds a NUL
  /// byte, and more than 2^24 merges.
  static BytePairCodes read(const std::string& path);
  /// The same from a stream that messages call `name`.
  static BytePairCodes parse(std::istream& in, const std::string& name);

  BytePairCodes(BytePairCodes&&) noexcept;
  BytePairCodes& operator=(BytePairCodes&&) noexcept;
  ~BytePairCodes();

  std::int64_t size() const;  ///< merges

  /// What `subword-nmt apply-bpe` makes of a line: words are separated by spaces (several become one, those at either
  /// end stay), every piece of a word but its last gets "@@". In time n log n, whatever the words are. Throws
  /// InvalidArgument, naming the byte, for a line that is not UTF-8.
  std::string apply(std::string_view line) const;

 private:
  explicit BytePairCodes(std::unique_ptr<BytePairMerges> merges);

  std::unique_ptr<BytePairMerges> merges_;
};

/// Takes out every "@@ ", and "@@" and spaces at the end (fairseq's `--remove-bpe`). Undoes apply() for lines without
/// words that end in "@@" and without needless spaces.
std::string join_byte_pairs(std::string_view line);

}  // namespace thimble
