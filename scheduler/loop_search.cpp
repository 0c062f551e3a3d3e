#include "loop_search.h"

#include <algorithm>
#include <cstdint>
#include <future>
#include <map>

#include "smooth_peak.h"

namespace thimble {
namespace {

constexpr std::size_t kMostRanks = 6;      // looked at, spread over those that are offered
constexpr std::size_t kMostDescents = 2;   // of which the splits are searched for; the others are tried with those
constexpr std::int64_t kLeastShare = 100;  // splits with fewer updates between them, a part of all, are one
constexpr int kRates = 8;                  // exchange rates between bytes and time
constexpr double kFirstRate = 0.5, kRateStep = 2;

class LoopSearch {
 public:
  LoopSearch(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
             const RecomputeBasis& basis, const ScheduleOptions& options, const std::vector<RecomputeRanks>& ranks,
             const IdVector<OpId, OpPrice>& prices)
      : graph_(graph),
        registry_(registry),
        device_(device),
        basis_(basis),
        options_(options),
        ranks_(ranks),
        prices_(prices) {
    for (const OpPrice& price : prices) seconds_of_step_ += price.seconds;
    find_splits();
  }

  std::vector<LoopChoice> run(std::vector<std::vector<LoopSplit>>& known) const {
    if (splits_.empty()) return {};
    const std::size_t count = std::min(kMostRanks, ranks_.size());
    const auto ranks_at = [&](std::size_t i) {
      // From both ends of the list inwards: those that keep most, those that keep least, then what is between.
      const std::size_t place = i % 2 == 0 ? i / 2 : count - 1 - i / 2;
      return count == 1 ? 0 : place * (ranks_.size() - 1) / (count - 1);
    };
    std::vector<LoopChoice> found;
    std::size_t searched = 0;
    if (known.empty()) {
      searched = std::min(count, kMostDescents);
      std::vector<std::future<std::vector<LoopChoice>>> descents;
      for (std::size_t i = 0; i < searched; ++i)
        descents.push_back(std::async(std::launch::async, [&, i] { return Descent(*this, ranks_at(i)).run(); }));
      for (auto& descent : descents)
        for (LoopChoice& choice : descent.get()) found.push_back(std::move(choice));
      known = front_of(found);
    }
    for (std::size_t i = searched; i < count; ++i)
      for (const std::vector<LoopSplit>& splits : known) found.push_back(choice_of(ranks_at(i), splits));
    return found;
  }

 private:
  enum State : std::uint8_t { kAbsent, kHeld, kRebuilt };
  using States = std::vector<State>;  // of each split, in the order of making

  // From the best under each exchange rate on, one change after the other, with one choice of ranks.
  class Descent {
   public:
    Descent(const LoopSearch& search, std::size_t ranks) : search_(search), ranks_(ranks) {}

    std::vector<LoopChoice> run() {
      const std::size_t count = search_.splits_.size();
      for (std::size_t i = 0; i < count; ++i) {
        States one(count, kAbsent);
        one[i] = kHeld;
        look_at(one);
      }
      double rate = kFirstRate;
      for (int i = 0; i < kRates; ++i, rate *= kRateStep) {
        std::size_t best = 0;
        for (std::size_t k = 1; k < known_.size(); ++k)
          if (score(known_[k], rate) < score(known_[best], rate)) best = k;
        States states = known_[best].states;
        double least = score(known_[best], rate);
        while (improve(rate, states, least)) {
        }
      }
      return std::move(found_);
    }

   private:
    // A choice of splits that was looked at.
    struct Known {
      States states;
      double seconds, peak;
    };

    double score(const Known& known, double rate) const {
      return known.seconds / search_.seconds_of_step_ + rate * known.peak / known_.front().peak;
    }

    // Null where the splits cannot be.
    const Known* look_at(const States& states) {
      const auto [place, is_new] = index_.try_emplace(states, known_.size());
      if (!is_new) return place->second < known_.size() ? &known_[place->second] : nullptr;
      const std::vector<LoopSplit> splits = search_.splits_of(states);
      if (splits.empty() || splits.back().rebuilt) {
        place->second = SIZE_MAX;
        return nullptr;
      }
      LoopChoice choice = search_.choice_of(ranks_, splits);
      const double seconds = search_.seconds_of_step_ + seconds_of_repeats(choice.steps, search_.prices_);
      known_.push_back({states, seconds, smooth_peak(choice.live)});
      found_.push_back(std::move(choice));
      return &known_.back();
    }

    // One split after the other takes the state that is best for it, or exchanges it with the one before.
    bool improve(double rate, States& states, double& least) {
      bool improved = false;
      const auto consider = [&](const States& changed) {
        const Known* known = changed == states ? nullptr : look_at(changed);
        if (known == nullptr || score(*known, rate) >= least - 1e-12) return;
        least = score(*known, rate);
        states = changed;
        improved = true;
      };
      for (std::size_t i = 0; i < states.size(); ++i) {
        for (State state : {kAbsent, kHeld, kRebuilt}) {
          States changed = states;
          changed[i] = state;
          consider(changed);
        }
        States changed = states;
        if (i > 0) std::swap(changed[i - 1], changed[i]);
        consider(changed);
      }
      return improved;
    }

