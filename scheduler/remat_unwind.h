// Search from the end over the tensors required at a point: an op is undone once nobody who has still to run reads what
// it makes, and its inputs become required in place of its outputs. Or a required tensor is shed: it is made again
// right here, beside all the others, by each op once where that fits, otherwise as a table says that has, for each
// tensor, how to make it from nothing in how much room and at what cost. The table is filled from the inputs upwards by
// the same search.
#pragma once

#include <cmath>
#include <optional>

#include "remat_state.h"

namespace thimble::remat {

inline constexpr std::int32_t kLargestUnwinding = 640;  ///< tensors; the table takes the square of it: seconds

class Unwinder {
 public:
  /// Every tensor has one producer; there are at most kLargestUnwinding, and of ops too.
  Unwinder(const Graph& graph, std::int64_t budget, std::int64_t effort_limit);

  /// A schedule of everything, or none where no search gets there, the schedule becomes too long or the effort is
  /// spent.
  std::optional<Sequence> run();

 private:
  using Set = TensorSet<kLargestUnwinding / 64>;  // of tensors, or of ops
  struct Step {
    enum Kind : std::uint8_t { undo, shed } kind;
    std::int32_t id;  // of the op; of the tensor
  };
  using Path = std::vector<Step>;  // from the end
  struct Making {                  // of a tensor with nothing else there
    std::int64_t room;
    double cost;
    Path path;
  };
  struct Grid {             // of the rooms in the table
    double ratio;           // of one to the one before
    bool searches_by_cost;  // too, where few ops are needed
  };
  struct Style {
    double threshold = -1;      // shed while more than this share of the room is required; below 0: all that may be
    double most = HUGE_VAL;     // that making a shed tensor again may cost, where all are shed
    double byte_price = 0;      // of a required byte beside cost, where a threshold is kept to
    std::size_t width = 1;      // of the beam
    bool makes_beside = false;  // looks at making what is shed by each op once
    bool sheds_all() const { return threshold < 0; }
  };
  struct State {
    Set required, pending;  // tensors; ops that have to run before
    std::size_t left = 0;   // pending ops
    std::int64_t held = 0;  // bytes required
    double cost = 0;        // of all that runs from here to the end
    double key = 0;
    std::uint64_t hash = 0;  // of what is required
    std::int32_t last = -1;  // of steps_
  };
  struct Child {  // a state after one more op
    double key;
    std::int32_t from, op;
  };
  struct Bucket {  // states with as many pending ops, found already or still to be made
    std::vector<State> states, parents;
    std::vector<Child> children;
  };
  struct Trace {  // of a path, step by step; `held` is while an op runs, or before a shed
    std::vector<std::int64_t> held;
    std::vector<Set> required;       // before a shed
    std::vector<double> price;       // infinite where it no longer fits
    std::vector<std::size_t> until;  // by shed: the op that reads the tensor next; itself where none does
    std::vector<std::size_t> sheds;
    std::vector<char> is_gone;
    double sum = 0;  // of prices
  };

