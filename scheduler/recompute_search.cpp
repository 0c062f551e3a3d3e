#include "recompute_search.h"

#include <algorithm>
#include <boost/container_hash/hash.hpp>
#include <cmath>
#include <iterator>
#include <random>
#include <unordered_map>

#include "block_options.h"
#include "recompute_sequence.h"
#include "smooth_peak.h"
#include "thimble/live_counter.h"

namespace thimble {
namespace {

constexpr std::int64_t kSmallestShare = 500;  // values below this part of the largest are always kept
constexpr int kRates = 14;                    // exchange rates between bytes and time
constexpr double kFirstRate = 0.01, kRateStep = 1.8;
constexpr int kRooms = 12;               // from the smallest known to all that there is
constexpr double kTieRate = 1e-3;        // in a room: of two as fast the smaller
constexpr double kOverRate = 100;        // of what does not fit: the smaller, whatever its time
constexpr std::size_t kMostChains = 64;  // choices of the chain of blocks to start from
constexpr int kKick = 3;                 // ranks drawn anew before another descent
const std::vector<std::int32_t> kRanksBetween{0, 1, 2, 3, 4, kWithinBlock, kOnDemand};
const std::vector<std::int32_t> kRanksInside{0, 1, kWithinBlock, kOnDemand};

class Search {
 public:
  Search(const Graph& graph, const OpRegistry& registry, const ScheduleOptions& options,
         const IdVector<OpId, OpPrice>& prices, int most_evaluations)
      : graph_(graph),
        counter_(graph, registry, with_workspaces(options, prices)),
        prices_(prices),
        basis_(recompute_basis(graph, registry)),
        sequence_builder_(graph, basis_, nullptr),
        evaluations_left_(most_evaluations) {
    for (const OpPrice& price : prices) seconds_of_step_ += price.seconds;
    Bytes largest;
    for (TensorId t : basis_.values) largest = std::max(largest, bytes_of(graph.tensors[t].type));
    for (TensorId t : basis_.values)
      if (bytes_of(graph.tensors[t].type).value * kSmallestShare > largest.value) values_.push_back(t);
    std::set_intersection(basis_.between.begin(), basis_.between.end(), values_.begin(), values_.end(),
                          std::back_inserter(between_));
  }

  std::vector<RecomputeOption> run() {
    look_at(keep_everything(graph_));
    for (std::int32_t rank : {kWithinBlock, kOnDemand}) {
      RecomputeRanks none = keep_everything(graph_);
      for (TensorId t : values_) none[t] = rank;
      look_at(none);
    }
    look_at_chains();
    const std::vector<Goal> goals = make_goals();
    for (const Goal& goal : goals)  // nothing is exchanged yet, so that all goals have their turn
      for (Place place = best_under(goal); evaluations_left_ > 0 && change_one(place);) {
      }
    for (std::size_t i = 0; evaluations_left_ > 0 && !values_.empty(); i = (i + 1) % goals.size()) {
      const double best = best_under(goals[i]).score;
      const bool cross = draw(2) == 0;
      Place place = cross ? crossed(goals[i], goals[draw(goals.size())]) : kicked(goals[i]);
      while (evaluations_left_ > 0 && change_one(place)) {
      }
      if (place.score < best) descend(place);
    }
    return front();
  }

 private:
  using Key = std::vector<std::int32_t>;  // ranks of `values_`; all others are kept
  struct Found {
    const Key* key;
    double seconds;
    Bytes live;
    double smooth_live;  // bytes
  };

  // What a descent makes less: time and bytes at an exchange rate, or the time of what fits in a room (which may be
  // best under no rate).
  struct Goal {
    double rate = 0;
    Bytes room{INT64_MAX};
  };

  double score(const Found& found, const Goal& goal) const {
    const double smooth = found.smooth_live / found_.front().smooth_live;
    return found.seconds / seconds_of_step_ + (found.live > goal.room ? kOverRate : goal.rate) * smooth;
  }

  // Valid until the next one is looked at.
  const Found& look_at(const RecomputeRanks& ranks) {
    key_.clear();
    for (TensorId t : values_) key_.push_back(ranks[t]);
    const auto [known, is_new] = index_.try_emplace(key_, found_.size());
    if (!is_new) return found_[known->second];
    const CountedSequence counted = count(ranks);
    found_.push_back({&known->first, counted.seconds, *std::max_element(counted.live.begin(), counted.live.end()),
                      smooth_peak(counted.live)});
    return found_.back();
  }

  CountedSequence count(const RecomputeRanks& ranks) {
    --evaluations_left_;
    const std::vector<OpId>& sequence = sequence_builder_.build(ranks).ops;
    const std::vector<Bytes>& live = counter_.count(sequence);
    return {counter_.steps(), live, seconds_of_repeats(sequence, prices_)};
  }

  RecomputeRanks ranks_of(const Found& found) const {
    RecomputeRanks ranks = keep_everything(graph_);
    for (std::size_t i = 0; i < values_.size(); ++i) ranks[values_[i]] = (*found.key)[i];
    return ranks;
  }

  void look_at_chains() {
    const BlockOptions options(graph_, basis_, values_, between_, prices_,
                               [this](const RecomputeRanks& ranks) { return count(ranks); });
    for (const RecomputeRanks& ranks : options.choices(kMostChains)) look_at(ranks);
  }

  // Where a descent stands.
  struct Place {
    RecomputeRanks ranks;
    double score;
    Goal goal;
  };

