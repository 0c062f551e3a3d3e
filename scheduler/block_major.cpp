// Block-major order: which group of blocks every op belongs to, and with that which repeat it runs in.
#include <algorithm>

#include "recompute_sequence.h"
#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::int32_t kNoRepeat = -1, kNeverSeen = -2;

class BlockGroups {
 public:
  BlockGroups(const Graph& graph, const RecomputeBasis& basis, std::vector<LoopSplit> splits)
      : graph_(graph),
        basis_(basis),
        splits_(std::move(splits)),
        group_(graph.ops.size(), 0),
        read_in_(graph.tensors.size(), 0),
        split_at_(graph.tensors.size(), 0) {
    leg_.push_back(0);
    for (std::size_t k = 0; k < splits_.size(); ++k) {
      split_at_[splits_[k].value] = static_cast<std::int32_t>(k) + 1;
      leg_.push_back(leg_.back() + (splits_[k].rebuilt ? 0 : 1));
    }
    group_forward_ops();
    delay_forward_ops();
    group_updates();
    group_backward_ops();
    hoist_sums();
    find_loops();
  }

  // Whether updates wait for weights on both sides of the first split.
  bool parts_the_updates() const {
    bool before = false, after = false;
    for (OpId op : basis_.order)
      if (graph_.ops[op].phase == Phase::update) (group_[op] == 0 ? before : after) = true;
    return before && after;
  }

  // Whether every op finds its inputs, or can have them made again, in the repeat that it stands in.
  bool can_run() const {
    if (!splits_.empty() && splits_.back().rebuilt) return false;
    IdVector<TensorId, std::int32_t> seen(graph_.tensors.size(), kNeverSeen);
    for (const Rebuild& rebuild : loops_.rebuilds)
      for (TensorId t : rebuild.values) {
        const OpId producer = graph_.tensors[t].producer;
        if (basis_.may_repeat[producer] == 0 || !can_have_all(graph_.ops[producer].inputs, kNoRepeat, seen))
          return false;
      }
    return std::all_of(basis_.order.begin(), basis_.order.end(), [&](OpId op) {
      if (graph_.ops[op].phase == Phase::update) return true;
      return can_have_all(graph_.ops[op].inputs, loops_.repeat_of[op], seen);
    });
  }

  const OpLoops& loops() const { return loops_; }

