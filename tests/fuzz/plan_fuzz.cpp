// libFuzzer entry: whatever the bytes are, reading refuses them with an Error or gives a plan that can be checked, and a
// plan without findings replays without problems.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "../scheduler/tiny_ops.h"
#include "thimble/error.h"
#include "thimble/plan.h"
#include "thimble/replay.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const thimble::OpRegistry registry = thimble::testing::tiny_registry();
  thimble::Plan plan;
  try {
    plan = thimble::read_plan({reinterpret_cast<const char*>(data), size}, "fuzz.json");
  } catch (const thimble::Error&) {
    return 0;
  }
  if (!thimble::check_plan(plan, registry).empty()) return 0;
  const thimble::ReplayReport report = thimble::replay(plan, registry);
  if (!report.problems.empty()) {
    std::fprintf(stderr, "%s\n", report.problems.front().c_str());
    std::abort();
  }
  if (thimble::read_plan(thimble::write_plan(plan), "written.json") != plan) std::abort();
  return 0;
}
