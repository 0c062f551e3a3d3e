// A runtime on a device: what the host stages, persistent tensors, records of whole programs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recording_device.h"
#include "run_plan.h"
#include "thimble/error.h"

namespace thimble::testing {
namespace {

using ::testing::HasSubstr;

OpRegistry device_registry() {
  OpRegistry registry = tiny_registry();
  add_recorded_kernels(registry, "recording");
  registry.set_engine("tiny", "1", "recording");
  return registry;
}

Plan on_device(Plan plan) {
  plan.device.backend = "recording";
  return plan;
}

// A plan on the CPU and on a device, with the same weights.
struct BothRuntimes {
  explicit BothRuntimes(const OpRegistry& registry, const Cut& cut = {kBatch})
      : plan(two_programs(registry, cut)), here(plan, registry, memory), there(on_device(plan), registry, device) {
    fill_persistent(here);
    fill_persistent(there);
  }
  Plan plan;
  HostMemory memory;
  RecordingDevice device;
  Runtime here, there;
};

TEST(RuntimeOnADevice, HasTheBitsOfTheCpuEagerAndRepeated) {
  const OpRegistry registry = device_registry();
  for (const Cut& cut : {Cut{8}, Cut{3, 5}, Cut{1, 6, 1}}) {
    BothRuntimes both(registry, cut);
    for (int step = 0; step < 4; ++step)
      for (const char* program : {"train", "evaluate"}) {
        EXPECT_EQ(run_once(both.there, program), run_once(both.here, program)) << program << ", step " << step;
        EXPECT_EQ(both.there.was_captured(), step > 0) << program << ", step " << step;
        EXPECT_EQ(both.there.last_high_water(), both.here.last_high_water());
      }
    EXPECT_EQ(both.device.captures, 2);
  }
}

TEST(RuntimeOnADevice, ScalarsOfARecordAreThoseOfTheRun) {
  const OpRegistry registry = device_registry();
  BothRuntimes both(registry);
  for (int step = 0; step < 4; ++step) {
    const StepScalars scalars{.seed = 1, .step = step, .learning_rate = 0.5F / static_cast<float>(1 + step)};
    for (Runtime* runtime : {&both.here, &both.there})
      runtime->run(
          "train", scalars, [&](ProgramView& view) { fill_inputs(both.plan.program("train"), view); }, nullptr);
    EXPECT_EQ(floats(both.there.persistent("w1")), floats(both.here.persistent("w1"))) << "step " << step;
  }
}

TEST(RuntimeOnADevice, PersistentTensorsMayBeChangedBetweenRuns) {
  const OpRegistry registry = device_registry();
  BothRuntimes both(registry);
  for (int step = 0; step < 3; ++step) {
    run_once(both.here, "train");
    run_once(both.there, "train");
    for (Runtime* runtime : {&both.here, &both.there})
      reinterpret_cast<float*>(runtime->persistent("w2").data())[1] = 0.25F;
    EXPECT_EQ(floats(both.there.persistent("w2")), floats(both.here.persistent("w2")));
  }
  EXPECT_THROW(both.there.persistent("none"), InvalidArgument);
}

TEST(RuntimeOnADevice, ListenedToOrAskedToItRepeatsNothing) {
  const OpRegistry registry = device_registry();
  const Plan plan = on_device(two_programs(registry));
  RecordingDevice device;
  Runtime eager(plan, registry, device, {.capture = false}), heard(plan, registry, device);
  int events = 0;
  heard.set_event_listener([&](const RuntimeEvent&) { ++events; });
  fill_persistent(eager);
  fill_persistent(heard);
  for (int step = 0; step < 3; ++step) {
    const int before = events;
    EXPECT_EQ(run_once(eager, "train"), run_once(heard, "train"));
    EXPECT_FALSE(eager.was_captured() || heard.was_captured());
    EXPECT_GT(events, before);
  }
  heard.set_event_listener(nullptr);
  run_once(heard, "train");
  EXPECT_TRUE(heard.was_captured());
}

TEST(RuntimeOnADevice, FailuresLeaveTheArenaAsItWas) {
  const OpRegistry registry = device_registry();
  const Plan plan = on_device(two_programs(registry));
  RecordingDevice device;
  Runtime runtime(plan, registry, device);
  fill_persistent(runtime);
  const Bytes before = runtime.arena().in_use();
  const auto fail = [](ProgramView&) { throw BadInput("no data"); };
  for (int step = 0; step < 3; ++step) {
    EXPECT_THROW(runtime.run("train", {}, fail, nullptr), BadInput);
    EXPECT_THROW(runtime.run(
                     "train", {}, [&](ProgramView& v) { fill_inputs(plan.program("train"), v); }, fail),
                 BadInput);
    EXPECT_EQ(runtime.arena().in_use(), before);
  }
}

TEST(RuntimeOnADevice, AnotherDevicesPlanIsRefused) {
  const OpRegistry registry = device_registry();
  HostMemory memory;
  try {
    Runtime runtime(on_device(two_programs(registry)), registry, memory);
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("recording"));
  }
  RecordingDevice device;
  EXPECT_THROW(Runtime(two_programs(registry), registry, device), InvalidArgument);
  Plan unknown = two_programs(registry);
  unknown.device.backend = "abacus";
  EXPECT_THROW(Runtime(unknown, registry, device), BadInput);
}

}  // namespace
}  // namespace thimble::testing