  // Whether nothing passes from group to group on the way forward but this, side values and views.
  bool passes_only(TensorId split) const {
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      const OpId producer = graph_.tensors[id].producer;
      if (loops_.passes[id] == 0 || producer == kNoOp || basis_.is_view[producer] != 0 || id == split) continue;
      if (!std::binary_search(basis_.side.begin(), basis_.side.end(), id)) return false;
    }
    return true;
  }

 private:
  bool is_made_forward(TensorId t) const { return is_made_in(t, Phase::forward); }
  bool is_made_in(TensorId t, Phase phase) const {
    const OpId producer = graph_.tensors[t].producer;
    return producer != kNoOp && graph_.ops[producer].phase == phase;
  }
  bool is_batched(TensorId t) const { return graph_.tensors[t].type.batched; }

  // A view is held with what it looks at.
  void pass_on(TensorId t, IdVector<TensorId, char>& passes) const {
    if (!is_batched(t)) return;
    passes[t] = 1;
    const OpId producer = graph_.tensors[t].producer;
    if (producer != kNoOp && basis_.is_view[producer] != 0) pass_on(graph_.ops[producer].inputs[0], passes);
  }

  // As many splits as an op depends on.
  void group_forward_ops() {
    for (OpId op : basis_.order) {
      if (graph_.ops[op].phase != Phase::forward) continue;
      for (TensorId t : graph_.ops[op].inputs)
        if (is_made_forward(t)) group_[op] = std::max({group_[op], split_at_[t], group_[graph_.tensors[t].producer]});
    }
  }

  // What nothing reads before a later group is made there. The splits themselves end a group.
  void delay_forward_ops() {
    for (std::size_t i = basis_.order.size(); i-- > 0;) {
      const OpId id = basis_.order[i];
      const Op& op = graph_.ops[id];
      if (op.phase != Phase::forward) continue;
      std::int32_t first = kNoRepeat;
      bool is_split = false;
      for (TensorId t : op.outputs) {
        is_split = is_split || split_at_[t] != 0;
        for (OpId reader : graph_.tensors[t].consumers)
          if (graph_.ops[reader].phase == Phase::forward && (first == kNoRepeat || group_[reader] < first))
            first = group_[reader];
      }
      if (!is_split) group_[id] = std::max(group_[id], first);
    }
  }

  // The last group that reads the weight, or what is made of weights alone.
  void group_updates() {
    for (std::size_t i = basis_.order.size(); i-- > 0;) {
      const Op& op = graph_.ops[basis_.order[i]];
      if (op.phase != Phase::forward) continue;
      std::int32_t last = group_[basis_.order[i]];
      for (TensorId t : op.outputs)
        if (!is_batched(t)) last = std::max(last, read_in_[t]);
      for (TensorId t : op.inputs) read_in_[t] = std::max(read_in_[t], last);
    }
    for (OpId op : basis_.order)
      if (graph_.ops[op].phase == Phase::update)
        for (TensorId t : graph_.ops[op].inputs)
          if (graph_.tensors[t].role == Role::weight && graph_.tensors[t].producer == kNoOp)
            group_[op] = std::max(group_[op], read_in_[t]);
  }

  // The last group whose updates wait for an op, or whose weights or inner values it reads.
  void group_backward_ops() {
    for (std::size_t i = basis_.order.size(); i-- > 0;) {
      const OpId id = basis_.order[i];
      if (graph_.ops[id].phase != Phase::backward) continue;
      for (TensorId t : graph_.ops[id].outputs)
        for (OpId reader : graph_.tensors[t].consumers) group_[id] = std::max(group_[id], group_[reader]);
      for (TensorId t : graph_.ops[id].inputs) {
        if (graph_.tensors[t].role == Role::weight && graph_.tensors[t].producer == kNoOp)
          group_[id] = std::max(group_[id], read_in_[t]);
        if (is_made_forward(t)) group_[id] = std::max(group_[id], group_[graph_.tensors[t].producer]);
      }
    }
  }

  // What reads nothing but gradients of later groups is made there, unless more would pass on than does: so a sum of
  // gradients passes on instead of its parts.
  void hoist_sums() {
    for (OpId id : basis_.order) {
      const Op& op = graph_.ops[id];
      if (op.phase != Phase::backward) continue;
      std::int32_t from = static_cast<std::int32_t>(splits_.size());
      bool is_free = true;
      for (TensorId t : op.inputs) {
        is_free = is_free && is_batched(t) && is_made_in(t, Phase::backward);
        if (is_free) from = std::min(from, group_[graph_.tensors[t].producer]);
      }
      if (!is_free || from <= group_[id]) continue;
      Bytes ends, begins;
      for (TensorId t : op.inputs) ends += ends_with(t, id, from) ? bytes_of(graph_.tensors[t].type) : Bytes{};
      for (TensorId t : op.outputs) begins += bytes_of(graph_.tensors[t].type);
      if (ends >= begins) group_[id] = from;
    }
  }

  // Whether nobody but `reader` reads the value after `group`.
  bool ends_with(TensorId t, OpId reader, std::int32_t group) const {
    const std::vector<OpId>& readers = graph_.tensors[t].consumers;
    return std::all_of(readers.begin(), readers.end(),
                       [&](OpId other) { return other == reader || group_[other] >= group; });
  }

  // Forward from each split that is held to the next, the last group also backward, then the others backwards.
  void find_loops() {
    const auto last = static_cast<std::int32_t>(splits_.size());
    loops_.repeat_of = IdVector<OpId, std::int32_t>(graph_.ops.size(), 0);
    loops_.passes = IdVector<TensorId, char>(graph_.tensors.size(), 0);
    IdVector<TensorId, char> is_held(graph_.tensors.size(), 0);
    for (OpId op : basis_.order) {
      const bool is_forward = graph_.ops[op].phase == Phase::forward;
      loops_.repeat_of[op] = is_forward ? leg_of(group_[op]) : leg_of(last) + last - group_[op];
      for (TensorId t : graph_.ops[op].inputs) {
        if (!is_forward || !is_made_forward(t)) continue;
        const std::int32_t from = group_[graph_.tensors[t].producer];
        if (from != group_[op]) pass_on(t, loops_.passes);
        if (leg_of(from) != leg_of(group_[op])) pass_on(t, is_held);
      }
    }
    for (std::int32_t group = 0; group < last; ++group)
      if (leg_of(group) != leg_of(group + 1)) add_rebuild(group, is_held);
  }

  // What passes between the groups of the leg that ends with this one.
  void add_rebuild(std::int32_t group, const IdVector<TensorId, char>& is_held) {
    Rebuild rebuild{
        leg_of(static_cast<std::int32_t>(splits_.size())) + static_cast<std::int32_t>(splits_.size()) - group, {}};
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      const OpId producer = graph_.tensors[id].producer;
      if (loops_.passes[id] != 0 && is_held[id] == 0 && producer != kNoOp && basis_.is_view[producer] == 0 &&
          leg_of(group_[producer]) == leg_of(group))
        rebuild.values.push_back(id);
    }
    if (!rebuild.values.empty()) loops_.rebuilds.push_back(std::move(rebuild));
  }

  std::int32_t leg_of(std::int32_t group) const { return leg_[static_cast<std::size_t>(group)]; }

  // A value of another repeat is a sum or a new version, or holds the whole batch, or is made again. `seen`: for which
  // repeat this was asked last; a value that it cannot have ends the search.
  bool can_have(TensorId t, std::int32_t repeat, IdVector<TensorId, std::int32_t>& seen) const {
    const OpId producer = graph_.tensors[t].producer;
    if (producer == kNoOp || loops_.repeat_of[producer] == repeat || loops_.passes[t] != 0) return true;
    if (basis_.is_sum[producer] != 0 || graph_.tensors[t].version_of != kNoTensor) return true;
    if (basis_.may_repeat[producer] == 0) return is_batched(t);
    if (seen[t] == repeat) return true;
    seen[t] = repeat;
    return can_have_all(graph_.ops[producer].inputs, repeat, seen);
  }

  bool can_have_all(const std::vector<TensorId>& all, std::int32_t repeat,
                    IdVector<TensorId, std::int32_t>& seen) const {
    return std::all_of(all.begin(), all.end(), [&](TensorId t) { return can_have(t, repeat, seen); });
  }

  const Graph& graph_;
  const RecomputeBasis& basis_;
  std::vector<LoopSplit> splits_;
  std::vector<std::int32_t> leg_;  // of each group: splits before it that are held
  IdVector<OpId, std::int32_t> group_;
  IdVector<TensorId, std::int32_t> read_in_;   // the last group of the forward phase that reads it
  IdVector<TensorId, std::int32_t> split_at_;  // the group that it begins, 0: no split
  OpLoops loops_;
};

