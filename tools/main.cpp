#include <iostream>

#include "commands.h"
#include "thimble/error.h"

int main(int argc, char** argv) {
  using namespace thimble;
  CLI::App app{"Thimble plans and runs neural network training in one arena, known to the byte beforehand.", "thimble"};
  app.require_subcommand(1);
  app.set_version_flag("--version", THIMBLE_VERSION);
  std::vector<std::pair<CLI::App*, Command>> commands;
  for (const auto add : {add_plan_command, add_prepare_command, add_train_command, add_eval_command,
                         add_average_command, add_translate_command, add_replay_command, add_view_command,
                         add_place_command, add_frontier_command, add_remat_command}) {
    Command command = add(app);
    commands.emplace_back(app.get_subcommands(nullptr).back(), std::move(command));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kWrongUsage;
  }
  try {
    for (const auto& [subcommand, run] : commands)
      if (subcommand->parsed()) return run();
  } catch (const InvalidArgument& error) {
    std::cerr << "thimble: " << error.what() << '\n';
    return kWrongUsage;
  } catch (const std::exception& error) {
    std::cerr << "thimble: " << error.what() << '\n';
    return kFailed;
  }
  return kFailed;
}
