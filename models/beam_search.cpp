#include "thimble/beam_search.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "thimble/error.h"
#include "thimble/vocabulary.h"

namespace thimble {
namespace {

constexpr std::size_t kNoNode = static_cast<std::size_t>(-1);

}  // namespace

BeamSearch::BeamSearch(const BeamOptions& options) : options_(options) {
  if (options.beam < 1 || options.longest < 1)
    throw InvalidArgument("beam search: a beam of " + std::to_string(options.beam) + " and at most " +
                          std::to_string(options.longest) + " pieces; both are positive");
  live_.push_back({.id = Vocabulary::kEnd, .node = kNoNode});
}

void BeamSearch::end(double score, std::size_t node, std::int64_t length) {
  Translation translation{.score = score / std::pow(static_cast<double>(length), options_.length_penalty)};
  for (std::size_t at = node; at != kNoNode; at = nodes_[at].before) translation.ids.push_back(nodes_[at].id);
  std::reverse(translation.ids.begin(), translation.ids.end());
  ended_.push_back(std::move(translation));
}

void BeamSearch::advance(std::span<const float> scores, std::span<const std::int32_t> candidates) {
  if (scores.size() != candidates.size() || scores.empty() || scores.size() % live_.size() != 0)
    throw InvalidArgument("beam search: " + std::to_string(scores.size()) + " scores and " +
                          std::to_string(candidates.size()) + " candidates for " + std::to_string(live_.size()) +
                          " hypotheses");
  const std::size_t width = scores.size() / live_.size();
  candidates_.clear();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const Hypothesis& from = live_[i / width];
    if (position_ == 0 && candidates[i] == Vocabulary::kEnd) continue;
    candidates_.push_back({.score = from.score + static_cast<double>(scores[i]),
                           .id = candidates[i],
                           .parent = static_cast<std::int64_t>(i / width),
                           .node = from.node});
  }
  // Equal scores keep the order of rows and ranks.
  std::stable_sort(candidates_.begin(), candidates_.end(),
                   [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
  ++position_;
  const auto beam = static_cast<std::size_t>(options_.beam);
  next_.clear();
  for (std::size_t rank = 0; rank < candidates_.size() && next_.size() < beam && ended_.size() < beam; ++rank) {
    Hypothesis& candidate = candidates_[rank];
    if (candidate.id == Vocabulary::kEnd) {
      if (rank < beam) end(candidate.score, candidate.node, position_);
      continue;
    }
    nodes_.push_back({candidate.id, candidate.node});
    candidate.node = nodes_.size() - 1;
    next_.push_back(candidate);
  }
  std::swap(live_, next_);
  is_done_ = ended_.size() >= beam || live_.empty();
  if (is_done_ || position_ < options_.longest) return;
  for (const Hypothesis& hypothesis : live_) end(hypothesis.score, hypothesis.node, position_);
  is_done_ = true;
}

const Translation& BeamSearch::best() const {
  if (!is_done_ || ended_.empty()) throw InvalidArgument("beam search: it is not done");
  return *std::max_element(ended_.begin(), ended_.end(),
                           [](const Translation& a, const Translation& b) { return a.score < b.score; });
}

}  // namespace thimble