std::vector<LoopSplit> in_order_of_making(const Graph& graph, const RecomputeBasis& basis,
                                          const std::vector<LoopSplit>& splits) {
  std::vector<LoopSplit> ordered;
  for (OpId op : basis.order)
    for (TensorId t : graph.ops[op].outputs)
      for (const LoopSplit& split : splits)
        if (split.value == t) ordered.push_back(split);
  return ordered;
}

}  // namespace

std::vector<TensorId> loop_splits(const Graph& graph, const RecomputeBasis& basis) {
  std::vector<TensorId> splits;
  for (OpId op : basis.order)
    for (TensorId t : graph.ops[op].outputs) {
      if (!std::binary_search(basis.between.begin(), basis.between.end(), t)) continue;
      const BlockGroups groups(graph, basis, {{.value = t}});
      if (groups.parts_the_updates() && groups.passes_only(t) && groups.can_run()) splits.push_back(t);
    }
  return splits;
}

LoopSequence block_major_sequence(const Graph& graph, const RecomputeBasis& basis, const RecomputeRanks& ranks,
                                  const std::vector<LoopSplit>& splits, bool barrier_before_update) {
  const std::vector<LoopSplit> ordered = in_order_of_making(graph, basis, splits);
  const BlockGroups groups(graph, basis, ordered);
  if (ordered.size() != splits.size() || !groups.can_run())
    throw InvalidArgument("recompute: the loop over microbatches cannot be split at every one of " +
                          std::to_string(splits.size()) + " values; take those of loop_splits");
  OpLoops loops = groups.loops();
  loops.barrier_before_update = barrier_before_update;
  return SequenceBuilder(graph, basis, &loops).build(ranks);
}

}  // namespace thimble
