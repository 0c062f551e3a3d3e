// Every byte of WRN-28-2's plan at batch 100, nothing recomputed, line by line in a golden file, and line by line what
// the tape of a framework would keep instead (reference/remat.md section 5.1).
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "../golden/plan_text.h"

namespace thimble {
namespace {

// Rewritten where THIMBLE_UPDATE_GOLDEN is set; else the first line that differs is shown.
void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = THIMBLE_SOURCE_DIR "/tests/golden/" + name;
  if (std::getenv("THIMBLE_UPDATE_GOLDEN") != nullptr) std::ofstream(path, std::ios::binary) << text;
  const std::string golden = text_of(path);
  std::istringstream expected(golden), computed(text);
  for (int line = 1; golden != text; ++line) {
    std::string left, right;
    const bool golden_ends = !std::getline(expected, left), text_ends = !std::getline(computed, right);
    if (!golden_ends && !text_ends && left == right) continue;
    if (golden_ends) left = "(ends)";
    if (text_ends) right = "(ends)";
    FAIL() << name << ", line " << line << "\n  golden: " << left << "\n  now:    " << right;
  }
}

class GoldenPlan : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string isa = separate().plan.engines.at("isa");
    if (isa != "avx2") GTEST_SKIP() << "the goldens are for avx2, this machine has " << isa;
  }
  static const Account& separate() { return account<false>(); }
  static const Account& fused() { return account<true>(); }

 private:
  template <bool kFuse>
  static const Account& account() {
    static const Account made(kFuse);
    return made;
  }
};

TEST_F(GoldenPlan, ExplainsSeparateOpsLineByLine) {
  expect_golden("wrn-28-2_batch-100_separate.txt", Text(separate()).write());
}

TEST_F(GoldenPlan, ExplainsFusedOpsLineByLine) { expect_golden("wrn-28-2_batch-100_fused.txt", Text(fused()).write()); }

TEST_F(GoldenPlan, TensorsSumToTheArena) {
  for (const Account* a : {&separate(), &fused()}) {
    EXPECT_EQ(a->sum(), a->plan.arena);
    EXPECT_EQ(a->program.lower_bound, a->plan.arena);
    Bytes by_role;
    for (const char* role : kRoles) by_role += a->sum(role);
    EXPECT_EQ(by_role, a->plan.arena);
    Bytes reported;
    for (Bytes role : bytes_by_role(a->plan, a->program, a->program.peak_step)) reported += role;
    EXPECT_EQ(reported, a->plan.arena);
  }
}

TEST_F(GoldenPlan, HoldsNothingInVain) {
  for (const Account* a : {&separate(), &fused()})
    for (std::size_t i = a->persistent; i < a->held.size(); ++i)
      EXPECT_GE(a->held[i].last_read, index(a->program.peak_step)) << a->held[i].name;
}

TEST_F(GoldenPlan, TapeIsTheOneTheReferenceCounts) {
  for (const Account* a : {&separate(), &fused()}) {
    EXPECT_EQ(a->tape.per_image, 953'472);
    EXPECT_EQ(a->tape.maps_bytes, Bytes{381'388'800});
    EXPECT_EQ(a->tape.weights, Bytes{4 * 1'467'610});
    EXPECT_NEAR(static_cast<double>(a->tape.counted().value), 399.0e6, 0.05e6);
    // Our baseline figure lies between the tape alone and the tape with the first gradients of the backward pass.
    EXPECT_LT(a->tape.counted(), Bytes{404'800'000});
    EXPECT_GT(a->tape.counted() + 2 * a->tape.last_map, Bytes{404'800'000});
  }
}

TEST_F(GoldenPlan, TapeAndLinesSumToTheArena) {
  for (const Account* a : {&separate(), &fused()}) {
    Bytes sum = a->tape.counted();
    for (const Line& line : lines_from_tape(*a)) sum += Bytes{line.bytes};
    EXPECT_EQ(sum, a->plan.arena);
  }
}

TEST_F(GoldenPlan, StaysBelow396MegabytesWithoutRecomputation) {
  for (const Account* a : {&separate(), &fused()}) {
    EXPECT_EQ(a->program.microbatches, std::vector<std::int64_t>{kBatch});
    for (const ScheduledStep& step : a->program.schedule.steps) EXPECT_FALSE(step.is_recomputation);
    EXPECT_LE(a->plan.arena, Bytes{396'000'000});
    EXPECT_NEAR(static_cast<double>(a->most_without_workspace().value), 393.7e6, 0.05e6);
    // The one workspace at the peak is the copy of its convolution's weights that oneDNN packs.
    const Graph& graph = a->program.graph;
    EXPECT_EQ(a->sum("workspace"), bytes_of(graph.tensors[graph.find("block11.conv2.weight")].type));
  }
}

// PyTorch counts its own tape: every storage that its ops saved, what the reference leaves out included.
TEST_F(GoldenPlan, TapeIsPyTorchsOwn) {
  if (std::system("'" THIMBLE_PYTHON "' -c 'import torch' 2>/dev/null") != 0) {
    if (std::getenv("THIMBLE_REQUIRE_SHARED") != nullptr) FAIL() << "python3-torch is not installed";
    GTEST_SKIP() << "python3-torch is not installed";
  }
  constexpr std::int64_t kFew = 4;  // images: what does not grow with them is in the count too
  const TemporaryFolder folder;
  const std::string command = "OMP_WAIT_POLICY=PASSIVE '" THIMBLE_PYTHON "' '" THIMBLE_SOURCE_DIR
                              "/tests/golden/pytorch_tape.py' " +
                              std::to_string(kFew) + " > '" + folder.file("bytes") + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);
  const Tape tape = tape_of(false, kFew);
  EXPECT_EQ(Bytes{std::stoll(text_of(folder.file("bytes")))}, tape.maps_bytes + tape.normalisation + tape.loss);
}

}  // namespace
}  // namespace thimble
