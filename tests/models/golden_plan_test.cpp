// Every byte of two plans with nothing recomputed, WRN-28-2's at batch 100 and DynamicConv's at 4,000 tokens a side,
// line by line in golden files, and line by line what the tape of a framework would keep instead (reference/remat.md
// section 5).
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <sstream>

#include "../golden/translation_account.h"
#include "../golden/wide_resnet_account.h"
#include "python_torch.h"

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

// One of the plans: the golden file and what makes it.
struct Subject {
  std::string name, file;
  Account (*account)();
  std::string (*text)(const Account&);
};
void PrintTo(const Subject& subject, std::ostream* out) { *out << subject.name; }
std::string name_of(const ::testing::TestParamInfo<Subject>& info) { return info.param.name; }

const Subject kSubjects[] = {
    {"SeparateWideResNet", "wrn-28-2_batch-100_separate.txt", [] { return wide_resnet_account(false); },
     wide_resnet_text},
    {"FusedWideResNet", "wrn-28-2_batch-100_fused.txt", [] { return wide_resnet_account(true); }, wide_resnet_text},
    {"DynamicConv", "dynamicconv-iwslt_tokens-4000.txt", translation_account, translation_text}};

class GoldenPlan : public ::testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    const std::string isa = account().plan.engines.at("isa");
    if (isa != "avx2") GTEST_SKIP() << "the goldens are for avx2, this machine has " << isa;
  }
  static const Account& account() {
    static std::map<std::string, std::unique_ptr<Account>> made;
    std::unique_ptr<Account>& account = made[GetParam().file];
    if (account == nullptr) account.reset(new Account(GetParam().account()));
    return *account;
  }
};
class GoldenWideResNet : public GoldenPlan {};
class GoldenTranslation : public GoldenPlan {};

INSTANTIATE_TEST_SUITE_P(All, GoldenPlan, ::testing::ValuesIn(kSubjects), name_of);
INSTANTIATE_TEST_SUITE_P(All, GoldenWideResNet, ::testing::Values(kSubjects[0], kSubjects[1]), name_of);
INSTANTIATE_TEST_SUITE_P(All, GoldenTranslation, ::testing::Values(kSubjects[2]), name_of);

TEST_P(GoldenPlan, IsExplainedLineByLine) { expect_golden(GetParam().file, GetParam().text(account())); }

TEST_P(GoldenPlan, TensorsSumToTheArena) {
  const Account& a = account();
  EXPECT_EQ(a.sum(), a.plan.arena);
  EXPECT_EQ(a.program.lower_bound, a.plan.arena);
  Bytes by_role;
  for (const char* role : kRoles) by_role += a.sum(role);
  EXPECT_EQ(by_role, a.plan.arena);
  Bytes reported;
  for (Bytes role : bytes_by_role(a.plan, a.program, a.program.peak_step)) reported += role;
  EXPECT_EQ(reported, a.plan.arena);
}

TEST_P(GoldenPlan, HoldsNothingInVain) {
  const Account& a = account();
  for (std::size_t i = a.persistent; i < a.held.size(); ++i)
    EXPECT_GE(a.held[i].last_read, index(a.program.peak_step)) << a.held[i].name;
}

TEST_P(GoldenPlan, TapeAndLinesSumToTheArena) {
  const Account& a = account();
  Bytes sum = a.tape.counted();
  for (const Line& line : lines_from_tape(a)) sum += Bytes{line.bytes};
  EXPECT_EQ(sum, a.plan.arena);
}

TEST_P(GoldenPlan, RecomputesNothing) {
  for (const Program& program : account().plan.programs) {
    EXPECT_LE(program.microbatches.size(), 1U) << program.name;
    for (const ScheduledStep& step : program.schedule.steps) EXPECT_FALSE(step.is_recomputation) << program.name;
  }
}

