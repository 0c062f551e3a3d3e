// For tests of the checker: a sound plan, damaged in one place, and the finding that this has to give.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "tiny_ops.h"

namespace thimble::testing {

struct Damage {
  const char* what;
  const char* finding;  ///< part of one of the findings; enough of it to tell which check spoke
  std::function<void(Plan&)> apply;
};

inline const Cut kHalves{4, 4};

inline std::string joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

inline void expect_finding(const Plan& plan, const Damage& damage, const OpRegistry& registry = tiny_registry()) {
  Plan damaged = plan;
  damage.apply(damaged);
  const std::string findings = joined(check_plan(damaged, registry));
  EXPECT_NE(findings.find(damage.finding), std::string::npos)
      << damage.what << "\nexpected: " << damage.finding << "\nfound:\n"
      << findings;
}

/// Each on a fresh `two_programs`: training with running state, and an evaluation.
inline void expect_findings(const std::vector<Damage>& damages, const Cut& cut = {kBatch}) {
  const Plan plan = two_programs(tiny_registry(), cut);
  for (const Damage& damage : damages) expect_finding(plan, damage);
}

// ---- the first program's parts, by the names in tiny_ops.h ----

inline Program& train(Plan& plan) { return plan.programs[0]; }
inline std::vector<ScheduleNode>& order(Plan& plan) { return train(plan).schedule.order; }
inline Step end_of(Plan& plan) { return Step{static_cast<std::int32_t>(train(plan).schedule.steps.size())}; }
inline Step step_of(Plan& plan, const char* op) { return step_of(train(plan), op); }
inline ScheduledStep& step(Plan& plan, const char* op) {
  return train(plan).schedule.steps[static_cast<std::size_t>(index(step_of(plan, op)))];
}
inline StorageId storage_of(Plan& plan, const char* tensor) { return storage_of(train(plan), tensor); }
inline Storage& storage(Plan& plan, const char* tensor) {
  return train(plan).schedule.storages[storage_of(plan, tensor)];
}
inline Tensor& tensor(Plan& plan, const char* name) { return train(plan).graph.tensors[train(plan).graph.find(name)]; }
inline Op& op(Plan& plan, const char* name) { return train(plan).graph.ops[step(plan, name).op]; }
inline Instance& instance(Plan& plan, const char* name) {
  return train(plan).schedule.instances[instance_of(train(plan), name)];
}

}  // namespace thimble::testing
