// Live bytes of many sequences of one graph without their schedules: what a search asks thousands of times.
//
//   LiveCounter counter(graph, registry, {.microbatches = {100}, .workspaces = workspaces});
//   counter.count(recompute_sequence(graph, basis, ranks));  // live_by_step(make_schedule(...)), in a tenth of the
//   time
#pragma once

#include <vector>

#include "thimble/op_tensors.h"
#include "thimble/schedule.h"

namespace thimble {

class LiveCounter {
 public:
  /// `options` says the cut, which has at most one repeat, the barrier and every op's workspace. Throws InvalidArgument
  /// where these are not one per op or the cut is empty.
  LiveCounter(const Graph& graph, const OpRegistry& registry, const ScheduleOptions& options);

  /// The same as live_by_step of the schedule that make_schedule makes of this sequence, which has to be one that it
  /// accepts. Valid until the next call.
  const std::vector<Bytes>& count(const std::vector<OpId>& sequence);
  /// The op of each step of the sequence counted last.
  const std::vector<OpId>& steps() const { return steps_; }

 private:
  struct TensorFacts {
    Bytes size;  // of a storage for it
    TensorId version_of;
    bool given;
    bool is_callers;     // given, or a view of what is
    bool in_persistent;  // lies in the bytes of what persists, which are counted once for all
    bool batched, lasts, whole_batch;
  };
  struct Place {
    std::size_t input, output;
  };
  static constexpr std::size_t kNoOutput = static_cast<std::size_t>(-1);
  struct OpFacts {
    std::vector<Place> in_place;  // those that are as large
    Bytes workspace;
    bool update, view;
    std::size_t sum;  // the output that sums over microbatches, or kNoOutput
  };
  struct Value {
    std::int32_t last_use;
    InstanceId looks_at;
    StorageId storage;
  };
  struct Range {
    Bytes size;
    std::int32_t begin, end;
    bool outlives_iteration;
  };

  void add_op(const Graph& graph, const OpRegistry& registry, OpId id, Bytes workspace);
  void find_persistent(const Graph& graph);
  void find_whole_batches();
  std::int32_t step_count() const { return static_cast<std::int32_t>(steps_.size()); }
  void order_steps(const std::vector<OpId>& sequence);
  void find_last_uses();
  void lay_out();
  void make_outputs(std::int32_t step);
  StorageId add_storage(const TensorFacts& tensor, std::int32_t begin, bool outlives_iteration);
  void hold(TensorId tensor, StorageId storage);
  // None of what persists.
  StorageId storage_of(TensorId tensor) const {
    return tensors_[tensor].in_persistent ? kNoStorage : values_[value_of_[tensor]].storage;
  }
  StorageId inherited(OpId op, std::size_t output, std::int32_t step) const;
  bool may_take(OpId op, const Place& place, std::int32_t step) const;
  void sum_up();

  OpTensors op_tensors_;
  IdVector<TensorId, TensorFacts> tensors_;
  std::vector<TensorId> given_, lasting_;  // but for what persists
  Bytes persistent_;
  IdVector<OpId, OpFacts> ops_;
  bool is_cut_, updates_last_;

  std::vector<OpId> steps_;
  std::int32_t body_end_ = 0;
  IdVector<TensorId, InstanceId> value_of_;  // at the step at hand
  IdVector<InstanceId, Value> values_;
  std::int32_t next_value_ = 0;
  IdVector<StorageId, Range> storages_;
  std::vector<StorageId> taken_;  // by the outputs of the step at hand
  std::vector<Bytes> live_;
};

}  // namespace thimble
