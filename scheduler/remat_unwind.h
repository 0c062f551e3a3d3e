// Search from the end over pairs of sets: the ops that have still to run a first time (the pending ones) and the
// tensors required at this point. An op is undone once nobody pending reads what it makes: its inputs become required
// in place of its outputs. A required tensor that a pending op reads may be shed: it is made again right here.
#pragma once

#include <optional>

#include "remat_state.h"

namespace thimble::remat {

inline constexpr std::int32_t kLargestUnwinding = 640;  ///< tensors; the table takes the square of it: seconds

class Unwinder {
 public:
  struct Style {
    bool is_eager = false;  ///< hold as little as possible, whatever that costs
    double threshold = 1;   ///< otherwise: shed while more than this share of the room is required
    double byte_price = 1;  ///< of a required byte beside cost, in mean costs per byte of the graph
    std::size_t width = 1;  ///< of the beam
  };

  /// Every tensor has one producer; there are at most kLargestUnwinding.
  Unwinder(const Graph& graph, std::int64_t budget, std::int64_t effort_limit);

  /// A schedule of everything, or none where the beam ends, the schedule becomes too long or the effort is spent.
  std::optional<Sequence> run(const Style& style);

 private:
  using Set = TensorSet<kLargestUnwinding / 64>;
  // To make `goal` within `room` bytes while `rest` is held besides.
  struct Task {
    Set goal, rest;
    std::int64_t room = 0;
  };
  struct Step {
    enum Kind : std::uint8_t { undo, undo_extra, shed } kind;  // extra: while somebody pending reads what it makes
    std::int32_t id;                                           // of the op; of the tensor
  };
  using Path = std::vector<Step>;  // from the end
  struct State {
    Set required, pending;
    std::int64_t held = 0;  // bytes required
    double cost = 0;        // of what runs beyond its first time
    double key = 0;
    std::int32_t last = -1;  // of steps_
  };
  struct Candidate {
    double key;
    std::size_t hash, from;
    std::int32_t op;
  };
  struct Alone {  // making a tensor with nothing else there
    std::int64_t room = INT64_MAX / 2;
    double cost = 0;
    Path path;
  };
  struct Shedding {
    double score = 0, cost = 0;
    Step step{Step::shed, -1};
  };
  struct Trace;

  // Sets (remat_unwind.cpp).
  std::int32_t maker(std::int32_t tensor) const { return graph_.chosen[static_cast<std::size_t>(tensor)]; }
  std::int64_t size(std::int32_t tensor) const { return graph_.bytes[static_cast<std::size_t>(tensor)]; }
  static constexpr double kSmallCost = 1e-3;  // so that what costs nothing is not run for nothing
  double cost_of(std::int32_t op) const {
    return static_cast<double>(graph_.cost[static_cast<std::size_t>(op)]) + kSmallCost;
  }
  std::int64_t bytes(const Set& set) const;
  std::int32_t highest_reader(std::int32_t tensor, const Set& pending) const;
  bool is_awaited(std::int32_t op, const Set& pending) const;
  std::int64_t gain(std::int32_t op, const Set& required) const;
  std::int64_t held_while(std::int32_t op, const State& s) const;
  bool apply(const Step& step, State& s) const;

  // The beam (remat_unwind.cpp).
  State start() const;
  std::optional<Path> search(const Task& task, const Style& style);
  std::vector<Candidate> candidates() const;
  void advance();
  void take(State& s, const Step& step);
  double key_of(double cost, std::int64_t held) const;
  void shed_eagerly(State& s);
  void shed_above_threshold(State& s);
  Shedding best_shedding(const State& s);

  // Making tensors again (remat_remake.cpp).
  double remake(std::int32_t tensor, const Set& rest, std::int64_t room, double cap, Sequence* ops);
  double price(std::int32_t tensor, const Set& required, std::int64_t held, double cap);
  void make_alone(std::int32_t tensor);
  Trace trace(const Path& path);
  bool try_to_hold(std::size_t i, const Path& path, Trace& trace);
  double hold(const Task& task, Path& path);

  // The schedule (remat_unwind_emit.cpp).
  std::optional<Path> plan(const Task& task);
  void emit(const Path& path, const Set& rest);
  void emit_remake(std::int32_t tensor);

  const Graph& graph_;
  std::int64_t budget_, effort_, effort_limit_;
  std::vector<std::int32_t> level_;                 // by op: of the longest path to it
  std::vector<std::vector<std::int32_t>> readers_;  // by tensor: ops, highest level first
  double mean_price_ = 0;                           // cost per byte
  std::vector<Alone> alone_;                        // by tensor
  std::vector<std::int32_t> by_room_;               // tensors, those first that take least room beside themselves
  // Of the search that runs.
  Task task_;
  Style style_;
  std::vector<State> states_;
  struct Link {
    std::int32_t before;
    Step step;
  };
  std::vector<Link> steps_;
  // Of the schedule that is written down, from the end.
  Set required_;
  Sequence ops_;
};

}  // namespace thimble::remat
