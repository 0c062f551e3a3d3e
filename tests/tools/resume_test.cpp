// Runs that are stopped, killed and gone on with.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "run_command.h"

namespace thimble {
namespace {

// 20 steps an epoch: an epoch ends inside the run, at a step that is saved.
constexpr int kSteps = 24, kSaveEvery = 5;
const std::string kRun =
    "train wrn-10-1 --batch 100 --data synthetic --lr 0.05 --seed 5 --steps 24 --save-every 5 --threads 2 ";

class Resume : public Command {
 protected:
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
      Json json = Json::parse(line);
      if (json.contains("steps"))
        json = {{"steps", json.at("steps")},
                {"test_loss", json.at("test_loss")},
                {"test_accuracy", json.at("test_accuracy")}};
      json.erase("images_per_second");
      all.push_back(json);
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

  void expect_same_run(const std::string& run, const std::string& whole) {
    EXPECT_TRUE(weights(in(run + "/checkpoint.safetensors")) == weights(in(whole + "/checkpoint.safetensors"))) << run;
    EXPECT_EQ(learned(in(run + "/metrics.jsonl")), learned(in(whole + "/metrics.jsonl"))) << run;
    EXPECT_FALSE(has_half_written_checkpoint(run));
  }
};

TEST_F(Resume, ARunKilledAtAnyMomentGoesOnBitForBit) {
  const char* given = std::getenv("THIMBLE_KILL_SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::stoul(given)) : std::random_device()();
  std::printf("THIMBLE_KILL_SEED=%u draws these moments again\n", seed);
  std::mt19937 random(seed);
  ASSERT_EQ(thimble(kRun + "--out " + in("whole")).code, 0);
  ASSERT_EQ(learned(in("whole/metrics.jsonl")).size(), kSteps + 2u);  // an epoch's end, and the summary
  for (int round = 0; round < 4; ++round) {
    const std::string run = "killed" + std::to_string(round), metrics = in(run + "/metrics.jsonl"),
                      checkpoint = in(run + "/checkpoint.safetensors");
    const pid_t child = start(kRun + "--out " + in(run));
    // Once some step is done, and up to a few steps later; in the last round while a checkpoint is being written.
    const int steps = 1 + static_cast<int>(random() % (kSteps - 1)), delay_us = static_cast<int>(random() % 100'000);
    if (round < 3) wait_for(child, [&] { return lines(metrics) >= steps; });
    if (round < 3) std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
    if (round == 3) wait_for(child, [&] { return fs::exists(checkpoint) && has_half_written_checkpoint(run); });
    EXPECT_TRUE(WIFSIGNALED(end(child, SIGKILL))) << "it had ended before";
    std::printf("killed after line %d of the metrics, saved at step %lld%s\n", lines(metrics),
                static_cast<long long>(saved_step(checkpoint)),
                has_half_written_checkpoint(run) ? ", while saving" : "");
    ASSERT_EQ(thimble(kRun + "--resume --out " + in(run)).code, 0);
    expect_same_run(run, "whole");
  }
}

TEST_F(Resume, ListsEveryStepOnceWhateverTheMetricsHeld) {
  ASSERT_EQ(thimble(kRun + "--out " + in("whole")).code, 0);
  const pid_t child = start(kRun + "--out " + in("killed"));
  wait_for(child, [&] { return saved_step(in("killed/checkpoint.safetensors")) >= kSaveEvery; });
  EXPECT_TRUE(WIFSIGNALED(end(child, SIGKILL)));
  std::ofstream metrics(in("killed/metrics.jsonl"), std::ios::app);
  metrics << R"({"step":23,"loss":1})"
          << "\n"
          << R"({"epoch_end":9})"
          << "\nnot json\n[1]\n"
          << R"({"step":24,"lo)";
  metrics.close();
  ASSERT_EQ(thimble(kRun + "--resume --out " + in("killed")).code, 0);
  expect_same_run("killed", "whole");
  const std::string before = read(in("killed/metrics.jsonl"));
  ASSERT_EQ(thimble(kRun + "--resume --out " + in("killed")).code, 0);  // nothing is left to do
  EXPECT_EQ(read(in("killed/metrics.jsonl")), before);
}

TEST_F(Resume, RefusesAnotherRunAndLeavesItsFolderAsItWas) {
  const std::string run =
      "train wrn --depth 10 --width 1 --batch 32 --seed 5 --lr 0.05 --schedule cosine --weight-decay 0.001 --steps 2 "
      "--save-every 1 --out " +
      in("run");
  ASSERT_EQ(thimble(run).code, 0);
  const auto contents = [&] {
    std::map<std::string, std::string> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(in("run"))) files[entry.path()] = read(entry.path());
    return files;
  };
  const auto before = contents();
  EXPECT_EQ(before.size(), 3U);
  using Change = std::pair<std::string, std::string>;
  for (const auto& [from, to] : {Change{"--seed 5", "--seed 6"},
                                 {"--steps 2", "--steps 3"},
                                 {"--batch 32", "--batch 16"},
                                 {"--width 1", "--width 2"},
                                 {"--lr 0.05", "--lr 0.1"},
                                 {"cosine", "constant"},
                                 {"0.001", "0.0005"},
                                 {"--resume", "--resume --dropout 0.5"},
                                 {"--resume", "--resume --no-augment"}}) {
    std::string other = run + " --resume";
    other.replace(other.find(from), from.size(), to);
    EXPECT_EQ(thimble(other).code, 1) << to;
    EXPECT_TRUE(contents() == before) << to;
  }
}

TEST_F(Resume, SigtermSavesAndSaysSo) {
  const pid_t child = start(std::string(kSmall) + "--steps 100000 --out " + in("run"));
  wait_for(child, [&] { return lines(in("run/metrics.jsonl")) > 0; });
  EXPECT_EQ(WEXITSTATUS(end(child, SIGTERM)), 130);
  EXPECT_TRUE(fs::exists(in("run/checkpoint.safetensors")));
}

}  // namespace
}  // namespace thimble