  std::vector<Goal> make_goals() const {
    std::vector<Goal> goals;
    goals.reserve(kRates + kRooms);
    for (int i = 0; i < kRates; ++i) goals.push_back({.rate = kFirstRate * std::pow(kRateStep, i)});
    Bytes least = found_.front().live;
    for (const Found& found : found_) least = std::min(least, found.live);
    const double step =
        std::pow(static_cast<double>(found_.front().live.value) / static_cast<double>(least.value), 1.0 / kRooms);
    double room = static_cast<double>(least.value);
    for (int i = 0; i < kRooms; ++i, room *= step)
      goals.push_back({.rate = kTieRate, .room = Bytes{static_cast<std::int64_t>(room)}});
    return goals;
  }

  Place best_under(const Goal& goal) const {
    std::size_t best = 0;
    for (std::size_t i = 1; i < found_.size(); ++i)
      if (score(found_[i], goal) < score(found_[best], goal)) best = i;
    return {ranks_of(found_[best]), score(found_[best], goal), goal};
  }

  std::size_t draw(std::size_t below) { return static_cast<std::size_t>(random_() % below); }

  // Some ranks of the best drawn anew, which a descent may repair in another way. Counted, since a small graph has no
  // ranks left that nobody has looked at.
  Place kicked(const Goal& goal) {
    --evaluations_left_;
    Place place = best_under(goal);
    for (int i = 0; i < kKick; ++i) {
      const TensorId t = values_[draw(values_.size())];
      const std::vector<std::int32_t>& ranks = is_between(t) ? kRanksBetween : kRanksInside;
      place.ranks[t] = ranks[draw(ranks.size())];
    }
    place.score = score(look_at(place.ranks), goal);
    return place;
  }

  // Up to a value those of the best for one goal, behind it of the best for another.
  Place crossed(const Goal& goal, const Goal& other) {
    --evaluations_left_;
    Place place = best_under(goal);
    const Place partner = best_under(other);
    const std::size_t cut = draw(values_.size());
    const bool before = draw(2) == 0;
    for (std::size_t i = 0; i < values_.size(); ++i)
      if ((i < cut) == before) place.ranks[values_[i]] = partner.ranks[values_[i]];
    place.score = score(look_at(place.ranks), goal);
    return place;
  }

  // One value's rank at a time, then two values' ranks exchanged, as long as that is better.
  void descend(Place place) {
    while (evaluations_left_ > 0 && (change_one(place) || exchange_two(place))) {
    }
  }

  // Whether the ranks as they are now are better than they were; if so, the place is there.
  bool is_better(Place& place) {
    const double now = score(look_at(place.ranks), place.goal);
    if (now >= place.score - 1e-12) return false;
    place.score = now;
    return true;
  }

  bool change_one(Place& place) {
    bool improved = false;
    for (TensorId t : values_)
      for (std::int32_t rank : is_between(t) ? kRanksBetween : kRanksInside) {
        const std::int32_t before = place.ranks[t];
        if (rank == before || evaluations_left_ <= 0) continue;
        place.ranks[t] = rank;
        if (is_better(place))
          improved = true;
        else
          place.ranks[t] = before;
      }
    return improved;
  }

  bool exchange_two(Place& place) {
    bool improved = false;
    for (std::size_t i = 0; i < values_.size(); ++i)
      for (std::size_t j = 0; j < i; ++j) {
        std::int32_t &a = place.ranks[values_[i]], &b = place.ranks[values_[j]];
        if (a == b || is_between(values_[i]) != is_between(values_[j]) || evaluations_left_ <= 0) continue;
        std::swap(a, b);
        if (is_better(place))
          improved = true;
        else
          std::swap(a, b);
      }
    return improved;
  }

  bool is_between(TensorId t) const { return std::binary_search(between_.begin(), between_.end(), t); }

  std::vector<RecomputeOption> front() const {
    std::vector<std::size_t> by_time(found_.size());
    for (std::size_t i = 0; i < by_time.size(); ++i) by_time[i] = i;
    std::sort(by_time.begin(), by_time.end(), [&](std::size_t a, std::size_t b) {
      if (found_[a].seconds != found_[b].seconds) return found_[a].seconds < found_[b].seconds;
      if (found_[a].live != found_[b].live) return found_[a].live < found_[b].live;
      return a < b;
    });
    std::vector<RecomputeOption> kept;
    for (std::size_t i : by_time)
      if (kept.empty() || found_[i].live < kept.back().live)
        kept.push_back({ranks_of(found_[i]), found_[i].live, found_[i].seconds});
    return kept;
  }

  static ScheduleOptions with_workspaces(ScheduleOptions options, const IdVector<OpId, OpPrice>& prices) {
    options.workspaces = {};
    for (const OpPrice& price : prices) options.workspaces.push_back(price.workspace);
    return options;
  }

  const Graph& graph_;
  LiveCounter counter_;
  const IdVector<OpId, OpPrice>& prices_;
  RecomputeBasis basis_;
  SequenceBuilder sequence_builder_;
  std::vector<TensorId> values_, between_;
  double seconds_of_step_ = 0;
  int evaluations_left_;
  Key key_;
  std::unordered_map<Key, std::size_t, boost::hash<Key>> index_;
  std::vector<Found> found_;
  std::mt19937_64 random_{7};  // the same graph gives the same list
};

}  // namespace

std::vector<RecomputeOption> search_recompute(const Graph& graph, const OpRegistry& registry,
                                              const ScheduleOptions& options, const IdVector<OpId, OpPrice>& prices,
                                              int most_evaluations) {
  return Search(graph, registry, options, prices, most_evaluations).run();
}

}  // namespace thimble
