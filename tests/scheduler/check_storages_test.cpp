// The checker on how large storages are, how long they live, where they lie, and what the program claims of that.
#include "damaged_plan.h"

namespace thimble::testing {
namespace {

std::int32_t begin_of(Plan& p, const char* name) { return index(storage(p, name).lifetime.begin); }

TEST(CheckStorages, FindsSizesThatDoNotSuffice) {
  const char* small = "storage 'h' has 64 bytes, needs ";
  expect_findings({
      {"shrunk", small, [](Plan& p) { storage(p, "h").size = Bytes{64}; }},
      {"odd", "storage 'x' has a size that is not a multiple of 64 bytes",
       [](Plan& p) { storage(p, "x").size += Bytes{4}; }},
      {"no workspace", "op 'h.dw' has a workspace of ", [](Plan& p) { step(p, "h.dw").workspace = kNoStorage; }},
      {"small workspace", "op 'h.dw' has a workspace of ",
       [](Plan& p) { train(p).schedule.storages[step(p, "h.dw").workspace].size = Bytes{}; }},
  });
  expect_findings({{"as large as the smaller microbatch", small, [](Plan& p) { storage(p, "h").size = Bytes{64}; }}},
                  {3, 5});
  expect_findings({{"input as large as the smaller microbatch", "storage 'x' has 64 bytes, needs 84 bytes",
                    [](Plan& p) { storage(p, "x").size = Bytes{64}; }},
                   {"whole batch in the bytes of a microbatch", "storage 'x' has 64 bytes, needs 96 bytes",
                    [](Plan& p) {
                      storage(p, "x").size = Bytes{64};
                      instance(p, "x").whole_batch = true;
                    }}},
                  {1, 7});
}

TEST(CheckStorages, FindsLifetimesThatDoNotCoverEveryUse) {
  expect_findings({
      {"ends too early", "storage 'x' lives in [0, 1), is used in [0, ",
       [](Plan& p) { storage(p, "x").lifetime.end = Step{1}; }},
      {"begins too late", "storage 'h' lives in [2, ", [](Plan& p) { storage(p, "h").lifetime.begin = Step{2}; }},
      {"output ends before the program", "is used in [6, 16)",
       [](Plan& p) { storage(p, "loss").lifetime.end = Step{begin_of(p, "loss") + 1}; }},
      {"input begins after the caller fills it", "storage 'target' lives in [1, ",
       [](Plan& p) { storage(p, "target").lifetime.begin = Step{1}; }},
      {"workspace of another step", "storage 'h.dw.workspace' lives in [0, 1), is used in ",
       [](Plan& p) {
         train(p).schedule.storages[step(p, "h.dw").workspace].lifetime = {Step{0}, Step{1}};
       }},
      {"never", "storage 'spare' lives in [3, 3), which is never",
       [](Plan& p) {
         Storage& spare = train(p).schedule.storages[train(p).schedule.storages.push_back(storage(p, "x"))];
         spare.name = "spare";
         spare.lifetime = {Step{3}, Step{3}};
       }},
  });
}

TEST(CheckStorages, FindsLifetimesThatDoNotCoverEveryMicrobatch) {
  expect_findings(
      {
          {"sum", "storage 'h.dw.sum' lives in ",
           [](Plan& p) { storage(p, "h.dw.sum").lifetime.begin = step_of(p, "h.dw.sum"); }},
          {"input", "storage 'x' lives in [0, 2), is used in ",
           [](Plan& p) { storage(p, "x").lifetime.end = Step{2}; }},
          {"input that begins after the caller fills it", "storage 'target' lives in [1, ",
           [](Plan& p) { storage(p, "target").lifetime.begin = Step{1}; }},
          {"input of the whole batch for one iteration", "is used in [0, 17)",
           [](Plan& p) { instance(p, "target").whole_batch = true; }},
          {"over the border", "which crosses the border of the repeat [0, ",
           [](Plan& p) { storage(p, "s").lifetime.end = end_of(p); }},
      },
      kHalves);
}

TEST(CheckLayout, FindsOverlaps) {
  expect_findings({
      {"two inputs", "'target' at ", [](Plan& p) { storage(p, "target").offset = storage(p, "x").offset; }},
      {"over a weight", " share bytes while both are live", [](Plan& p) { storage(p, "x").offset = Offset{}; }},
      {"two weights", " share bytes while both are live",
       [](Plan& p) { p.persistent[0].offset = p.persistent[1].offset; }},
      {"misaligned", " is not aligned to 64 bytes",
       [](Plan& p) { storage(p, "x").offset = storage(p, "x").offset + Bytes{4}; }},
      {"beyond the arena", " ends beyond the capacity ", [](Plan& p) { storage(p, "x").offset = Offset{} + p.arena; }},
  });
}

TEST(CheckLayout, FindsPersistentTensorsThatAreNotWhereThePlanSays) {
  const char* elsewhere = "persistent tensor 'w1' lies elsewhere than the plan says";
  const char* other_type = "persistent tensor 'w1' has another type or role than the plan says";
  expect_findings({
      {"not in the list", "persistent storage 'w1' is not in the plan's list",
       [](Plan& p) { p.persistent[0].name = "w9"; }},
      {"moved", elsewhere, [](Plan& p) { storage(p, "w1").offset = storage(p, "w2").offset; }},
      {"larger", elsewhere, [](Plan& p) { storage(p, "w1").size += Bytes{64}; }},
      {"other role", other_type, [](Plan& p) { p.persistent[0].role = Role::statistic; }},
      {"other type", other_type,
       [](Plan& p) {
         p.persistent[0].type.shape = {3, 4};
       }},
      {"input that persists", "'x' and its storage disagree on whether they are persistent",
       [](Plan& p) { storage(p, "x").persistent = true; }},
      {"weight that does not", "'w1' at ", [](Plan& p) { storage(p, "w1").persistent = false; }},
      {"value over a weight", "'y' is made in the storage of the persistent 'w1'",
       [](Plan& p) {
         Program& evaluate = p.programs[1];
         evaluate.schedule.instances[instance_of(evaluate, "y")].storage = storage_of(evaluate, "w1");
       }},
  });
}

TEST(CheckLayout, FindsClaimsThatAreNotSo) {
  expect_findings({
      {"planned bytes", ", its highest byte is at ", [](Plan& p) { train(p).planned += Bytes{64}; }},
      {"lower bound", "states a lower bound of ", [](Plan& p) { train(p).lower_bound -= Bytes{64}; }},
      {"peak step", "states its peak at step 99, it is at step ", [](Plan& p) { train(p).peak_step = Step{99}; }},
  });
}

}  // namespace
}  // namespace thimble::testing
