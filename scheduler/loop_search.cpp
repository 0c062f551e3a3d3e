#include "loop_search.h"

#include <algorithm>

namespace thimble {
namespace {

constexpr std::size_t kMostRanks = 6;     // looked at, spread over those that are offered
constexpr std::size_t kMostDescents = 2;  // of which the splits are searched for; the others are tried with those

class LoopSearch {
 public:
  LoopSearch(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
             const RecomputeBasis& basis, ScheduleOptions options, const std::vector<RecomputeRanks>& ranks)
      : graph_(graph),
        registry_(registry),
        device_(device),
        basis_(basis),
        options_(std::move(options)),
        ranks_(ranks) {
    Bytes sums;
    for (std::size_t i = 0; i < graph.ops.size(); ++i)
      if (const auto op = static_cast<OpId>(i); basis.is_sum[op] != 0)
        sums += bytes_of(graph.tensors[graph.ops[op].outputs.at(0)].type);
    for (TensorId t : loop_splits(graph, basis))
      if (bytes_of(graph.tensors[t].type) < sums) splits_.push_back(t);
  }

  std::vector<LoopChoice> run() {
    std::vector<std::vector<TensorId>> known;
    const std::size_t count = std::min(kMostRanks, ranks_.size());
    for (std::size_t i = 0; i < count && !splits_.empty(); ++i) {
      // From both ends of the list inwards: those that keep most, those that keep least, then what is between.
      const std::size_t place = i % 2 == 0 ? i / 2 : count - 1 - i / 2;
      const std::size_t ranks = count == 1 ? 0 : place * (ranks_.size() - 1) / (count - 1);
      if (i < kMostDescents)
        descend(ranks, known);
      else
        for (const std::vector<TensorId>& splits : known) found_.push_back(look_at(ranks, splits));
    }
    return std::move(found_);
  }

 private:
  static Bytes peak_of(const LoopChoice& choice) { return *std::max_element(choice.live.begin(), choice.live.end()); }

  LoopChoice look_at(std::size_t ranks, const std::vector<TensorId>& splits) {
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

  void descend(std::size_t ranks, std::vector<std::vector<TensorId>>& known) {
    std::vector<TensorId> left = splits_;
    LoopChoice best{.ranks = ranks, .splits = {}, .steps = {}, .live = {Bytes{INT64_MAX}}};
    while (!left.empty()) {
      LoopChoice next = best;
      for (TensorId split : left) {
        std::vector<TensorId> splits = best.splits;
        splits.push_back(split);
        LoopChoice one = look_at(ranks, splits);
        if (peak_of(one) < peak_of(next)) next = std::move(one);
      }
      if (peak_of(next) >= peak_of(best)) return;
      left.erase(std::find(left.begin(), left.end(), next.splits.back()));
      best = next;
      found_.push_back(best);
      if (std::find(known.begin(), known.end(), best.splits) == known.end()) known.push_back(best.splits);
    }
  }

  const Graph& graph_;
  const OpRegistry& registry_;
  const DeviceDescription& device_;
  const RecomputeBasis& basis_;
  ScheduleOptions options_;
  const std::vector<RecomputeRanks>& ranks_;
  std::vector<TensorId> splits_;
  std::vector<LoopChoice> found_;
};

}  // namespace

std::vector<LoopChoice> search_loops(const Graph& graph, const OpRegistry& registry, const DeviceDescription& device,
                                     const RecomputeBasis& basis, ScheduleOptions options,
                                     const std::vector<RecomputeRanks>& ranks) {
  return LoopSearch(graph, registry, device, basis, std::move(options), ranks).run();
}

}  // namespace thimble
