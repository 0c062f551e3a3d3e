// Runs that are stopped, killed and gone on with.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "text_command.h"

namespace thimble {
namespace {

// Runs of one kind of model. Epochs end inside them, some at a step that is saved.
struct Run {
  const char* name;
  std::string command;  // %T is the folder of text
  int steps;
  int last_to_kill_at;  // what is left of the run then takes longer than any delay
  std::size_t epoch_ends;
  std::string short_run;
  std::size_t files;                                         // of its folder
  std::vector<std::pair<std::string, std::string>> changes;  // of the short run, each of which makes it another one
  friend void PrintTo(const Run& run, std::ostream* out) { *out << run.name; }
};

constexpr int kSaveEvery = 5;

const Run kPictures{
    "Pictures",
    "train wrn-10-1 --batch 100 --data synthetic --lr 0.05 --seed 5 --steps 24 --save-every 5 --threads 2 ",
    24,
    23,
    1,
    "train wrn --depth 10 --width 1 --batch 32 --seed 5 --lr 0.05 --schedule cosine --weight-decay 0.001 --steps 2 "
    "--save-every 1 ",
    3,
    {{"--seed 5", "--seed 6"},
     {"--steps 2", "--steps 3"},
     {"--batch 32", "--batch 16"},
     {"--width 1", "--width 2"},
     {"--lr 0.05", "--lr 0.1"},
     {"cosine", "constant"},
     {"0.001", "0.0005"},
     {"--resume", "--resume --dropout 0.5"},
     {"--resume", "--resume --no-augment"}}};

#define TINY_TEXT                                                                                              \
  "train dynamicconv --channels 32 --hidden 32 --heads 2 --encoder-kernels 3 --decoder-kernels 3 --threads 1 " \
  "--data %T --lr 0.01 --seed 5 "

const Run kText{"Text",
                TINY_TEXT "--max-tokens 128 --steps 160 --save-every 5 --keep-epochs 2 ",
                160,
                70,
                7,
                TINY_TEXT "--max-tokens 128 --weight-decay 0.001 --steps 2 --save-every 1 ",
                5,
                {{"--seed 5", "--seed 6"},
                 {"--steps 2", "--steps 3"},
                 {"--max-tokens 128", "--max-tokens 96"},
                 {"--channels 32", "--channels 64"},
                 {"--lr 0.01", "--lr 0.02"},
                 {"--resume", "--resume --warmup 10"},
                 {"0.001", "0.0005"},
                 {"--resume", "--resume --dropout 0.5"},
                 {"--resume", "--resume --longest 8"},
                 {"%T", "%T-other"}}};

class Resume : public TextCommand, public ::testing::WithParamInterface<Run> {
 protected:
  // Options with the folder of text in its place.
  std::string with_text(std::string arguments) const {
    if (const auto at = arguments.find("%T"); at != std::string::npos) arguments.replace(at, 2, in("text"));
    return arguments + " ";
  }
  std::string run_to(const std::string& folder) const { return with_text(GetParam().command) + "--out " + in(folder); }

  static pid_t start(const std::string& arguments) {
    const std::string line = "exec " + std::string(THIMBLE_COMMAND) + " " + arguments + " >/dev/null 2>&1";
    const pid_t child = fork();
    if (child != 0) return child;
    execl("/bin/sh", "sh", "-c", line.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }

  // Waits until it is so, or the child has ended.
  template <class Condition>
  static void wait_for(pid_t child, Condition condition) {
    siginfo_t ended{};
    while (!condition() && waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           ended.si_pid == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(500));
  }

  static int end(pid_t child, int signal) {
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }

  static int lines(const std::string& path) {
    const std::string text = read(path);
    return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
  }

  // What a run's metrics say of training, without what was measured.
  static std::vector<Json> learned(const std::string& path) {
    std::vector<Json> all;
    std::istringstream text(read(path));
    for (std::string line; std::getline(text, line);) {
      const Json json = Json::parse(line);
      Json kept;
      for (const auto& [key, value] : json.items())
        if (!json.contains("steps") ? !key.ends_with("_per_second")
                                    : key == "steps" || key.starts_with("test_") || key.starts_with("valid_"))
          kept[key] = value;
      all.push_back(kept);
    }
    return all;
  }

  bool has_half_written_checkpoint(const std::string& run) const {
    if (!fs::exists(in(run))) return false;
    for (const fs::directory_entry& entry : fs::directory_iterator(in(run)))
      if (entry.path().filename().string().starts_with("checkpoint.safetensors.tmp.")) return true;
    return false;
  }

  static std::int64_t saved_step(const std::string& checkpoint) {
    if (!fs::exists(checkpoint)) return 0;
    const std::string text = read(checkpoint);
    return std::stoll(Json::parse(text.substr(8, text.size() - 8 - weights(checkpoint).size()))
                          .at("__metadata__")
                          .at("step")
                          .get<std::string>());
  }

  std::vector<std::string> checkpoints(const std::string& run) const {
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(in(run)))
      if (const std::string name = entry.path().filename().string(); name.starts_with("checkpoint."))
        names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }

