// The checker on who owns the bytes of a storage, step by step, and on what an output may be made over.
#include "damaged_plan.h"

namespace thimble::testing {
namespace {

// One tensor's value in the storage of another.
std::function<void(Plan&)> put(const char* tensor, const char* over) {
  return [=](Plan& p) { instance(p, tensor).storage = storage_of(p, over); };
}

TEST(CheckValues, FindsReadsOfWhatIsNotThere) {
  expect_findings({
      {"two inputs in one storage", "'target' and 'x' are given in the same storage", put("target", "x")},
      {"input in a storage of another name", "'x' is given in a storage named 'z'",
       [](Plan& p) { storage(p, "x").name = "z"; }},
      {"read before it is made", "('loss') reads 'y', whose storage holds nothing yet",
       [](Plan& p) { std::swap(step(p, "y"), step(p, "loss")); }},
      {"old weight read after its update", "('y.dx') reads 'w2', whose storage holds 'w2.update' or what was written",
       [](Plan& p) { std::swap(step(p, "y.dx"), step(p, "w2.update")); }},
      {"overwritten by a workspace", "('h.dw') reads 'x', whose storage holds 'x' or what was written over it",
       [](Plan& p) { step(p, "loss").workspace = storage_of(p, "x"); }},
      {"output overwritten", "output 'loss' is overwritten before it can be read", put("h.dw", "loss")},
  });
}

TEST(CheckValues, FindsWhatTheNextMicrobatchWouldMiss) {
  expect_findings(
      {
          {"sum overwritten by an input", "('h.dw.sum') adds to 'h.dw.sum', whose storage holds 'x'",
           put("h.dw.sum", "x")},
          {"sum overwritten", "('h.dw.sum') adds to 'h.dw.sum', whose storage holds ", put("s", "h.dw.sum")},
      },
      kHalves);
}

TEST(CheckSharing, FindsOutputsOverWhatTheirStepTouches) {
  expect_findings({
      {"two outputs", "makes 'loss.difference' in the storage of another output", put("loss.difference", "loss")},
      {"in its workspace", "('h.dw') makes 'h.dw' in its workspace",
       [](Plan& p) { step(p, "h.dw").workspace = storage_of(p, "h.dw"); }},
      {"workspace over an input", " reads 'x' from its workspace",
       [](Plan& p) { step(p, "h.dw").workspace = storage_of(p, "x"); }},
      {"view elsewhere", "makes 'tall' a view, in another storage than what it looks at", put("tall", "y")},
      {"view of nothing", "makes 'tall' a view, in another storage", [](Plan& p) { step(p, "tall").inputs.clear(); }},
      {"new version elsewhere", "makes 'count' a new version, elsewhere than the old one", put("count", "y")},
      {"new version over another input", "makes 'count' a new version, elsewhere", put("count", "x")},
      {"not in place by its kind", "makes 'y' over its input 'flat', which its kind does not allow", put("y", "flat")},
  });
}

TEST(CheckSharing, FindsOutputsOfOtherSamplesThanWhatTheyShare) {
  const auto turn = [](const char* name) {
    return [=](Plan& p) { instance(p, name).whole_batch = !instance(p, name).whole_batch; };
  };
  expect_findings(
      {
          {"view", "makes 'tall' a view of other samples than what it looks at", turn("tall")},
          {"new version", "makes 'count' a new version, elsewhere than the old one", turn("count")},
          {"in place", "makes 's' over its input 'tall', which its kind does not allow", turn("s")},
      },
      kHalves);
}

TEST(CheckSharing, FindsAnInputReadTwiceAndWrittenOver) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId a = g.add_op(registry, "scale", "a", {x}, {{"factor", 2.0}}).front();
  g.mark_output(g.add_op(registry, "add", "twice", {a, a}).front());
  expect_finding(plan_of(registry, g), {"add(a, a) over a", "makes 'twice' over its input 'a'", put("twice", "a")});
}

// Padded they are alike, but a sample of one does not lie where the same sample of the other does.
TEST(CheckSharing, FindsAnOutputOverAnInputOfAnotherSize) {
  OpRegistry registry = tiny_registry();
  OpDefinition wider = scale_op();
  wider.kind = "four_columns";
  wider.infer = [](const std::vector<TensorType>& types, const Attributes&) {
    return outputs_like({DType::f32, {types.at(0).shape[0], 4}, true});
  };
  registry.add(wider);
  auto [g, x] = start();
  const TensorId a = g.add_op(registry, "scale", "a", {x}, {{"factor", 2.0}}).front();
  g.mark_output(g.add_op(registry, "four_columns", "columns", {a}).front());
  Plan plan = plan_of(registry, g);
  ASSERT_EQ(storage(plan, "columns").size, storage(plan, "a").size);
  EXPECT_NE(storage_of(plan, "columns"), storage_of(plan, "a"));
  expect_finding(plan, {"another size", "makes 'columns' over its input 'a'", put("columns", "a")}, registry);
}

TEST(CheckValues, FindsAWholeBatchThatTheNextMicrobatchWouldNotFind) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId a = g.add_op(registry, "scale", "a", {x}, {{"factor", 2.0}}).front();
  const TensorId b = g.add_op(registry, "scale", "b", {a}, {{"factor", 2.0}}).front();
  g.mark_output(b);
  expect_finding(plan_of(registry, g, kHalves),
                 {"written over between microbatches", "('b') adds to 'b', whose storage holds 'a'", put("a", "b")});
}

TEST(CheckValues, FindsInputsThatTheCallerWouldGiveAgainOverOthers) {
  const OpRegistry registry = tiny_registry();
  auto [g, x] = start();
  const TensorId rate = g.add_input("rate", {DType::f32, {1, 3}}, Role::input);
  const TensorId half = g.add_op(registry, "scale", "half", {rate}, {{"factor", 0.5}}).front();
  g.add_op(registry, "dense", "y", {x, half});
  g.mark_output(g.add_op(registry, "reshape", "rows", {x}, {{"columns", std::int64_t{1}}}).front());
  const Plan plan = plan_of(registry, g, kHalves);
  EXPECT_EQ(check_plan(plan, registry), std::vector<std::string>{});
  expect_finding(plan, {"not batched", "'rate' is given again over 'half' or what", put("half", "rate")});
  expect_finding(plan, {"whole batch", "'x' is given again over 'y' or what", put("y", "x")});
}

}  // namespace
}  // namespace thimble::testing
