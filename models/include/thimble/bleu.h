// Corpus BLEU-4 (Papineni et al. 2002), counted and smoothed as sacreBLEU does it, or as fairseq's scorer.
//
//   const Bleu result = bleu(hypotheses, references, {.tokens = BleuTokens::mteval_13a});  // raw, detokenised text
//   result.score;                                                                          // 0 ... 100
//   bleu(hypotheses, references, {.tokens = BleuTokens::none, .smoothing = BleuSmoothing::none});  // fairseq's, of
//                                                                                                  // tokenised text
//   bleu_signature({});                    // "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:thimble-0.1.0"
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace thimble {

enum class BleuTokens {
  none,        ///< words are separated by white space
  mteval_13a,  ///< sacreBLEU's default: entities undone, punctuation split off as NIST's mteval-v13a does
};

enum class BleuSmoothing {
  none,         ///< an order without a match makes the score 0
  exponential,  ///< sacreBLEU's `exp`: the k-th order without a match counts as 1 / 2^k matches
};

struct BleuOptions {
  BleuTokens tokens = BleuTokens::mteval_13a;
  BleuSmoothing smoothing = BleuSmoothing::exponential;
  /// Every character by Unicode's simple mapping (that of the C library's C.UTF-8, whatever the locale), and U+0130 in
  /// full: Python's str.lower(), except that a capital sigma at a word's end becomes U+03C3, not U+03C2.
  bool lower_case = false;
};

struct Bleu {
  static constexpr std::size_t kOrders = 4;  ///< n-grams of 1 to 4 words

  double score = 0;                             ///< 0 ... 100
  std::array<double, kOrders> precisions{};     ///< 0 ... 100, smoothed
  std::array<std::int64_t, kOrders> matches{};  ///< n-grams of hypotheses, each as often as in its reference at most
  std::array<std::int64_t, kOrders> totals{};   ///< n-grams of hypotheses
  double brevity_penalty = 0;
  std::int64_t hypothesis_words = 0;
  std::int64_t reference_words = 0;
};

/// Of all pairs together, one reference each. The score is 0 without a single match, and where no hypothesis has four
/// words. Throws InvalidArgument where the numbers of hypotheses and references differ or are 0, or a text is not
/// UTF-8.
Bleu bleu(std::span<const std::string> hypotheses, std::span<const std::string> references,
          const BleuOptions& options = {});

/// What was computed, as sacreBLEU says it; the version is ours.
std::string bleu_signature(const BleuOptions& options);

/// The words that are counted, joined by spaces. Throws InvalidArgument for text that is not UTF-8.
std::string bleu_words(std::string_view text, const BleuOptions& options);

}  // namespace thimble
