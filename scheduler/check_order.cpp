// Every step stands in the order exactly once, ascending; where there are repeats, one begins the program, and each
// cuts the batch into adjoining ranges, which are the microbatches that the program states.
#include "program_check.h"

namespace thimble {
namespace {

using Kind = ScheduleNode::Kind;

constexpr const char* kOtherCut = "the order's ranges are not the microbatches the program states";

std::int32_t count_steps(const std::vector<ScheduleNode>& nodes) {
  std::int32_t count = 0;
  for (const ScheduleNode& node : nodes) count += node.kind == Kind::step ? 1 : count_steps(node.body);
  return count;
}

std::int32_t steps_passed(const ProgramCheck& check) { return static_cast<std::int32_t>(check.loops.size()); }

void walk(ProgramCheck& check, const std::vector<ScheduleNode>& nodes, StepRange loop);

void pass_step(ProgramCheck& check, std::int32_t step, StepRange loop) {
  if (step != steps_passed(check))
    check.report("step " + std::to_string(step) + " stands where step " + std::to_string(steps_passed(check)) +
                 " belongs");
  check.loops.push_back(loop);
}

void check_ranges(ProgramCheck& check, const std::vector<HalfOpen>& ranges) {
  std::int64_t at = 0;
  std::vector<std::int64_t> cut;
  for (HalfOpen range : ranges) {
    if (range.begin != at || range.end <= range.begin)
      check.report("repeat range [" + std::to_string(range.begin) + ", " + std::to_string(range.end) +
                   ") does not begin at sample " + std::to_string(at));
    at = range.end;
    check.sizes.insert(range.size());
    cut.push_back(range.size());
  }
  if (at != check.graph.batch)
    check.report("repeat ends at sample " + std::to_string(at) + " of " + std::to_string(check.graph.batch));
  if (cut != check.program.microbatches) check.report(kOtherCut);
}

void pass_repeat(ProgramCheck& check, const ScheduleNode& repeat) {
  const std::int32_t begin = steps_passed(check), end = begin + count_steps(repeat.body);
  if (begin > 0 && !check.has_repeat)
    check.report(
        "steps before the first repeat, whose iterations begin with the inputs, are not known to this version");
  if (!check.has_repeat) check.first_loop = {begin, end};
  check.has_repeat = true;
  if (begin == end || repeat.ranges.empty()) check.report("has a repeat without steps or ranges");
  check_ranges(check, repeat.ranges);
  walk(check, repeat.body, {begin, end});
}

void walk(ProgramCheck& check, const std::vector<ScheduleNode>& nodes, StepRange loop) {
  const bool is_inside = loop.begin >= 0;
  for (const ScheduleNode& node : nodes) {
    if (node.kind == Kind::step) {
      pass_step(check, index(node.step), loop);
    } else if (node.kind == Kind::repeat) {
      if (is_inside) return check.report("nested repeats are not known to this version");
      pass_repeat(check, node);
    } else {
      if (is_inside) check.report("a barrier inside a repeat is not known to this version");
      if (check.barrier_at < 0) check.barrier_at = steps_passed(check);
    }
  }
}

}  // namespace

void check_order(ProgramCheck& check) {
  walk(check, check.schedule.order, {});
  if (steps_passed(check) != check.step_count())
    check.report("the order has " + std::to_string(steps_passed(check)) + " steps, the plan " +
                 std::to_string(check.step_count()));
  std::vector<std::int64_t> whole;
  if (check.graph.batch > 0) whole = {check.graph.batch};
  if (!check.has_repeat && whole != check.program.microbatches) check.report(kOtherCut);
}

}  // namespace thimble
