#include "thimble/bleu.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <unordered_map>
#include <vector>

#include "bleu_words.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using Gram = std::array<std::int32_t, Bleu::kOrders>;

// Numbers for the words of one pair.
class WordNumbers {
 public:
  std::vector<std::int32_t> of(const std::vector<std::string_view>& words) {
    std::vector<std::int32_t> numbers;
    numbers.reserve(words.size());
    for (std::string_view word : words)
      numbers.push_back(known_.emplace(word, static_cast<std::int32_t>(known_.size())).first->second);
    return numbers;
  }

 private:
  std::unordered_map<std::string_view, std::int32_t> known_;
};

std::vector<Gram> sorted_grams(const std::vector<std::int32_t>& words, std::size_t order) {
  std::vector<Gram> grams;
  for (std::size_t i = 0; i + order <= words.size(); ++i) {
    Gram& gram = grams.emplace_back();
    std::copy_n(words.begin() + static_cast<std::ptrdiff_t>(i), order, gram.begin());
  }
  std::sort(grams.begin(), grams.end());
  return grams;
}

// An intersection holds what both have, as often as the one that has fewer: the clipped counts.
std::int64_t count_matches(const std::vector<Gram>& hypothesis, const std::vector<Gram>& reference) {
  std::vector<Gram> both;
  std::set_intersection(hypothesis.begin(), hypothesis.end(), reference.begin(), reference.end(),
                        std::back_inserter(both));
  return static_cast<std::int64_t>(both.size());
}

void add_pair(Bleu& counts, std::string_view hypothesis, std::string_view reference) {
  WordNumbers numbers;
  const auto hypothesis_words = numbers.of(split_words(hypothesis));
  const auto reference_words = numbers.of(split_words(reference));
  counts.hypothesis_words += static_cast<std::int64_t>(hypothesis_words.size());
  counts.reference_words += static_cast<std::int64_t>(reference_words.size());
  for (std::size_t n = 0; n < Bleu::kOrders; ++n) {
    const auto grams = sorted_grams(hypothesis_words, n + 1);
    counts.totals[n] += static_cast<std::int64_t>(grams.size());
    counts.matches[n] += count_matches(grams, sorted_grams(reference_words, n + 1));
  }
}

double brevity_penalty(double hypothesis, double reference) {
  if (hypothesis >= reference) return 1;
  return hypothesis > 0 ? std::exp(1 - reference / hypothesis) : 0;
}

void compute_score(Bleu& result, BleuSmoothing smoothing) {
  result.brevity_penalty =
      brevity_penalty(static_cast<double>(result.hypothesis_words), static_cast<double>(result.reference_words));
  if (result.matches[0] == 0) return;
  double smallest = 1;  // matches that an order without any counts as
  double logarithms = 0;
  for (std::size_t n = 0; n < Bleu::kOrders && result.totals[n] > 0; ++n) {
    double matches = static_cast<double>(result.matches[n]);
    if (result.matches[n] == 0 && smoothing == BleuSmoothing::exponential) matches = smallest /= 2;
    result.precisions[n] = 100 * matches / static_cast<double>(result.totals[n]);
  }
  for (double precision : result.precisions) logarithms += std::log(precision);
  result.score = result.brevity_penalty * std::exp(logarithms / Bleu::kOrders);
}

}  // namespace

Bleu bleu(std::span<const std::string> hypotheses, std::span<const std::string> references,
          const BleuOptions& options) {
  if (hypotheses.size() != references.size())
    throw InvalidArgument("bleu: " + std::to_string(hypotheses.size()) + " hypotheses for " +
                          std::to_string(references.size()) + " references");
  if (hypotheses.empty()) throw InvalidArgument("bleu: no sentence to score");
  const WordRules rules(options);
  Bleu result;
  for (std::size_t i = 0; i < hypotheses.size(); ++i) {
    const std::string number = std::to_string(i + 1);
    add_pair(result, rules.prepare(hypotheses[i], "hypothesis " + number),
             rules.prepare(references[i], "reference " + number));
  }
  compute_score(result, options.smoothing);
  return result;
}

std::string bleu_signature(const BleuOptions& options) {
  return std::string("nrefs:1|case:") + (options.lower_case ? "lc" : "mixed") +
         "|eff:no|tok:" + (options.tokens == BleuTokens::none ? "none" : "13a") +
         "|smooth:" + (options.smoothing == BleuSmoothing::none ? "none" : "exp") + "|version:thimble-" THIMBLE_VERSION;
}

std::string bleu_words(std::string_view text, const BleuOptions& options) {
  const std::string prepared = WordRules(options).prepare(text, "the text");
  std::string joined;
  for (std::string_view word : split_words(prepared)) {
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  return joined;
}

}  // namespace thimble
