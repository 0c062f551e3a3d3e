#include "plan_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace thimble {
namespace {

// Names as `bytes_by_role` lists them; the order of Role.
constexpr const char* kRoleKeys[kRoleCount] = {"weights", "optimizer", "gradients", "activations", "statistics",
                                               "state",   "workspace", "input",     "other"};
constexpr std::size_t kForcedByCount = 8;

std::string with_thousands(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

std::string right(const std::string& text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

// The largest tensors live at the peak: what a smaller arena would have to give up.
nlohmann::ordered_json forced_by(const Program& program) {
  std::vector<const Storage*> live;
  for (const Storage& storage : program.schedule.storages)
    if (storage.lifetime.begin <= program.peak_step && program.peak_step < storage.lifetime.end)
      live.push_back(&storage);
  std::stable_sort(live.begin(), live.end(), [](const Storage* a, const Storage* b) { return a->size > b->size; });
  live.resize(std::min(live.size(), kForcedByCount));
  auto list = nlohmann::ordered_json::array();
  for (const Storage* storage : live)
    list.push_back({{"tensor", storage->name}, {"role", to_string(storage->role)}, {"bytes", storage->size.value}});
  return list;
}

std::int64_t recomputed_steps(const Program& program) {
  return std::count_if(program.schedule.steps.begin(), program.schedule.steps.end(),
                       [](const ScheduledStep& step) { return step.is_recomputation; });
}

}  // namespace

std::int64_t count_loops(const Program& program) {
  return std::count_if(program.schedule.order.begin(), program.schedule.order.end(),
                       [](const ScheduleNode& node) { return node.kind == ScheduleNode::Kind::repeat; });
}

std::string statistics_text(const Plan& plan) {
  const auto norm = plan.options.find("norm");
  if (norm == plan.options.end()) return "";
  if (norm->second == "group") return "of every sample by itself, which no cut changes";
  const auto [least, most] = std::ranges::minmax(plan.programs.front().microbatches);
  const std::string samples = (least == most ? "" : std::to_string(least) + " to ") + std::to_string(most) +
                              (most == 1 ? " sample" : " samples");
  return (most == plan.batch ? "of the whole batch of " : "of a microbatch of ") + samples;
}

nlohmann::ordered_json plan_report(const PlanOrNo& answer, const OpRegistry& registry,
                                   const CalibrationTable* calibration) {
  const DoesNotFit* no = std::get_if<DoesNotFit>(&answer);
  const Plan& plan = plan_or_smallest(answer);
  const Program& peak = peak_program(plan);
  const Program& train = plan.programs.front();
  const ProgramCost cost = program_cost(train, registry, plan.device, calibration);
  const std::vector<Bytes> roles = bytes_by_role(plan, peak, peak.peak_step);
  nlohmann::ordered_json by_role;
  Bytes live;
  for (int i = 0; i < kRoleCount; ++i) {
    by_role[kRoleKeys[i]] = roles[static_cast<std::size_t>(i)].value;
    live += roles[static_cast<std::size_t>(i)];
  }
  nlohmann::ordered_json programs = nlohmann::ordered_json::array();
  for (const Program& program : plan.programs)
    programs.push_back({{"name", program.name},
                        {"planned_bytes", program.planned.value},
                        {"lower_bound_bytes", program.lower_bound.value},
                        {"steps", program.schedule.steps.size()},
                        {"placed_by", program.made_by}});
  const bool has_steps = !peak.schedule.steps.empty();
  const OpId peak_op = has_steps ? peak.schedule.steps[static_cast<std::size_t>(index(peak.peak_step))].op : kNoOp;
  nlohmann::ordered_json report{
      {"model", plan.model},
      {"batch", plan.batch},
      {"microbatch", *std::max_element(train.microbatches.begin(), train.microbatches.end())},
      {"microbatches", train.microbatches},
      {"loops", count_loops(train) > 1 ? "block" : "microbatch"},
      {"loop_count", count_loops(train)},
      {"device", plan.device.name},
      {"arena_bytes", plan.arena.value},
      {"lower_bound_bytes", (no != nullptr ? no->lower_bound : peak.lower_bound).value},
      {"live_peak_bytes", live.value},
      {"bytes_by_role", by_role},
      {"peak_program", peak.name},
      {"peak_step", index(peak.peak_step)},
      {"peak_op", has_steps ? peak.graph.ops[peak_op].name : ""},
      {"flops", static_cast<std::int64_t>(cost.flops)},
      {"recompute_flops", static_cast<std::int64_t>(cost.recompute_flops)},
      {"predicted_ms", cost.milliseconds},
      {"calibration", plan.calibration ? nlohmann::ordered_json(*plan.calibration) : nlohmann::ordered_json(nullptr)},
      {"recomputed_steps", recomputed_steps(train)},
      {"budget_bytes", plan.budget ? nlohmann::ordered_json(plan.budget->value) : nlohmann::ordered_json(nullptr)},
      {"fits", no == nullptr},
      {"arithmetic_hash", plan.arithmetic_hash},
      {"threads", plan.device.threads},
      {"planner_seed", plan.planner_seed},
      {"norm", plan.options.count("norm") != 0 ? plan.options.at("norm") : ""},
      {"statistics", statistics_text(plan)},
      {"engines", plan.engines},
      {"programs", programs}};
  if (no != nullptr) {
    report["smallest_arena_bytes"] = plan.arena.value;
    report["forced_by"] = forced_by(peak);
  }
  return report;
}

std::string plan_table(const nlohmann::ordered_json& report) {
  const auto bytes = [&](const char* key) { return report.at(key).get<std::int64_t>(); };
  std::string table = report.at("model").get<std::string>() + ", batch " + std::to_string(bytes("batch")) + " in " +
                      std::to_string(report.at("microbatches").size()) + " microbatch(es), " +
                      (bytes("loop_count") > 1 ? "block by block in " + std::to_string(bytes("loop_count")) + " loops, "
                                               : std::string{}) +
                      report.at("device").get<std::string>() + ", " + std::to_string(bytes("threads")) + " thread(s)\n";
  const auto line = [&](const std::string& name, std::int64_t value) {
    table += "  " + name + std::string(name.size() < 16 ? 16 - name.size() : 1, ' ') +
             right(with_thousands(value), 15) + " bytes\n";
  };
  for (const auto& [role, value] : report.at("bytes_by_role").items()) line(role, value.get<std::int64_t>());
  line("live at peak", bytes("live_peak_bytes"));
  line("lower bound", bytes("lower_bound_bytes"));
  line("arena", bytes("arena_bytes"));
  table += "  peak at step " + std::to_string(bytes("peak_step")) + " of '" +
           report.at("peak_program").get<std::string>() + "': " + report.at("peak_op").get<std::string>() + "\n";
  if (const std::string norm = report.at("norm"); !norm.empty())
    table += "  norm " + norm + ": statistics " + report.at("statistics").get<std::string>() + "\n";
  const auto milliseconds = report.at("predicted_ms").get<double>();
  char text[160];
  std::snprintf(text, sizeof text, "  one step: %.1f GFLOP (+%.1f recomputed), %.*f ms predicted%s\n",
                report.at("flops").get<double>() / 1e9, report.at("recompute_flops").get<double>() / 1e9,
                milliseconds < 100 ? 2 : 0, milliseconds, report.at("calibration").is_null() ? "" : " by measured ops");
  table += text;
  table += "  arithmetic " + report.at("arithmetic_hash").get<std::string>() + "\n";
  if (report.at("budget_bytes").is_null()) return table;
  table += std::string("  budget ") + with_thousands(bytes("budget_bytes")) + " bytes: " +
           (report.at("fits").get<bool>() ? "fits\n"
                                          : "does not fit; the smallest arena this planner reaches is the one above, "
                                            "nothing fits below the lower bound\n");
  if (report.contains("forced_by"))
    for (const auto& tensor : report.at("forced_by"))
      table += "    forced by " + tensor.at("tensor").get<std::string>() + ", " +
               with_thousands(tensor.at("bytes").get<std::int64_t>()) + " bytes\n";
  if (report.contains("could_allow"))
    for (const auto& one : report.at("could_allow"))
      table += std::string(one.at("fits").get<bool>() ? "    fits with " : "    less, not enough, with ") +
               one.at("option").get<std::string>() + ": " + with_thousands(one.at("arena_bytes").get<std::int64_t>()) +
               " bytes, " + std::to_string(std::lround(one.at("predicted_ms").get<double>())) + " ms a step\n";
  return table;
}

}  // namespace thimble
