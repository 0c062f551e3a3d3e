#include "recompute_sequence.h"

#include <algorithm>

#include "thimble/error.h"

namespace thimble {
namespace {

class SequenceBuilder {
 public:
  SequenceBuilder(const Graph& graph, const RecomputeBasis& basis, const RecomputeRanks& ranks, const OpLoops* loops)
      : graph_(graph),
        basis_(basis),
        ranks_(ranks),
        loops_(loops),
        available_(graph.tensors.size(), 1),
        in_pass_(graph.ops.size(), 0),
        place_(graph.ops.size(), 0) {
    for (std::size_t i = 0; i < basis.order.size(); ++i) place_[basis.order[i]] = i;
  }

  LoopSequence build() {
    bool is_backward = false;
    std::int32_t repeat = 0;
    for (OpId op : ops_in_repeats()) {
      if (loops_ != nullptr && loops_->repeat_of[op] != repeat) {
        repeat = loops_->repeat_of[op];
        end_repeat();
      }
      const Phase phase = graph_.ops[op].phase;
      if (phase == Phase::backward && !is_backward) {
        is_backward = true;
        drop_unkept();
      }
      if (phase == Phase::backward || loops_ != nullptr) make_inputs_of(op);
      sequence_.push_back(op);
      if (loops_ == nullptr) continue;
      for (TensorId t : graph_.ops[op].outputs) available_[t] = 1;
    }
    ends_.push_back(sequence_.size());
    return with_updates();
  }

 private:
  // All but updates.
  std::vector<OpId> ops_in_repeats() const {
    std::vector<OpId> ops;
    for (OpId op : basis_.order)
      if (graph_.ops[op].phase != Phase::update) ops.push_back(op);
    if (loops_ != nullptr)
      std::stable_sort(ops.begin(), ops.end(),
                       [&](OpId a, OpId b) { return loops_->repeat_of[a] < loops_->repeat_of[b]; });
    return ops;
  }

  bool is_repeatable(OpId op) const { return op != kNoOp && basis_.may_repeat[op] != 0; }
  bool is_view(TensorId t) const {
    const OpId producer = graph_.tensors[t].producer;
    return producer != kNoOp && basis_.is_view[producer] != 0;
  }
  bool passes(TensorId t) const { return loops_ != nullptr && loops_->passes[t] != 0; }

  // Of what may be made again only this is left. A view is there while what it looks at is; by id, so that views of
  // views follow.
  template <class Predicate>
  void keep_only(Predicate is_kept) {
    for (std::size_t i = 0; i < graph_.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      const OpId producer = graph_.tensors[id].producer;
      if (!is_repeatable(producer)) continue;
      available_[id] = is_view(id) ? available_[graph_.ops[producer].inputs[0]] : available_[id] != 0 && is_kept(id);
    }
  }

  void drop_unkept() {
    keep_only([&](TensorId t) { return ranks_[t] == 0 || passes(t); });
  }

  // A microbatch's values are gone when the next one begins, and so is what looks at its inputs.
  void end_repeat() {
    ends_.push_back(sequence_.size());
    const auto set_inputs = [&](char is_there) {
      for (std::size_t i = 0; i < graph_.tensors.size(); ++i)
        if (const Tensor& tensor = graph_.tensors[static_cast<TensorId>(i)]; tensor.producer == kNoOp)
          available_[static_cast<TensorId>(i)] = is_there != 0 || !tensor.type.batched || is_persistent(tensor);
    };
    set_inputs(0);
    keep_only([&](TensorId t) { return passes(t); });
    set_inputs(1);
  }

  // The ops one pass has to run so that `wanted` is there, in topological order.
  std::vector<OpId> pass_for(const std::vector<TensorId>& wanted) {
    std::vector<OpId> pass;
    std::vector<TensorId> open;
    for (TensorId t : wanted)
      if (available_[t] == 0) open.push_back(t);
    while (!open.empty()) {
      const OpId producer = graph_.tensors[open.back()].producer;
      open.pop_back();
      char& seen = in_pass_[producer];
      if (seen != 0) continue;
      seen = 1;
      pass.push_back(producer);
      for (TensorId input : graph_.ops[producer].inputs)
        if (available_[input] == 0) open.push_back(input);
    }
    for (OpId op : pass) in_pass_[op] = 0;
    std::sort(pass.begin(), pass.end(), [&](OpId a, OpId b) { return place_[a] < place_[b]; });
    return pass;
  }