  void expect_same_run(const std::string& run, const std::string& whole) {
    EXPECT_EQ(checkpoints(run), checkpoints(whole)) << run;  // none half written
    for (const std::string& name : checkpoints(whole))
      EXPECT_TRUE(weights(in(run + "/" + name)) == weights(in(whole + "/" + name))) << run << " " << name;
    EXPECT_EQ(learned(in(run + "/metrics.jsonl")), learned(in(whole + "/metrics.jsonl"))) << run;
  }
};

TEST_P(Resume, ARunKilledAtAnyMomentGoesOnBitForBit) {
  const char* given = std::getenv("THIMBLE_KILL_SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::stoul(given)) : std::random_device()();
  std::printf("THIMBLE_KILL_SEED=%u draws these moments again\n", seed);
  std::mt19937 random(seed);
  ASSERT_EQ(thimble(run_to("whole")).code, 0);
  ASSERT_EQ(learned(in("whole/metrics.jsonl")).size(),
            static_cast<std::size_t>(GetParam().steps) + GetParam().epoch_ends + 1);  // and the summary
  for (int round = 0; round < 4; ++round) {
    const std::string run = "killed" + std::to_string(round), metrics = in(run + "/metrics.jsonl"),
                      checkpoint = in(run + "/checkpoint.safetensors");
    const pid_t child = start(run_to(run));
    // Once some step is done, and up to a few steps later; in the last round while a checkpoint is being written.
    const int steps = 1 + static_cast<int>(random() % static_cast<unsigned>(GetParam().last_to_kill_at));
    const int delay_us = static_cast<int>(random() % 100'000);
    if (round < 3) wait_for(child, [&] { return lines(metrics) >= steps; });
    if (round < 3) std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
    if (round == 3) wait_for(child, [&] { return fs::exists(checkpoint) && has_half_written_checkpoint(run); });
    EXPECT_TRUE(WIFSIGNALED(end(child, SIGKILL))) << "it had ended before";
    std::printf("killed after line %d of the metrics, saved at step %lld%s\n", lines(metrics),
                static_cast<long long>(saved_step(checkpoint)),
                has_half_written_checkpoint(run) ? ", while saving" : "");
    ASSERT_EQ(thimble(run_to(run) + " --resume").code, 0);
    expect_same_run(run, "whole");
  }
}

TEST_P(Resume, ListsEveryStepOnceWhateverTheMetricsHeld) {
  ASSERT_EQ(thimble(run_to("whole")).code, 0);
  const pid_t child = start(run_to("killed"));
  wait_for(child, [&] { return saved_step(in("killed/checkpoint.safetensors")) >= kSaveEvery; });
  EXPECT_TRUE(WIFSIGNALED(end(child, SIGKILL)));
  std::ofstream metrics(in("killed/metrics.jsonl"), std::ios::app);
  metrics << R"({"step":23,"loss":1})"
          << "\n"
          << R"({"epoch_end":9})"
          << "\nnot json\n[1]\n"
          << R"({"step":24,"lo)";
  metrics.close();
  ASSERT_EQ(thimble(run_to("killed") + " --resume").code, 0);
  expect_same_run("killed", "whole");
  const std::string before = read(in("killed/metrics.jsonl"));
  ASSERT_EQ(thimble(run_to("killed") + " --resume").code, 0);  // nothing is left to do
  EXPECT_EQ(read(in("killed/metrics.jsonl")), before);
}

TEST_P(Resume, RefusesAnotherRunAndLeavesItsFolderAsItWas) {
  write_pairs("train", CipherText(kTrainPairs, 8, 3));
  ASSERT_EQ(thimble(prepare("text-other")).code, 0);
  const std::string run = GetParam().short_run + "--out " + in("run");
  ASSERT_EQ(thimble(with_text(run)).code, 0);
  const auto contents = [&] {
    std::map<std::string, std::string> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(in("run"))) files[entry.path()] = read(entry.path());
    return files;
  };
  const auto before = contents();
  EXPECT_EQ(before.size(), GetParam().files);
  for (const auto& [from, to] : GetParam().changes) {
    std::string other = run + " --resume";
    other.replace(other.find(from), from.size(), to);
    EXPECT_EQ(thimble(with_text(other)).code, 1) << to;
    EXPECT_TRUE(contents() == before) << to;
  }
}

TEST_P(Resume, SigtermSavesAndSaysSo) {
  std::string run = with_text(GetParam().short_run) + "--out " + in("run");
  run.replace(run.find("--steps 2"), 9, "--steps 100000");
  const pid_t child = start(run);
  wait_for(child, [&] { return lines(in("run/metrics.jsonl")) > 2; });
  EXPECT_EQ(WEXITSTATUS(end(child, SIGTERM)), 130);
  const std::string checkpoint = in("run/checkpoint.safetensors");
  EXPECT_EQ(saved_step(checkpoint), last_line(in("run/metrics.jsonl")).at("step"));
}

INSTANTIATE_TEST_SUITE_P(OfEither, Resume, ::testing::Values(kPictures, kText),
                         [](const auto& run) { return run.param.name; });

}  // namespace
}  // namespace thimble
