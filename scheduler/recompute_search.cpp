#include "recompute_search.h"

#include <algorithm>
#include <boost/container_hash/hash.hpp>
#include <cmath>
#include <iterator>
#include <random>
#include <unordered_map>

#include "recompute_sequence.h"
#include "smooth_peak.h"
#include "thimble/live_counter.h"

namespace thimble {
namespace {

constexpr std::int32_t kDeepestRank = 4;
constexpr std::int64_t kSmallestShare = 500;  // values below this part of the largest are always kept
constexpr int kRates = 14;                    // exchange rates between bytes and time
constexpr double kFirstRate = 0.01, kRateStep = 1.8;
constexpr int kKick = 3;  // ranks drawn anew before another descent
const std::vector<std::int32_t> kRanksBetween{0, 1, 2, 3, kDeepestRank, kWithinBlock, kOnDemand};
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
    for (std::size_t period = 1; period <= between_.size() + 1; ++period)
      for (std::int32_t inside : {0, 1, kWithinBlock, kOnDemand}) {
        look_at(nested_pattern(period, inside));
        look_at(flat_pattern(period, inside));
      }
    for (int i = 0; i < kRates; ++i) descend(best_under(rate_of(i)));
    for (int i = 0; evaluations_left_ > 0 && !values_.empty(); i = (i + 1) % kRates) descend(kicked(rate_of(i)));
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

  double score(const Found& found, double rate) const {
    return found.seconds / seconds_of_step_ + rate * found.smooth_live / found_.front().smooth_live;
  }

  // Valid until the next one is looked at.
  const Found& look_at(const RecomputeRanks& ranks) {
    key_.clear();
    for (TensorId t : values_) key_.push_back(ranks[t]);
    const auto [known, is_new] = index_.try_emplace(key_, found_.size());
    if (!is_new) return found_[known->second];
    --evaluations_left_;
    const std::vector<OpId>& sequence = sequence_builder_.build(ranks).ops;
    const std::vector<Bytes>& live = counter_.count(sequence);
    found_.push_back({&known->first, seconds_of_repeats(sequence, prices_), *std::max_element(live.begin(), live.end()),
                      smooth_peak(live)});
    return found_.back();
  }

  RecomputeRanks ranks_of(const Found& found) const {
    RecomputeRanks ranks = keep_everything(graph_);
    for (std::size_t i = 0; i < values_.size(); ++i) ranks[values_[i]] = (*found.key)[i];
    return ranks;
  }

  // Every period-th value between blocks is kept, the others are held by the pass that ends behind them alone.
  RecomputeRanks flat_pattern(std::size_t period, std::int32_t rank_inside) const {
    RecomputeRanks ranks = keep_everything(graph_);
    for (TensorId t : values_) ranks[t] = rank_inside;
    for (std::size_t i = 0; i < between_.size(); ++i) ranks[between_[i]] = (i + 1) % period == 0 ? 0 : kWithinBlock;
    return ranks;
  }

  // Every period-th value between blocks is kept, the others are nested by halves; what is inside a block has one rank.
  RecomputeRanks nested_pattern(std::size_t period, std::int32_t rank_inside) const {
    RecomputeRanks ranks = keep_everything(graph_);
    for (TensorId t : values_) ranks[t] = rank_inside;
    for (std::size_t i = 0; i < between_.size(); ++i) {
      const std::size_t inside = (i + 1) % period;
      std::int32_t rank = 0;
      if (inside != 0) {
        rank = 1;
        for (std::size_t begin = 0, end = period; begin + 1 < end && rank < kDeepestRank;) {
          const std::size_t middle = (begin + end) / 2;
          if (inside == middle) break;
          (inside < middle ? end : begin) = middle;
          ++rank;
        }
      }
      ranks[between_[i]] = rank;
    }
    return ranks;
  }

  // Where a descent stands.
  struct Place {
    RecomputeRanks ranks;
    double score, rate;
  };

  static double rate_of(int i) { return kFirstRate * std::pow(kRateStep, i); }

  Place best_under(double rate) const {
    std::size_t best = 0;
    for (std::size_t i = 1; i < found_.size(); ++i)
      if (score(found_[i], rate) < score(found_[best], rate)) best = i;
    return {ranks_of(found_[best]), score(found_[best], rate), rate};
  }

  // Some ranks of the best drawn anew, which a descent may repair in another way. Counted, since a small graph has no
  // ranks left that nobody has looked at.
  Place kicked(double rate) {
    --evaluations_left_;
    Place place = best_under(rate);
    const auto draw = [&](std::size_t below) { return static_cast<std::size_t>(random_() % below); };
    for (int i = 0; i < kKick; ++i) {
      const TensorId t = values_[draw(values_.size())];
      const std::vector<std::int32_t>& ranks = is_between(t) ? kRanksBetween : kRanksInside;
      place.ranks[t] = ranks[draw(ranks.size())];
    }
    place.score = score(look_at(place.ranks), rate);
    return place;
  }

  // One value's rank at a time, then two values' ranks exchanged, as long as that is better.
  void descend(Place place) {
    while (evaluations_left_ > 0 && (change_one(place) || exchange_two(place))) {
    }
  }

  // Whether the ranks as they are now are better than they were; if so, the place is there.
  bool is_better(Place& place) {
    const double now = score(look_at(place.ranks), place.rate);
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
