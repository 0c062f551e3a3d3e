#include "loop_search.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>

namespace thimble {
namespace {

constexpr std::size_t kMostRanks = 6;      // looked at, spread over those that are offered
constexpr std::size_t kMostDescents = 2;   // of which the splits are searched for; the others are tried with those
constexpr std::int64_t kLeastShare = 100;  // splits with fewer updates between them, a part of all, are one
constexpr int kRates = 8;                  // exchange rates between bytes and time
constexpr double kFirstRate = 0.5, kRateStep = 2;
constexpr int kSmoothing = 5;  // the 2^5-norm of live bytes over steps: equal peaks are the rule

class LoopSearch {
 public:
  LoopSearch(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
             const RecomputeBasis& basis, ScheduleOptions options, const std::vector<RecomputeRanks>& ranks,
             const IdVector<OpId, OpPrice>& prices)
      : graph_(graph),
        registry_(registry),
        device_(device),
        basis_(basis),
        options_(std::move(options)),
        ranks_(ranks),
        prices_(prices) {
    for (const OpPrice& price : prices) seconds_of_step_ += price.seconds;
    find_splits();
  }

  std::vector<LoopChoice> run(std::vector<std::vector<LoopSplit>>& known) {
    const std::size_t count = std::min(kMostRanks, ranks_.size());
    const std::size_t descents = known.empty() ? std::min(count, kMostDescents) : 0;
    for (std::size_t i = 0; i < count && !splits_.empty(); ++i) {
      // From both ends of the list inwards: those that keep most, those that keep least, then what is between.
      const std::size_t place = i % 2 == 0 ? i / 2 : count - 1 - i / 2;
      const std::size_t ranks = count == 1 ? 0 : place * (ranks_.size() - 1) / (count - 1);
      if (i < descents)
        descend(ranks);
      else
        for (const std::vector<LoopSplit>& splits : known) found_.push_back(choice_of(ranks, splits));
      if (i + 1 == descents) known = front_of_splits();
    }
    return std::move(found_);
  }

 private:
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

  static double smooth_peak(const std::vector<Bytes>& live) {
    Bytes most;
    for (Bytes bytes : live) most = std::max(most, bytes);
    double sum = 0;
    for (Bytes bytes : live) {
      double share = static_cast<double>(bytes.value) / static_cast<double>(most.value);
      for (int i = 0; i < kSmoothing; ++i) share *= share;
      sum += share;
    }
    return static_cast<double>(most.value) * std::pow(sum, 1.0 / (1 << kSmoothing));
  }

  LoopChoice choice_of(std::size_t ranks, const std::vector<LoopSplit>& splits) {
    RecomputeRanks all = ranks_[ranks];
    while (all.size() < graph_.tensors.size()) all.push_back(0);  // sums over microbatches
    LoopSequence sequence = block_major_sequence(graph_, basis_, all, splits, options_.barrier_before_update);
    options_.sequence = std::move(sequence.ops);
    options_.repeats = std::move(sequence.repeats);
    const Schedule schedule = make_schedule(graph_, registry_, device_, options_);
    LoopChoice choice{.ranks = ranks, .splits = splits, .steps = {}, .live = live_by_step(schedule)};
    for (const ScheduledStep& step : schedule.steps) choice.steps.push_back(step.op);
    return choice;
  }

  enum State : std::uint8_t { kAbsent, kHeld, kRebuilt };
  using States = std::vector<State>;  // of each split, in the order of making

  std::vector<LoopSplit> splits_of(const States& states) const {
    std::vector<LoopSplit> splits;
    for (std::size_t i = 0; i < states.size(); ++i)
      if (states[i] != kAbsent) splits.push_back({splits_[i], states[i] == kRebuilt});
    return splits;
  }