TEST_P(GoldenWideResNet, TapeIsTheOneTheReferenceCounts) {
  const Tape& tape = account().tape;
  EXPECT_EQ(tape.values(), 4 * kBatch * Bytes{953'472});
  EXPECT_EQ(tape.weights, Bytes{4 * 1'467'610});
  EXPECT_NEAR(static_cast<double>(tape.counted().value), 399.0e6, 0.05e6);
  // Our baseline figure lies between the tape alone and the tape with the first gradients of the backward pass.
  EXPECT_LT(tape.counted(), Bytes{404'800'000});
  EXPECT_GT(tape.counted() + tape.first_gradients, Bytes{404'800'000});
}

TEST_P(GoldenWideResNet, StaysBelow396MegabytesWithoutRecomputation) {
  const Account& a = account();
  EXPECT_LE(a.plan.arena, Bytes{396'000'000});
  EXPECT_NEAR(static_cast<double>(most_without_workspace(a).value), 393.7e6, 0.05e6);
  // The one workspace at the peak is the copy of its convolution's weights that oneDNN packs.
  const Graph& graph = a.program.graph;
  EXPECT_EQ(a.sum("workspace"), bytes_of(graph.tensors[graph.find("block11.conv2.weight")].type));
}

// The framework: 2.0 GB between the passes, and more with the first gradients of the backward pass.
TEST_P(GoldenTranslation, StaysBelow1680MegabytesWithoutRecomputation) {
  const Account& a = account();
  EXPECT_LE(a.plan.arena, Bytes{1'680'000'000});
  EXPECT_NEAR(static_cast<double>(a.tape.counted().value), 2.03e9, 0.005e9);
  EXPECT_NEAR(static_cast<double>((a.tape.counted() + a.tape.first_gradients).value), 2.24e9, 0.005e9);
}

// What PyTorch counts of its own tapes: every storage that its ops saved.
std::vector<std::int64_t> pytorch_tapes(const std::string& script_and_arguments) {
  const TemporaryFolder folder;
  const std::string command = "OMP_WAIT_POLICY=PASSIVE '" THIMBLE_PYTHON "' '" THIMBLE_SOURCE_DIR "/tests/golden/'" +
                              script_and_arguments + " > '" + folder.file("bytes") + "'";
  if (std::system(command.c_str()) != 0) throw EnvironmentError("failed: " + command);
  std::ifstream text(folder.file("bytes"));
  std::vector<std::int64_t> tapes;
  for (std::int64_t bytes = 0; text >> bytes;) tapes.push_back(bytes);
  return tapes;
}

class PyTorchTape : public ::testing::Test {
 protected:
  void SetUp() override { REQUIRE_TORCH_OR_SKIP(); }
};

// What the reference leaves out is in both counts, and with few images what does not grow with them weighs.
TEST_F(PyTorchTape, OfWideResNetIsTheCountedOne) {
  const Tape tape = wide_resnet_tape(false, 4);
  EXPECT_EQ(pytorch_tapes("pytorch_tape.py 4"), std::vector{(tape.values() + tape.others()).value});
}

struct TranslationCase {
  std::int64_t sentences, room;
  Convolution convolution;
};

void expect_pytorch_tapes(const std::vector<TranslationCase>& cases) {
  std::string command = "pytorch_translation_tape.py";
  std::vector<std::int64_t> counted;
  for (const auto& [sentences, room, convolution] : cases) {
    command += " " + std::to_string(sentences) + " " + std::to_string(room) +
               (convolution == Convolution::band ? " band" : " unfold");
    const Tape tape = translation_tape({sentences, room, room}, convolution);
    counted.push_back((tape.values() + tape.others()).value);
  }
  EXPECT_EQ(pytorch_tapes(command), counted) << command;
}

// Sentences shorter and longer than the kernels.
TEST_F(PyTorchTape, OfDynamicConvIsTheCountedOne) {
  expect_pytorch_tapes({{3, 5, Convolution::band},
                        {2, 40, Convolution::band},
                        {3, 5, Convolution::unfolded},
                        {2, 40, Convolution::unfolded}});
}

TEST_F(PyTorchTape, SlowOfDynamicConvAt4000TokensIsTheCountedOne) {
  expect_pytorch_tapes({{200, 20, Convolution::band}, {40, 98, Convolution::band}});
}

}  // namespace
}  // namespace thimble
