#include "recompute_sequence.h"

#include <algorithm>

#include "thimble/error.h"
#include "thimble/op_tensors.h"

namespace thimble {

// The class keeps its vectors from one sequence to the next: a search asks for thousands.
class SequenceBuilder::Impl {
 public:
  Impl(const Graph& graph, const RecomputeBasis& basis, const OpLoops* loops)
      : graph_(graph),
        basis_(basis),
        loops_(loops),
        op_tensors_(graph),
        viewed_(graph.tensors.size(), kNoTensor),
        is_between_(graph.tensors.size(), 0),
        in_repeats_(ops_in_repeats()),
        awaited_(graph.ops.size()),
        in_pass_(graph.ops.size(), 0),
        place_(graph.ops.size(), 0),
        available_(graph.tensors.size(), 1),
        is_missing_(graph.tensors.size(), 0),
        ready_(graph.tensors.size(), 0) {
    for (std::size_t i = 0; i < basis.order.size(); ++i) place_[basis.order[i]] = i;
    for (TensorId t : basis.between) is_between_[t] = 1;
    for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      const OpId producer = graph.tensors[id].producer;
      producer_.push_back(producer);
      if (producer == kNoOp) continue;
      if (basis.is_view[producer] != 0) viewed_[id] = graph.ops[producer].inputs[0];
      if (basis.may_repeat[producer] != 0) repeatable_.push_back(id);
    }
    find_awaited();
  }

