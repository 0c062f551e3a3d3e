#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "model_options.h"
#include "thimble/replay.h"

namespace thimble {
namespace {

struct ReplayOptions {
  std::string plan;
  std::string trace;
  bool json = false;
};

int run_replay(const ReplayOptions& options) {
  const Plan plan = load_plan(options.plan);
  std::vector<std::string> problems = check_plan(plan, registry());
  ReplayReport report;
  if (problems.empty()) {
    report = replay(plan, registry());
    problems = report.problems;
    if (problems.empty() && !options.trace.empty())
      if (const auto difference = compare_trace(plan, registry(), read_file(options.trace), options.trace))
        problems.push_back(*difference);
  }
  nlohmann::ordered_json programs = nlohmann::ordered_json::array();
  for (const ReplayedProgram& program : report.programs)
    programs.push_back({{"name", program.name},
                        {"steps", program.steps},
                        {"requests", program.requests},
                        {"planned_bytes", plan.program(program.name).planned.value},
                        {"high_water_bytes", program.high_water.value}});
  const nlohmann::ordered_json document{
      {"arena_bytes", plan.arena.value}, {"programs", programs}, {"problems", problems}};
  if (options.json) {
    std::cout << document.dump(2) << '\n';
  } else {
    for (const auto& program : programs)
      std::cout << program.at("name").get<std::string>() << ": " << program.at("steps") << " steps, "
                << program.at("requests") << " requests, high water " << program.at("high_water_bytes") << " of "
                << program.at("planned_bytes") << " bytes\n";
    for (const std::string& problem : problems) std::cout << problem << '\n';
    std::cout << (problems.empty() ? "replay agrees with the plan\n" : "replay differs\n");
  }
  return problems.empty() ? kDone : kHonestNo;
}

}  // namespace

Command add_replay_command(CLI::App& app) {
  auto options = std::make_shared<ReplayOptions>();
  CLI::App* command = app.add_subcommand("replay", "walk a plan with a shadow owner per byte range, no kernels");
  command->footer("example: thimble replay plan.json trace.csv");
  command->add_option("plan", options->plan, "a plan file")->required();
  command->add_option("trace", options->trace, "requests recorded by train --trace");
  command->add_flag("--json", options->json, "one JSON document instead of lines");
  return [options] { return run_replay(*options); };
}

}  // namespace thimble
