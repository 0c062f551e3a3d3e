#include <gtest/gtest.h>

#include <sstream>

#include "run_plan.h"
#include "thimble/replay.h"

namespace thimble::testing {
namespace {

std::string recorded(const Plan& plan, const OpRegistry& registry, const std::vector<std::string>& runs) {
  HostMemory memory;
  Runtime runtime(plan, registry, memory);
  std::ostringstream trace;
  trace << kTraceHeader << '\n';
  for (const std::string& name : runs) {
    runtime.set_event_listener([&](const RuntimeEvent& event) { write_trace_event(trace, name, event); });
    run_once(runtime, name);
  }
  return trace.str();
}

TEST(Replay, FindsNoProblemInSoundPlans) {
  const OpRegistry registry = tiny_registry();
  for (const Cut& cut : {Cut{8}, Cut{4, 4}, Cut{3, 5}}) {
    const Plan plan = two_programs(registry, cut);
    const ReplayReport report = replay(plan, registry);
    EXPECT_EQ(report.problems, std::vector<std::string>{});
    for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(report.programs[i].high_water, plan.programs[i].planned);
    const auto body = static_cast<std::int64_t>(plan.programs[0].schedule.order[0].body.size());
    EXPECT_EQ(report.programs[0].steps,
              static_cast<std::int64_t>(plan.programs[0].schedule.steps.size()) + (cut.size() > 1 ? body : 0));
  }
}

TEST(Replay, NamesTheStepThatReadsOverwrittenBytes) {
  const OpRegistry registry = tiny_registry();
  Plan plan = plan_of(registry, step_graph(registry, diamond(registry)));
  Program& p = plan.programs[0];
  p.schedule.instances[instance_of(p, "a")].storage = storage_of(p, "h");  // h is read again by `right`
  const ReplayReport report = replay(plan, registry);
  ASSERT_FALSE(report.problems.empty());
  EXPECT_NE(report.problems[0].find("'right'"), std::string::npos) << report.problems[0];
}

TEST(Replay, NamesTheStepThatReadsAfterTheEndOfALifetime) {
  const OpRegistry registry = tiny_registry();
  Plan plan = plan_of(registry, step_graph(registry, diamond(registry)));
  Program& p = plan.programs[0];
  Storage& h = p.schedule.storages[storage_of(p, "h")];
  h.lifetime.end = Step{index(h.lifetime.begin) + 1};
  const ReplayReport report = replay(plan, registry);
  ASSERT_FALSE(report.problems.empty());
  EXPECT_NE(report.problems[0].find("'h'"), std::string::npos) << report.problems[0];
}

TEST(Replay, NamesTheStepThatWritesAfterTheEndOfALifetime) {
  const OpRegistry registry = tiny_registry();
  Plan plan = plan_of(registry, step_graph(registry, diamond(registry)));
  spread_out(plan);
  Program& p = plan.programs[0];
  p.schedule.instances[instance_of(p, "h.dw")].storage = storage_of(p, "target");  // which is free by then
  const ReplayReport report = replay(plan, registry);
  ASSERT_FALSE(report.problems.empty());
  EXPECT_NE(report.problems[0].find("('h.dw') writes 'h.dw' where byte "), std::string::npos) << report.problems[0];
}

TEST(Replay, NamesTheInputThatIsFilledBeforeItIsGranted) {
  const OpRegistry registry = tiny_registry();
  for (const Cut& cut : {Cut{8}, Cut{4, 4}}) {
    Plan plan = plan_of(registry, step_graph(registry, diamond(registry)), cut);
    Program& p = plan.programs[0];
    p.schedule.storages[storage_of(p, "target")].lifetime.begin = step_of(p, "loss");
    const ReplayReport report = replay(plan, registry);
    ASSERT_FALSE(report.problems.empty());
    EXPECT_NE(report.problems[0].find("the caller writes 'target' where byte "), std::string::npos)
        << report.problems[0];
  }
}

TEST(Replay, SeesThatInputsAreFilledAgainInEveryIteration) {
  const OpRegistry registry = tiny_registry();
  Plan plan = plan_of(registry, step_graph(registry, diamond(registry)), {4, 4});
  Program& p = plan.programs[0];
  p.schedule.instances[instance_of(p, "h.dw.sum")].storage = storage_of(p, "x");  // written after the last read of x
  p.schedule.storages[storage_of(p, "x")].lifetime.end = Step{static_cast<std::int32_t>(p.schedule.steps.size())};
  const ReplayReport report = replay(plan, registry);
  ASSERT_EQ(report.problems.size(), 1U);
  EXPECT_NE(report.problems[0].find("('h.dw.sum'): byte "), std::string::npos) << report.problems[0];
}

TEST(Replay, ATraceOfARealRunIsThePlans) {
  const OpRegistry registry = tiny_registry();
  const Plan plan = two_programs(registry, {3, 5});
  EXPECT_EQ(compare_trace(plan, registry, recorded(plan, registry, {"train", "evaluate", "train"}), "t.csv"),
            std::nullopt);
}

TEST(Replay, ReportsTheFirstLineThatDiffers) {
  const OpRegistry registry = tiny_registry();
  const Plan plan = two_programs(registry);
  std::string trace = recorded(plan, registry, {"train"});
  std::size_t at = 0;
  for (int line = 1; line < 7; ++line) at = trace.find('\n', at) + 1;
  trace.insert(trace.find('\n', at), "1");
  const auto difference = compare_trace(plan, registry, trace, "t.csv");
  ASSERT_TRUE(difference.has_value());
  EXPECT_NE(difference->find("line 7"), std::string::npos) << *difference;
}

TEST(Replay, ReportsATraceThatEndsEarlyAndRefusesWhatIsNone) {
  const OpRegistry registry = tiny_registry();
  const Plan plan = two_programs(registry);
  std::string trace = recorded(plan, registry, {"train"});
  trace.erase(trace.rfind('\n', trace.size() - 2) + 1);
  EXPECT_TRUE(compare_trace(plan, registry, trace, "t.csv").has_value());
  EXPECT_THROW(compare_trace(plan, registry, "hello\n", "t.csv"), BadInput);
  EXPECT_THROW(compare_trace(plan, registry, std::string(kTraceHeader) + "\ndream,grant,x,0,64\n", "t.csv"), Error);
}

}  // namespace
}  // namespace thimble::testing