  // Sets and states (remat_unwind.cpp).
  std::int32_t maker(std::int32_t tensor) const { return graph_.chosen[static_cast<std::size_t>(tensor)]; }
  std::int64_t size(std::int32_t tensor) const { return graph_.bytes[static_cast<std::size_t>(tensor)]; }
  static constexpr double kSmallCost = 1e-3;  // so that what costs nothing is not run for nothing
  double cost_of(std::int32_t op) const {
    return static_cast<double>(graph_.cost[static_cast<std::size_t>(op)]) + kSmallCost;
  }
  std::int64_t bytes(const Set& set) const;
  // Bytes of inputs that undoing an op adds, of outputs that it takes away, and of what is there only while it runs.
  std::int64_t added(std::int32_t op, const Set& required) const {
    return absent(graph_.in[static_cast<std::size_t>(op)], required);
  }
  std::int64_t gone(std::int32_t op, const Set& required) const {
    std::int64_t sum = 0;
    for (const std::int32_t t : graph_.out[static_cast<std::size_t>(op)]) sum += required.has(t) ? size(t) : 0;
    return sum;
  }
  std::int64_t beside(std::int32_t op, const Set& required) const {
    return graph_.workspace[static_cast<std::size_t>(op)] + absent(graph_.out[static_cast<std::size_t>(op)], required);
  }
  std::int64_t absent(const std::vector<std::int32_t>& tensors, const Set& required) const {
    std::int64_t sum = 0;
    for (const std::int32_t t : tensors) sum += required.has(t) ? 0 : size(t);
    return sum;
  }
  // How many bytes fewer are required once an op is undone; 0 where that are no fewer.
  std::int64_t gain(std::int32_t op, const Set& required) const {
    std::int64_t sum = gone(op, required);
    for (const std::int32_t t : graph_.in[static_cast<std::size_t>(op)]) {
      if (sum <= 0) return 0;
      sum -= required.has(t) ? 0 : size(t);
    }
    return sum > 0 ? sum : 0;
  }
  std::int64_t held_while(std::int32_t op, const State& s) const {
    return s.held + added(op, s.required) + beside(op, s.required);
  }
  bool is_awaited(std::int32_t op, const Set& pending) const {
    return reading_[static_cast<std::size_t>(op)].intersects(pending);
  }
  void set_pending(State& s) const;
  State state_of(const Set& required) const;
  void flip(std::int32_t tensor, State& s) const {  // requires it, or no longer
    const bool was_required = s.required.has(tensor);
    was_required ? s.required.remove(tensor) : s.required.add(tensor);
    s.held += was_required ? -size(tensor) : size(tensor);
    s.hash ^= hash_[static_cast<std::size_t>(tensor)];
  }
  void undo(std::int32_t op, State& s);
  void shed(std::int32_t tensor, double cost, State& s);

  // The beam (remat_unwind_search.cpp).
  std::optional<Path> search(const Set& goal, std::int64_t room, const Style& style, double cap = HUGE_VAL);
  void grow(Bucket& bucket, std::size_t pending);
  void spread(Bucket& bucket, Bucket& next);
  void keep_best(std::vector<State>& states) const;
  double key_of(double cost, std::int64_t held) const;
  bool make_room(State& s, std::int32_t op);
  void shed_all(State& s);
  bool shed_one(State& s, const Set& spared);

  // Making tensors again (remat_remake.cpp).
  double alone(std::int32_t tensor, std::int64_t room) const;
  double remake(std::int32_t tensor, const Set& rest, std::int64_t room, double cap, Sequence* ops);
  double price(std::int32_t tensor, const Set& required, std::int64_t held, double cap);
  void fill_table(const Grid& grid);
  void make_alone(std::int32_t tensor, const Grid& grid);
  std::optional<Path> least_room(std::int32_t tensor, std::int64_t& room);
  Trace trace(const Set& goal, const Path& path);
  bool try_to_hold(std::size_t i, const Path& path, Trace& trace);
  double hold(const Set& goal, Path& path);

  // The schedule (remat_unwind_emit.cpp).
  std::optional<Path> cheapest_of_all_shed(const Set& goal);
  std::optional<Sequence> write(const Set& goal, const Path& path);
  void emit(const Path& path, const Set& rest);
  void emit_remake(std::int32_t tensor);
  bool is_spent() const { return static_cast<double>(effort_) > share_ * static_cast<double>(effort_limit_); }

  const Graph& graph_;
  std::int64_t budget_, effort_ = 0, effort_limit_;
  double share_ = 1;                                // of the effort that may be spent by now
  std::vector<Set> ancestors_;                      // by tensor: the ops that it takes
  std::vector<Set> reading_;                        // by op: those that read what it makes
  std::vector<double> once_;                        // by tensor: what all its ancestors cost
  std::vector<std::int32_t> level_;                 // by op: of the longest path to it
  std::vector<std::vector<std::int32_t>> readers_;  // by tensor: ops, highest level first
  std::vector<std::uint64_t> hash_;                 // by tensor
  std::vector<std::vector<Making>> table_;          // by tensor: more room, less cost
  // Of the search that runs.
  std::int64_t room_ = 0;
  Style style_;
  double cap_ = HUGE_VAL;
  std::vector<std::int64_t> beside_;  // by tensor: bytes besides itself that making it may take, at what it may cost
  std::vector<Bucket> buckets_;       // by number of pending ops
  std::int32_t end_ = -1;             // of steps_: of the cheapest path that got to the end
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
