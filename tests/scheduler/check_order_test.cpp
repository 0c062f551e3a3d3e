// The checker on the order of steps, on repeats, and on what crosses a repeat's borders.
#include "damaged_plan.h"

namespace thimble::testing {
namespace {

using Kind = ScheduleNode::Kind;

TEST(CheckOrder, FindsStepsOutOfTurn) {
  expect_findings({
      {"no step at all", "has no step", [](Plan& p) { train(p).schedule.steps.clear(); }},
      {"one step missing", "the order has 15 steps, the plan 16", [](Plan& p) { order(p).pop_back(); }},
      {"one step twice", "step 0 stands where step 16 belongs", [](Plan& p) { order(p).push_back(order(p)[0]); }},
      {"two steps swapped", "step 1 stands where step 0 belongs", [](Plan& p) { std::swap(order(p)[0], order(p)[1]); }},
      {"other microbatches stated", "not the microbatches the program states",
       [](Plan& p) {
         train(p).microbatches = {4, 4};
       }},
  });
}

TEST(CheckOrder, FindsRepeatsThatDoNotCutTheBatch) {
  const ScheduleNode barrier{.kind = Kind::barrier};
  expect_findings(
      {
          {"a gap", "repeat range [5, 8) does not begin at sample 4", [](Plan& p) { order(p)[0].ranges[1].begin = 5; }},
          {"an empty range", "repeat range [4, 4) does not begin", [](Plan& p) { order(p)[0].ranges[1].end = 4; }},
          {"cut short", "repeat ends at sample 7 of 8", [](Plan& p) { order(p)[0].ranges[1].end = 7; }},
          {"other microbatches stated", "not the microbatches the program states",
           [](Plan& p) {
             train(p).microbatches = {3, 5};
           }},
          {"no steps", "has a repeat without steps or ranges", [](Plan& p) { order(p)[0].body.clear(); }},
          {"no ranges", "has a repeat without steps or ranges", [](Plan& p) { order(p)[0].ranges.clear(); }},
          {"a repeat again", "step 0 stands where step 19 belongs", [](Plan& p) { order(p).push_back(order(p)[0]); }},
          {"nested", "nested repeats are not known", [](Plan& p) { order(p)[0].body = {ScheduleNode(order(p)[0])}; }},
          {"barrier inside", "a barrier inside a repeat is not known",
           [&](Plan& p) { order(p)[0].body.push_back(barrier); }},
      },
      kHalves);
}

TEST(CheckBorders, FindsWhatHasTwoMakers) {
  expect_findings({
      {"given twice", "'x' is given in two places",
       [](Plan& p) { train(p).schedule.instances.push_back(instance(p, "x")); }},
      {"made twice", "one instance of 'h' is made twice, at step ",
       [](Plan& p) { step(p, "y").outputs = step(p, "h").outputs; }},
  });
}

// Steps leave the repeat at its begin or its end.
void move_out_front(Plan& p, std::ptrdiff_t count) {
  std::vector<ScheduleNode>& body = order(p)[0].body;
  const std::vector<ScheduleNode> moved(body.begin(), body.begin() + count);
  body.erase(body.begin(), body.begin() + count);
  order(p).insert(order(p).begin(), moved.begin(), moved.end());
}

Step end_of_body(Plan& p) { return Step{static_cast<std::int32_t>(order(p)[0].body.size())}; }

void move_out_back(Plan& p) {
  const ScheduleNode last = order(p)[0].body.back();
  order(p)[0].body.pop_back();
  order(p).insert(order(p).begin() + 1, last);
}

TEST(CheckBorders, FindsMicrobatchesThatCrossTheRepeat) {
  expect_findings(
      {
          {"partial sum read after it", "outside the repeat, where it is the last microbatch's",
           [](Plan& p) { move_out_back(p); }},
          {"sum read inside it", "inside the repeat, where the sum is not complete",
           [](Plan& p) {
             order(p)[0].body.push_back(order(p)[1]);
             order(p).erase(order(p).begin() + 1);
           }},
          {"input read after it", "reads 'x' outside the repeat, where it is the last microbatch's",
           [](Plan& p) {
             while (end_of_body(p) > step_of(p, "h.dw")) move_out_back(p);
           }},
          {"steps before it", "steps before the first repeat, whose iterations begin with the inputs, are not known",
           [](Plan& p) { move_out_front(p, index(step_of(p, "h")) + 1); }},
          {"weights of one microbatch", "'x' lasts beyond the repeat, but holds one microbatch only",
           [](Plan& p) { tensor(p, "x").role = Role::weight; }},
          {"input of one microbatch read by the caller", "'x' lasts beyond the repeat, but holds one microbatch only",
           [](Plan& p) { tensor(p, "x").is_output = true; }},
          {"output of one microbatch", "'y' lasts beyond the repeat, but holds one microbatch only",
           [](Plan& p) { tensor(p, "y").is_output = true; }},
          {"output that is no sum", "output 'h.dw' holds the last microbatch's value, not the sum",
           [](Plan& p) { tensor(p, "h.dw").is_output = true; }},
      },
      kHalves);
}

}  // namespace
}  // namespace thimble::testing
