// Moves on a sequence: give a tensor up between two readers and make it again (less memory, more cost), or let a
// repeated op go and hold its outputs instead (more memory, less cost).
#pragma once

#include <optional>

#include "remat_timeline.h"

namespace thimble::remat {

/// A small deterministic generator, so that runs can be told apart by a seed (SplitMix64, Steele et al. 2014).
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
  double real() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

/// How repair chooses among gaps.
struct RepairStyle {
  double relief_exponent = 1;  ///< how much a large relief counts against a small cost
  double noise = 0;            ///< each score is multiplied by a random factor from [1 - noise, 1 + noise]
  bool peak_only = false;      ///< relief at the worst step alone, not over all steps above the budget
  bool many = false;           ///< give up many tensors at a time: fewer looks at long sequences
};

class Mover {
 public:
  Mover(const Graph& graph, std::int64_t budget, std::uint64_t seed, std::int64_t effort_limit);

  Timeline& timeline() { return timeline_; }
  Dice& dice() { return dice_; }
  /// Whether as many steps of sequences have been looked at as were allowed. What runs then ends as it is.
  bool is_spent() const { return effort_ >= effort_limit_; }
  std::int64_t effort() const { return effort_; }

  /// Gives tensors up until the budget holds. False where it gets stuck, needs more than `most_steps` moves or costs
  /// `give_up_at`.
  bool repair(const RepairStyle& style, std::int32_t most_steps, Cost give_up_at);

  /// Lets every repeated op go that the budget allows to let go, dearest first.
  void tidy();

  /// Lets the repeated op at `position` go, whatever the memory says. False where something would miss its outputs.
  bool let_go(std::int32_t position);

 private:
  struct Plan {
    Sequence ops;                       // to run before `before`
    std::vector<std::int32_t> removed;  // positions
    std::int32_t before = 0;
    double gain = 0;  // bytes above the budget, summed over steps, that go away
    Cost cost = 0;
    double score = 0;
    std::int64_t bytes = 0;  // of the tensor given up
  };

  bool repair_once(const RepairStyle& style);
  std::optional<Plan> plan(const Gap& gap, const RepairStyle& style);
  std::optional<Plan> plan_earlier_read(const Gap& gap);
  bool make(std::int32_t tensor, std::int32_t at, int depth, Sequence& ops);
  bool is_held(std::int32_t tensor, std::int32_t at) const;
  std::int32_t producer_for(std::int32_t tensor, std::int32_t at) const;
  std::int64_t overflow_of(const Plan& plan, std::int32_t dropped);
  void spare_later_runs(Plan& plan);
  bool spare_first_run(const Gap& gap, Plan& plan) const;
  bool can_let_go(std::int32_t position);
  void apply(const std::vector<Plan>& plans);

  const Graph& graph_;
  std::int64_t budget_;
  Timeline timeline_;
  Dice dice_;
  std::int64_t effort_ = 0, effort_limit_;
  std::int32_t given_up_ = -1;          // tensor of the gap being planned for
  std::vector<char> in_plan_;           // by tensor: made by the plan being drawn up
  std::vector<std::int32_t> last_use_;  // by tensor, scratch
  std::vector<std::int32_t> extended_;  // tensors held longer by the plan being drawn up
};

}  // namespace thimble::remat
