#include <iostream>
#include <memory>

#include "advice.h"
#include "commands.h"
#include "explain.h"
#include "model_options.h"
#include "plan_report.h"
#include "training_data.h"

namespace thimble {
namespace {

struct PlanOptions {
  ModelOptions model;
  std::string output;
  bool json = false;
  bool explain = false;
};

int run_plan(PlanOptions options) {
  if (!options.model.data.empty()) load_training_data(options.model);
  const std::string table_path = options.output.empty() ? "" : calibration_beside(options.output);
  const auto [answer, calibration] = plan_training(options.model, training_requests(options.model), table_path);
  auto report = plan_report(answer, registry(), calibration.get());
  if (const DoesNotFit* no = std::get_if<DoesNotFit>(&answer))
    report["could_allow"] = advise(options.model, no->smallest.arena);
  std::cout << (options.json ? report.dump(2) + "\n" : plan_table(report));
  const Plan* plan = std::get_if<Plan>(&answer);
  if (plan == nullptr) return kHonestNo;
  if (options.explain) (options.json ? std::cerr : std::cout) << explain(*plan, registry(), calibration.get());
  if (!options.output.empty()) write_file(options.output, write_plan(*plan));
  return kDone;
}

}  // namespace

Command add_plan_command(CLI::App& app) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* plan = app.add_subcommand("plan", "how many bytes a training run needs, before the first step");
  plan->footer("example: thimble plan wrn-28-2 --batch 100 -o plan.json");
  plan->add_option("model", options->model.model,
                   "wrn-28-2, wrn with --depth and --width, dynamicconv-iwslt or lightconv-iwslt")
      ->required();
  add_model_options(*plan, options->model);
  plan->add_option("-o,--output", options->output, "write the plan itself");
  plan->add_flag("--explain", options->explain,
                 "in words: what was cut or made again, for how many bytes and how much time");
  plan->add_flag("--json", options->json, "one JSON document instead of a table");
  return [options] { return run_plan(*options); };
}

}  // namespace thimble
