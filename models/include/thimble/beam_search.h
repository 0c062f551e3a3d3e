// Beam search of one sentence, as fairseq's: hypotheses are taken further by their best pieces together; one that ends
// among the best `beam` is kept with the mean of its logarithms (for a length penalty of 1), and when `beam` have
// ended, the best of them is the answer.
//
//   BeamSearch search({.beam = 4, .length_penalty = 1});
//   while (!search.is_done()) search.advance(scores, candidates);     // of search.hypotheses() rows
//   search.best().ids;
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace thimble {

struct BeamOptions {
  std::int64_t beam = 4;
  double length_penalty = 1;   ///< a hypothesis of n pieces, its end included, is worth its score / n^length_penalty
  std::int64_t longest = 200;  ///< pieces; what has not ended by then ends there
  bool operator==(const BeamOptions&) const = default;
};

struct Translation {
  std::vector<std::int32_t> ids{};  ///< without an end
  double score = 0;                 ///< normalised by length
};

class BeamSearch {
 public:
  /// Throws InvalidArgument where beam or longest is not positive.
  explicit BeamSearch(const BeamOptions& options);

  bool is_done() const { return is_done_; }
  /// Rows of the next advance: 1 at the beginning, then the beam (fewer where there are not as many candidates).
  std::int64_t hypotheses() const { return static_cast<std::int64_t>(live_.size()); }
  std::int32_t last(std::int64_t hypothesis) const { return live_[static_cast<std::size_t>(hypothesis)].id; }
  /// Which hypothesis of the position before it came from.
  std::int64_t parent(std::int64_t hypothesis) const { return live_[static_cast<std::size_t>(hypothesis)].parent; }

  /// Takes every hypothesis one piece further. `scores` are logarithms of probabilities, descending in each row of
  /// `candidates`. A hypothesis has at least one piece before its end. Throws InvalidArgument where the spans are not
  /// as long, or not whole rows.
  void advance(std::span<const float> scores, std::span<const std::int32_t> candidates);

  /// Of those that ended; valid once it is done.
  const Translation& best() const;

 private:
  struct Hypothesis {
    double score = 0;
    std::int32_t id = 0;
    std::int64_t parent = 0;  // among the hypotheses of the position before
    std::size_t node = 0;
  };
  struct Node {  // a piece, and the one before it
    std::int32_t id;
    std::size_t before;
  };
  void end(double score, std::size_t node, std::int64_t length);

  BeamOptions options_;
  std::int64_t position_ = 0;
  bool is_done_ = false;
  std::vector<Node> nodes_;
  std::vector<Hypothesis> live_, candidates_, next_;
  std::vector<Translation> ended_;
};

}  // namespace thimble