  // Those that no other beats in bytes and time.
  std::vector<std::vector<LoopSplit>> front_of_splits() const {
    std::vector<const LoopChoice*> by_time;
    for (const LoopChoice& choice : found_) by_time.push_back(&choice);
    const auto peak = [](const LoopChoice* c) { return *std::max_element(c->live.begin(), c->live.end()); };
    const auto seconds = [&](const LoopChoice* c) { return seconds_of_repeats(c->steps, prices_); };
    std::stable_sort(by_time.begin(), by_time.end(),
                     [&](const LoopChoice* a, const LoopChoice* b) { return seconds(a) < seconds(b); });
    std::vector<std::vector<LoopSplit>> front;
    Bytes least{INT64_MAX};
    for (const LoopChoice* choice : by_time) {
      if (peak(choice) >= least) continue;
      least = peak(choice);
      if (std::find(front.begin(), front.end(), choice->splits) == front.end()) front.push_back(choice->splits);
    }
    return front;
  }

  // A choice of splits that was looked at.
  struct Known {
    States states;
    double seconds, peak;
  };
  double score(const Known& known, double rate) const {
    return known.seconds / seconds_of_step_ + rate * known.peak / known_.front().peak;
  }

  // Null where the splits cannot be.
  const Known* look_at(std::size_t ranks, const States& states) {
    const auto [place, is_new] = index_.try_emplace(states, known_.size());
    if (!is_new) return place->second < known_.size() ? &known_[place->second] : nullptr;
    const std::vector<LoopSplit> splits = splits_of(states);
    if (splits.empty() || splits.back().rebuilt) {
      place->second = SIZE_MAX;
      return nullptr;
    }
    LoopChoice choice = choice_of(ranks, splits);
    known_.push_back({states, seconds_of_step_ + seconds_of_repeats(choice.steps, prices_), smooth_peak(choice.live)});
    found_.push_back(std::move(choice));
    return &known_.back();
  }

  // From the best under each rate on, the best change of one split at a time, or of two neighbours exchanged.
  void descend(std::size_t ranks) {
    known_.clear();
    index_.clear();
    for (std::size_t i = 0; i < splits_.size(); ++i) {
      States one(splits_.size(), kAbsent);
      one[i] = kHeld;
      look_at(ranks, one);
    }
    double rate = kFirstRate;
    for (int i = 0; i < kRates; ++i, rate *= kRateStep) {
      std::size_t best = 0;
      for (std::size_t k = 1; k < known_.size(); ++k)
        if (score(known_[k], rate) < score(known_[best], rate)) best = k;
      States states = known_[best].states;
      double least = score(known_[best], rate);
      while (improve(ranks, rate, states, least)) {
      }
    }
  }

  bool improve(std::size_t ranks, double rate, States& states, double& least) {
    States best;
    const auto consider = [&](const States& changed) {
      if (changed == states) return;
      const Known* known = look_at(ranks, changed);
      if (known == nullptr || score(*known, rate) >= least - 1e-12) return;
      least = score(*known, rate);
      best = changed;
    };
    for (std::size_t i = 0; i < states.size(); ++i) {
      States changed = states;
      for (State state : {kAbsent, kHeld, kRebuilt}) {
        changed[i] = state;
        consider(changed);
      }
      changed = states;
      if (i > 0) std::swap(changed[i - 1], changed[i]);
      consider(changed);
    }
    if (best.empty()) return false;
    states = std::move(best);
    return true;
  }

  const Graph& graph_;
  const OpRegistry& registry_;
  const DeviceDescription& device_;
  const RecomputeBasis& basis_;
  ScheduleOptions options_;
  const std::vector<RecomputeRanks>& ranks_;
  std::vector<TensorId> splits_;
  const IdVector<OpId, OpPrice>& prices_;
  double seconds_of_step_ = 0;
  std::vector<Known> known_;  // with the ranks at hand
  std::map<States, std::size_t> index_;
  std::vector<LoopChoice> found_;
};

}  // namespace

std::vector<LoopChoice> search_loops(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                                     const RecomputeBasis& basis, ScheduleOptions options,
                                     const std::vector<RecomputeRanks>& ranks, const IdVector<OpId, OpPrice>& prices,
                                     std::vector<std::vector<LoopSplit>>& known) {
  return LoopSearch(graph, registry, device, basis, std::move(options), ranks, prices).run(known);
}

}  // namespace thimble