  void make_inputs_of(OpId op) {
    const std::vector<TensorId>& wanted = graph_.ops[op].inputs;
    const std::vector<OpId> pass = pass_for(wanted);
    std::int32_t smallest = kWithinBlock;
    std::size_t block_begin = 0;  // in the pass: where its last value between blocks is made
    for (std::size_t i = 0; i < pass.size(); ++i) {
      sequence_.push_back(pass[i]);
      for (TensorId t : graph_.ops[pass[i]].outputs) {
        smallest = std::min(smallest, ranks_[t]);
        if (std::binary_search(basis_.between.begin(), basis_.between.end(), t)) block_begin = i;
      }
    }
    for (std::size_t i = 0; i < pass.size(); ++i)
      for (TensorId t : graph_.ops[pass[i]].outputs) {
        const bool is_wanted = std::find(wanted.begin(), wanted.end(), t) != wanted.end();
        const bool is_ranked =
            (ranks_[t] < kWithinBlock && ranks_[t] == smallest) || (ranks_[t] != kOnDemand && i >= block_begin);
        available_[t] = is_view(t) ? available_[graph_.ops[pass[i]].inputs[0]] : is_wanted || is_ranked;
      }
  }

  // Each update directly behind the last step that it has to wait for, or behind the repeat that this stands in.
  LoopSequence with_updates() const {
    IdVector<TensorId, std::size_t> ready(graph_.tensors.size(), 0);  // steps done when it was made and read last
    for (std::size_t i = 0; i < sequence_.size(); ++i) {
      const Op& op = graph_.ops[sequence_[i]];
      for (TensorId t : op.inputs) touch(ready, t, i + 1);
      for (TensorId t : op.outputs) touch(ready, t, i + 1);
    }
    std::vector<std::vector<OpId>> after(sequence_.size() + 1);
    for (OpId id : basis_.order) {
      const Op& op = graph_.ops[id];
      if (op.phase != Phase::update) continue;
      std::size_t at = 0;
      for (TensorId t : op.inputs) at = std::max(at, ready[t]);
      for (TensorId t : op.outputs) ready[t] = at;
      if (loops_ != nullptr && !sequence_.empty())
        at = loops_->barrier_before_update ? ends_.back() : end_of_repeat(at);
      after[at].push_back(id);
    }
    LoopSequence all{after[0], {}};
    std::size_t begin = 0;
    for (std::size_t end : ends_) {
      const auto place = static_cast<std::int64_t>(all.ops.size());
      for (std::size_t i = begin; i < end; ++i) {
        all.ops.push_back(sequence_[i]);
        if (i + 1 == end) all.repeats.push_back({place, static_cast<std::int64_t>(all.ops.size())});
        all.ops.insert(all.ops.end(), after[i + 1].begin(), after[i + 1].end());
      }
      begin = end;
    }
    return all;
  }

  std::size_t end_of_repeat(std::size_t steps_done) const {
    return *std::lower_bound(ends_.begin(), ends_.end(), std::max<std::size_t>(steps_done, 1));
  }

  // Who reads a view reads what it looks at.
  void touch(IdVector<TensorId, std::size_t>& ready, TensorId t, std::size_t at) const {
    ready[t] = std::max(ready[t], at);
    if (is_view(t)) touch(ready, graph_.ops[graph_.tensors[t].producer].inputs[0], at);
  }

  const Graph& graph_;
  const RecomputeBasis& basis_;
  const RecomputeRanks& ranks_;
  const OpLoops* loops_;
  IdVector<TensorId, char> available_;
  IdVector<OpId, char> in_pass_;
  IdVector<OpId, std::size_t> place_;  // in the order
  std::vector<OpId> sequence_;
  std::vector<std::size_t> ends_;  // of the repeats, in the sequence
};

}  // namespace

LoopSequence build_sequence(const Graph& graph, const RecomputeBasis& basis, const RecomputeRanks& ranks,
                            const OpLoops* loops) {
  if (ranks.size() != graph.tensors.size())
    throw InvalidArgument("recompute: " + std::to_string(ranks.size()) + " ranks for " +
                          std::to_string(graph.tensors.size()) + " tensors");
  return SequenceBuilder(graph, basis, ranks, loops).build();
}

}  // namespace thimble
