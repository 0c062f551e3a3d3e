// Pairs of sentences as ids: two files of pieces, the same line in each being a pair.
//
//   const LoadedPairs train = read_parallel_text("train.bpe.de", "train.bpe.en", german, english, 175);
//   train.text.size();          // pairs; train.report says what was left out, and why
//   train.text.source(7);       // ids, </s> last
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "thimble/vocabulary.h"

namespace thimble {

/// Sentences one after the other.
struct SentenceIds {
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> begins{0};  ///< where each one begins in `ids`, and where the last one ends

  std::int64_t size() const { return static_cast<std::int64_t>(begins.size()) - 1; }
  std::span<const std::int32_t> operator[](std::int64_t index) const {
    const auto i = static_cast<std::size_t>(index);
    return std::span(ids).subspan(static_cast<std::size_t>(begins[i]),
                                  static_cast<std::size_t>(begins[i + 1] - begins[i]));
  }
  bool operator==(const SentenceIds&) const = default;
};

struct ParallelText {
  SentenceIds sources;
  SentenceIds targets;

  std::int64_t size() const { return sources.size(); }
  std::span<const std::int32_t> source(std::int64_t pair) const { return sources[pair]; }
  std::span<const std::int32_t> target(std::int64_t pair) const { return targets[pair]; }
  bool operator==(const ParallelText&) const = default;
};

struct ParallelReport {
  std::int64_t lines = 0;            ///< of each file; kept + empty + too_long
  std::int64_t kept = 0;             ///< pairs
  std::int64_t empty = 0;            ///< pairs left out because a side has no piece
  std::int64_t too_long = 0;         ///< pairs left out because a side has more ids than allowed (and none is empty)
  std::int64_t unknown_sources = 0;  ///< pieces of the pairs kept that the vocabulary lacks
  std::int64_t unknown_targets = 0;
  bool operator==(const ParallelReport&) const = default;
};

struct LoadedPairs {
  ParallelText text;
  ParallelReport report;
};

/// How a line becomes pieces separated by spaces.
using LineToPieces = std::function<std::string(std::string_view)>;

/// Reads line by line; what is left out costs no memory. Without `to_pieces`, lines are pieces already. Lines end with
/// "\n" or "\r\n". `longest` counts ids, </s> included. Throws InvalidArgument for a `longest` below 2,
/// EnvironmentError for a file that cannot be read, BadInput for a line that is not UTF-8, holds a NUL byte (naming
/// file, line and byte) or has more than 1 MiB, and for files that have not the same number of lines (naming both).
LoadedPairs read_parallel_text(const std::string& source_file, const std::string& target_file,
                               const Vocabulary& source_vocabulary, const Vocabulary& target_vocabulary,
                               std::int64_t longest, const LineToPieces& to_pieces = nullptr);

}  // namespace thimble