  const LoopSequence& build(const RecomputeRanks& ranks) {
    if (ranks.size() != graph_.tensors.size())
      throw InvalidArgument("recompute: " + std::to_string(ranks.size()) + " ranks for " +
                            std::to_string(graph_.tensors.size()) + " tensors");
    ranks_ = &ranks;
    std::fill(available_.begin(), available_.end(), 1);
    sequence_.clear();
    ends_.clear();
    std::fill(is_missing_.begin(), is_missing_.end(), 0);
    if (loops_ != nullptr)
      for (const Rebuild& rebuild : loops_->rebuilds)
        for (TensorId t : rebuild.values) is_missing_[t] = 1;
    bool is_backward = false;
    std::int32_t repeat = 0;
    for (OpId op : in_repeats_) {
      if (loops_ != nullptr && loops_->repeat_of[op] != repeat) {
        repeat = loops_->repeat_of[op];
        end_repeat();
        for (const Rebuild& rebuild : loops_->rebuilds)
          if (rebuild.before == repeat) make_for_the_batch(rebuild);
      }
      const Phase phase = graph_.ops[op].phase;
      if (phase == Phase::backward && !is_backward) {
        is_backward = true;
        drop_unkept();
      }
      if (phase == Phase::backward || loops_ != nullptr) make_inputs_of(op);
      sequence_.push_back(op);
      if (loops_ == nullptr) continue;
      for (TensorId t : op_tensors_.outputs(op)) available_[t] = 1;
    }
    ends_.push_back(sequence_.size());
    place_updates();
    return made_;
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

  // Whose last reader or maker an update has to come after. Who reads a view reads what it looks at.
  void find_awaited() {
    IdVector<TensorId, char> is_awaited(graph_.tensors.size(), 0);
    for (OpId op : basis_.order) {
      if (graph_.ops[op].phase != Phase::update) continue;
      updates_in_order_.push_back(op);
      for (TensorId t : op_tensors_.inputs(op)) is_awaited[t] = 1;
    }
    const auto add = [&](OpId op, TensorId touched) {
      for (TensorId t = touched; t != kNoTensor; t = viewed_[t])
        if (is_awaited[t] != 0) awaited_[op].push_back(t);
    };
    for (OpId op : in_repeats_) {
      for (TensorId t : op_tensors_.inputs(op)) add(op, t);
      for (TensorId t : op_tensors_.outputs(op)) add(op, t);
    }
  }

  bool passes(TensorId t) const { return loops_ != nullptr && loops_->passes[t] != 0; }

  // Of what may be made again only this is left. A view is there while what it looks at is; by id, so that views of
  // views follow.
  template <class Predicate>
  void keep_only(Predicate is_kept) {
    for (TensorId t : repeatable_)
      available_[t] = viewed_[t] != kNoTensor ? available_[viewed_[t]] : available_[t] != 0 && is_kept(t);
  }

  void drop_unkept() {
    keep_only([&](TensorId t) { return (*ranks_)[t] == 0 || passes(t); });
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
    keep_only([&](TensorId t) { return passes(t) && is_missing_[t] == 0; });
    set_inputs(1);
  }

  void make_for_the_batch(const Rebuild& rebuild) {
    for (OpId op : pass_for(rebuild.values)) {
      sequence_.push_back(op);
      for (TensorId t : op_tensors_.outputs(op)) available_[t] = 1;
    }
    for (TensorId t : rebuild.values) is_missing_[t] = 0;
    end_repeat();
  }

  // The ops one pass has to run so that `wanted` is there, in topological order.
  const std::vector<OpId>& pass_for(std::span<const TensorId> wanted) {
    pass_.clear();
    for (TensorId t : wanted)
      if (available_[t] == 0) open_.push_back(t);
    while (!open_.empty()) {
      const OpId producer = producer_[open_.back()];
      open_.pop_back();
      char& seen = in_pass_[producer];
      if (seen != 0) continue;
      seen = 1;
      pass_.push_back(producer);
      for (TensorId input : op_tensors_.inputs(producer))
        if (available_[input] == 0) open_.push_back(input);
    }
    for (OpId op : pass_) in_pass_[op] = 0;
    std::sort(pass_.begin(), pass_.end(), [&](OpId a, OpId b) { return place_[a] < place_[b]; });
    return pass_;
  }

  void make_inputs_of(OpId op) {
    const std::span<const TensorId> wanted = op_tensors_.inputs(op);
    const std::vector<OpId>& pass = pass_for(wanted);
    std::int32_t smallest = kWithinBlock;
    std::size_t block_begin = 0;  // in the pass: where its last value between blocks is made
    for (std::size_t i = 0; i < pass.size(); ++i) {
      sequence_.push_back(pass[i]);
      for (TensorId t : op_tensors_.outputs(pass[i])) {
        smallest = std::min(smallest, (*ranks_)[t]);
        if (is_between_[t] != 0) block_begin = i;
      }
    }
    for (std::size_t i = 0; i < pass.size(); ++i)
      for (TensorId t : op_tensors_.outputs(pass[i])) {
        const bool is_wanted = std::find(wanted.begin(), wanted.end(), t) != wanted.end();
        const bool is_ranked = ((*ranks_)[t] < kWithinBlock && (*ranks_)[t] == smallest) ||
                               ((*ranks_)[t] != kOnDemand && i >= block_begin);
        available_[t] = viewed_[t] != kNoTensor ? available_[viewed_[t]] : is_wanted || is_ranked;
      }
  }

  // Each update directly behind the last step that it has to wait for, or behind the repeat that this stands in.
  void place_updates() {
    std::fill(ready_.begin(), ready_.end(), 0);
    for (std::size_t i = 0; i < sequence_.size(); ++i)
      for (TensorId t : awaited_[sequence_[i]]) ready_[t] = i + 1;
    updates_.clear();
    for (OpId op : updates_in_order_) {
      std::size_t at = 0;
      for (TensorId t : op_tensors_.inputs(op)) at = std::max(at, ready_[t]);
      for (TensorId t : op_tensors_.outputs(op)) ready_[t] = at;
      if (loops_ != nullptr && !sequence_.empty())
        at = loops_->barrier_before_update ? ends_.back() : end_of_repeat(at);
      updates_.push_back({at, op});
    }
    std::stable_sort(updates_.begin(), updates_.end(),
                     [](const PlacedUpdate& a, const PlacedUpdate& b) { return a.after < b.after; });
    merge_updates();
  }

  void merge_updates() {
    made_.ops.clear();
    made_.repeats.clear();
    auto update = updates_.begin();
    const auto take_updates = [&](std::size_t steps_done) {
      for (; update != updates_.end() && update->after == steps_done; ++update) made_.ops.push_back(update->op);
    };
    take_updates(0);
    std::size_t begin = 0;
    for (std::size_t end : ends_) {
      const auto place = static_cast<std::int64_t>(made_.ops.size());
      for (std::size_t i = begin; i < end; ++i) {
        made_.ops.push_back(sequence_[i]);
        if (i + 1 == end) made_.repeats.push_back({place, static_cast<std::int64_t>(made_.ops.size())});
        take_updates(i + 1);
      }
      begin = end;
    }
  }

  std::size_t end_of_repeat(std::size_t steps_done) const {
    return *std::lower_bound(ends_.begin(), ends_.end(), std::max<std::size_t>(steps_done, 1));
  }

  struct PlacedUpdate {
    std::size_t after;  // steps of the sequence
    OpId op;
  };

  const Graph& graph_;
  const RecomputeBasis& basis_;
  const OpLoops* loops_;
  OpTensors op_tensors_;
  IdVector<TensorId, OpId> producer_;
  IdVector<TensorId, TensorId> viewed_;  // what a view looks at
  IdVector<TensorId, char> is_between_;
  std::vector<TensorId> repeatable_;
  std::vector<OpId> in_repeats_, updates_in_order_;
  IdVector<OpId, std::vector<TensorId>> awaited_;  // by updates: what an op makes or reads of it
  IdVector<OpId, char> in_pass_;
  IdVector<OpId, std::size_t> place_;  // in the order
  const RecomputeRanks* ranks_ = nullptr;
  IdVector<TensorId, char> available_;
  IdVector<TensorId, char> is_missing_;  // passes, but is not made again yet
  std::vector<OpId> sequence_, pass_;
  std::vector<TensorId> open_;
  std::vector<std::size_t> ends_;          // of the repeats, in the sequence
  IdVector<TensorId, std::size_t> ready_;  // steps done when it was made and read last
  std::vector<PlacedUpdate> updates_;
  LoopSequence made_;
};

SequenceBuilder::SequenceBuilder(const Graph& graph, const RecomputeBasis& basis, const OpLoops* loops)
    : impl_(std::make_unique<Impl>(graph, basis, loops)) {}

SequenceBuilder::~SequenceBuilder() = default;

const LoopSequence& SequenceBuilder::build(const RecomputeRanks& ranks) { return impl_->build(ranks); }

}  // namespace thimble