    const LoopSearch& search_;
    std::size_t ranks_;
    std::vector<Known> known_;
    std::map<States, std::size_t> index_;
    std::vector<LoopChoice> found_;
  };

  // What a split can save are sums over microbatches: a value that has more bytes than all of them is none. Of values
  // with next to no weights between them, such as a sum and its normalisation, the smallest, or the last.
  void find_splits() {
    Bytes sums;
    for (std::size_t i = 0; i < graph_.ops.size(); ++i)
      if (const auto op = static_cast<OpId>(i); basis_.is_sum[op] != 0) sums += sum_bytes(op);
    Bytes weights_before, of_last;
    for (TensorId t : loop_splits(graph_, basis_)) {
      const Bytes size = bytes_of(graph_.tensors[t].type), before = weights_made_before(t);
      if (size >= sums) continue;
      const bool is_new = splits_.empty() || (before - weights_before).value * kLeastShare > sums.value;
      if (is_new) {
        splits_.push_back(t);
        weights_before = before;
        of_last = size;
      } else if (size <= of_last) {
        splits_.back() = t;
        of_last = size;
      }
    }
  }

  Bytes sum_bytes(OpId op) const {
    const Op& maker = graph_.ops[op];
    const auto output = static_cast<std::size_t>(registry_.at(maker.kind).accumulated_output);
    return bytes_of(graph_.tensors[maker.outputs.at(output)].type);
  }

  // Of weights that forward ops read before the value is made.
  Bytes weights_made_before(TensorId value) const {
    IdVector<TensorId, char> seen(graph_.tensors.size(), 0);
    Bytes bytes;
    for (OpId op : basis_.order) {
      if (graph_.ops[op].phase != Phase::forward) continue;
      for (TensorId t : graph_.ops[op].inputs) {
        if (graph_.tensors[t].role == Role::weight && seen[t] == 0) bytes += bytes_of(graph_.tensors[t].type);
        seen[t] = 1;
      }
      if (op == graph_.tensors[value].producer) break;
    }
    return bytes;
  }

  LoopChoice choice_of(std::size_t ranks, const std::vector<LoopSplit>& splits) const {
    RecomputeRanks all = ranks_[ranks];
    while (all.size() < graph_.tensors.size()) all.push_back(0);  // sums over microbatches
    ScheduleOptions options = options_;
    LoopSequence sequence = block_major_sequence(graph_, basis_, all, splits, options.barrier_before_update);
    options.sequence = std::move(sequence.ops);
    options.repeats = std::move(sequence.repeats);
    const Schedule schedule = make_schedule(graph_, registry_, device_, options);
    LoopChoice choice{.ranks = ranks, .splits = splits, .steps = {}, .live = live_by_step(schedule)};
    for (const ScheduledStep& step : schedule.steps) choice.steps.push_back(step.op);
    return choice;
  }

  std::vector<LoopSplit> splits_of(const States& states) const {
    std::vector<LoopSplit> splits;
    for (std::size_t i = 0; i < states.size(); ++i)
      if (states[i] != kAbsent) splits.push_back({splits_[i], states[i] == kRebuilt});
    return splits;
  }

  // The splits of those that no other beats in bytes and time.
  std::vector<std::vector<LoopSplit>> front_of(const std::vector<LoopChoice>& found) const {
    struct Point {
      double seconds;
      Bytes peak;
      const LoopChoice* choice;
    };
    std::vector<Point> points;
    for (const LoopChoice& choice : found)
      points.push_back({seconds_of_repeats(choice.steps, prices_),
                        *std::max_element(choice.live.begin(), choice.live.end()), &choice});
    std::stable_sort(points.begin(), points.end(),
                     [](const Point& a, const Point& b) { return a.seconds < b.seconds; });
    std::vector<std::vector<LoopSplit>> front;
    Bytes least{INT64_MAX};
    for (const Point& point : points) {
      if (point.peak >= least) continue;
      least = point.peak;
      if (std::find(front.begin(), front.end(), point.choice->splits) == front.end())
        front.push_back(point.choice->splits);
    }
    return front;
  }

  const Graph& graph_;
  const OpRegistry& registry_;
  const DeviceDescription& device_;
  const RecomputeBasis& basis_;
  const ScheduleOptions& options_;
  const std::vector<RecomputeRanks>& ranks_;
  const IdVector<OpId, OpPrice>& prices_;
  std::vector<TensorId> splits_;
  double seconds_of_step_ = 0;
};

}  // namespace

std::vector<LoopChoice> search_loops(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                                     const RecomputeBasis& basis, const ScheduleOptions& options,
                                     const std::vector<RecomputeRanks>& ranks, const IdVector<OpId, OpPrice>& prices,
                                     std::vector<std::vector<LoopSplit>>& known) {
  return LoopSearch(graph, registry, device, basis, options, ranks, prices).run(known);
}

}  // namespace thimble
