// Replay: a plan walked on fake memory, without kernels, with a shadow owner for every byte range.
//
//   ReplayReport report = replay(plan, registry);
//   report.problems.empty();  report.programs[0].high_water == plan.programs[0].planned;
//
// A step that reads bytes last written by another tensor is a problem, and so is whoever touches bytes that are not
// granted, a step or the caller who fills an input. A recorded trace (what a run asked of its arena) is compared
// request by request; the first that differs ends it.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "thimble/runtime.h"

namespace thimble {

struct ReplayedProgram {
  std::string name;
  std::int64_t steps = 0;  ///< executed, iterations of repeats included
  std::int64_t requests = 0;
  Bytes high_water;
};

struct ReplayReport {
  std::vector<ReplayedProgram> programs;
  std::vector<std::string> problems;  ///< at most 20
};

ReplayReport replay(const Plan& plan, const OpRegistry& registry);

/// The header line and one line per request: `program,request,name,offset,size`.
inline constexpr const char* kTraceHeader = "program,request,name,offset,size";
void write_trace_event(std::ostream& out, std::string_view program, const RuntimeEvent& event);

/// Compares a recorded trace with the plan. Returns the first difference: line, what was recorded, what the plan
/// asks for; nothing where they agree. A trace may hold any whole number of program runs in any order.
/// Throws BadInput where the text is no trace.
std::optional<std::string> compare_trace(const Plan& plan, const OpRegistry& registry, std::string_view trace,
                                         std::string_view name);

}  // namespace thimble
