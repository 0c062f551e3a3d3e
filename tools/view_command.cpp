// `view` as text: one row per step of a program, address from left to right, a letter per role.
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "model_options.h"

namespace thimble {
namespace {

struct ViewOptions {
  std::string plan;
  std::string program;  // empty: the first
  int columns = 96;
  int rows = 60;
  bool json = false;
};

constexpr std::string_view kRoleLetters = "WOGASHTI?";  // the order of Role; H: handed on, T: temporary workspace

// A column shows the role that holds most of its bytes, '!' where two tensors claim one byte, ' ' where free.
std::string draw_row(const Plan& plan, const Program& program, Step step, int columns) {
  struct Span {
    Offset begin, end;
    Role role;
  };
  std::vector<Span> spans;
  for (const PersistentTensor& tensor : plan.persistent)
    spans.push_back({tensor.offset, tensor.offset + bytes_of(tensor.type), tensor.role});
  for (const Storage& storage : program.schedule.storages)
    if (!storage.persistent && storage.lifetime.begin <= step && step < storage.lifetime.end)
      spans.push_back({storage.offset, storage.offset + storage.size, storage.role});
  std::string row;
  for (int c = 0; c < columns; ++c) {
    const std::int64_t begin = plan.arena.value * c / columns, end = plan.arena.value * (c + 1) / columns;
    std::int64_t held[kRoleCount] = {}, total = 0;
    for (const Span& span : spans) {
      const std::int64_t bytes = std::min(end, span.end.value) - std::max(begin, span.begin.value);
      if (bytes <= 0) continue;
      held[static_cast<int>(span.role)] += bytes;
      total += bytes;
    }
    const auto most = std::max_element(held, held + kRoleCount);
    row += total > end - begin       ? '!'
           : 2 * total < end - begin ? (total == 0 ? ' ' : '.')
                                     : kRoleLetters[static_cast<std::size_t>(most - held)];
  }
  return row;
}

Bytes live_bytes(const Plan& plan, const Program& program, Step step) {
  Bytes live;
  for (Bytes bytes : bytes_by_role(plan, program, step)) live += bytes;
  return live;
}

int run_view(const ViewOptions& options) {
  const Plan plan = load_plan(options.plan);
  const Program& program = options.program.empty() ? plan.programs.front() : plan.program(options.program);
  const auto count = static_cast<std::int32_t>(program.schedule.steps.size());
  if (options.json) {
    nlohmann::ordered_json steps = nlohmann::ordered_json::array();
    for (std::int32_t i = 0; i < count; ++i)
      steps.push_back({{"step", i},
                       {"op", program.graph.ops[program.schedule.steps[static_cast<std::size_t>(i)].op].name},
                       {"live_bytes", live_bytes(plan, program, Step{i}).value}});
    std::cout << nlohmann::ordered_json{{"program", program.name}, {"arena_bytes", plan.arena.value}, {"steps", steps}}
                     .dump(2)
              << '\n';
    return kDone;
  }
  std::cout << plan.model << ", program '" << program.name << "': arena " << to_string(plan.arena) << ", one column is "
            << to_string(Bytes{plan.arena.value / options.columns})
            << "\nW weight  O optimizer  G gradient  A activation  S statistic  H state  T workspace  I input  . less "
               "than half full  ! overlap\n";
  const std::int32_t stride = std::max(1, (count + options.rows - 1) / options.rows);
  for (std::int32_t i = 0; i < count; ++i) {
    if (i % stride != 0 && Step{i} != program.peak_step) continue;
    const std::string live = std::to_string(live_bytes(plan, program, Step{i}).value / 1000);
    std::cout << std::string(live.size() < 8 ? 8 - live.size() : 0, ' ') << live << " kB |"
              << draw_row(plan, program, Step{i}, options.columns) << "| "
              << (Step{i} == program.peak_step ? "<- peak " : "")
              << program.graph.ops[program.schedule.steps[static_cast<std::size_t>(i)].op].name << '\n';
  }
  return kDone;
}

}  // namespace

Command add_view_command(CLI::App& app) {
  auto options = std::make_shared<ViewOptions>();
  CLI::App* command = app.add_subcommand("view", "the arena over time, as text");
  command->footer("example: thimble view plan.json --rows 40");
  command->add_option("plan", options->plan, "a plan file")->required();
  command->add_option("--program", options->program)->capture_default_str();
  command->add_option("--columns", options->columns)->capture_default_str()->check(CLI::Range(8, 1000));
  command->add_option("--rows", options->rows)->capture_default_str()->check(CLI::Range(1, 1000000));
  command->add_flag("--json", options->json, "live bytes of every step as one JSON document");
  return [options] { return run_view(*options); };
}

}  // namespace thimble
