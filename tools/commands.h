// One function per subcommand: adds itself to the parser and returns what to run when it was chosen.
#pragma once

#include <CLI/CLI.hpp>

namespace thimble {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kWrongUsage = 2;
inline constexpr int kHonestNo = 3;
inline constexpr int kInterrupted = 130;

/// Runs after parsing; its value is the exit code.
using Command = std::function<int()>;

Command add_plan_command(CLI::App& app);
Command add_train_command(CLI::App& app);
Command add_eval_command(CLI::App& app);
Command add_prepare_command(CLI::App& app);
Command add_average_command(CLI::App& app);
Command add_translate_command(CLI::App& app);
Command add_replay_command(CLI::App& app);
Command add_view_command(CLI::App& app);
Command add_place_command(CLI::App& app);
Command add_remat_command(CLI::App& app);
Command add_frontier_command(CLI::App& app);

}  // namespace thimble
