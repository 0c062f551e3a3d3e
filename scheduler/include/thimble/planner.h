// From a byte budget to the fastest plan that fits, or to an honest "no".
//
//   std::vector<PlanRequest> variants = ...;              // one per cut of the batch, per rewrite of the graph, ...
//   Frontier frontier(variants, registry);                // every choice, fastest first; no budget has a say in it
//   PlanOrNo answer = frontier.within(parse_bytes("24MB"));
//
// A budget only filters: a candidate fits when its placed arena does, and the fastest that fits is taken. So more bytes
// never give a slower plan. The same variants give the same answers. Time is what a calibration measured
// (`PlanRequest`), else a roofline's.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "thimble/plan.h"

namespace thimble {

/// Where the batch is cut: every microbatch through the whole net, all of them through one group of blocks before the
/// next, or what is faster in a budget.
enum class LoopOrder : std::uint8_t { microbatch, block, either };

struct PlannerOptions {
  bool recompute = true;
  int most_evaluations = 12000;  ///< schedules tried for a graph and a cut; the search is counted, not timed
  LoopOrder loops = LoopOrder::microbatch;
};

/// One choice: a variant, which values its training step keeps, and where its loop over microbatches is split.
struct Candidate {
  std::size_t variant = 0;
  RecomputeRanks ranks{};  ///< empty: everything
  std::vector<LoopSplit> splits{};
  bool spend_slack = true;  ///< as `ProgramRequest` has it: faster in as many live bytes, which may be harder to place
  Bytes live{};             ///< max live of the training step, which workspaces may fill: its arena is not smaller
  double milliseconds = 0;  ///< predicted, of one training step
  double recompute_milliseconds = 0;
};

struct DoesNotFit {
  Plan smallest;      ///< the smallest arena among all candidates: with that many bytes it fits
  Bytes lower_bound;  ///< nothing that keeps the variants' graphs fits in less: persistent bytes and the largest op
};
using PlanOrNo = std::variant<Plan, DoesNotFit>;
/// The plan, or where none fits the smallest.
const Plan& plan_or_smallest(const PlanOrNo& answer);

class Frontier {
 public:
  /// The first program of each variant is the training step that candidates are found for. Programs of the same graph
  /// but for sizes (a short batch, another bucket) choose among the same, each the fastest that its bytes leave room
  /// for. Throws InvalidArgument where there is no variant.
  Frontier(std::vector<PlanRequest> variants, const OpRegistry& registry, PlannerOptions options = {});

  /// Fastest first, then fewest bytes; none is slower and larger than another, by predicted time and live bytes.
  const std::vector<Candidate>& candidates() const { return candidates_; }
  /// Placed. Other steps take what is fastest in the bytes that this candidate needs for all of them.
  Plan plan(const Candidate& candidate) const;
  PlanOrNo within(Bytes budget) const;
  /// Plans of at most `most` candidates spread over the curve, fastest first, each smaller than the one before.
  std::vector<Plan> curve(std::size_t most) const;

 private:
  Bytes lower_bound() const;
  struct Search;
  std::vector<Search> start_searches(const std::vector<std::size_t>& group, int most_evaluations) const;
  static std::vector<RecomputeRanks> found_by(std::vector<Search>& searches);
  std::int64_t largest_part(std::size_t variant) const;
  void add_variant(std::size_t variant, const std::vector<RecomputeRanks>& ranks, LoopOrder loops,
                   std::vector<std::vector<LoopSplit>>& splits);
  struct Choice {                          // of a program
    const Candidate* candidate = nullptr;  // null where it is no step
    Bytes room{};                          // as `ProgramRequest` has it
  };
  using Choices = std::vector<Choice>;
  std::vector<std::size_t> other_steps(std::size_t variant) const;
  Bytes live(std::size_t variant, std::size_t program, const Candidate& candidate) const;
  std::optional<Choices> others_within(std::size_t variant, Bytes budget, const Candidate* fitting) const;
  PlanRequest request_of(std::size_t variant, const Choices& choices) const;
  Plan plan_alike(const Candidate& candidate) const;
  std::optional<Plan> plan_within(const Candidate& candidate, Choices& others, Bytes budget) const;
  std::optional<Plan> fastest_within(Bytes bytes, const Candidate* fitting = nullptr) const;
  Plan smallest() const;

  std::vector<PlanRequest> variants_;
  const OpRegistry& registry_;
  std::vector<Candidate> candidates_;
};

}  // namespace thimble
