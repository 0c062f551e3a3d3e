#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "model_options.h"
#include "thimble/dataset.h"
#include "thimble/trainer.h"

namespace thimble {
namespace {

struct EvalOptions {
  std::string plan;
  std::string checkpoint;
  std::string data = "synthetic";
  bool json = false;
};

int run_eval(const EvalOptions& options) {
  HostMemory memory;
  Runtime runtime(load_plan(options.plan), registry(), memory);
  const DataSets data = load_data_for(runtime.plan(), options.data);
  Trainer trainer(runtime, data.train, data.test, {.steps = 1});
  trainer.load_initial(options.checkpoint);
  const EvaluationResult test = trainer.evaluate();
  const nlohmann::ordered_json report{{"data", data.test.name},
                                      {"test_samples", test.samples},
                                      {"test_loss", test.loss},
                                      {"test_accuracy", test.accuracy},
                                      {"arena_bytes", runtime.plan().arena.value},
                                      {"program_high_water_bytes", runtime.last_high_water().value}};
  if (options.json)
    std::cout << report.dump(2) << '\n';
  else
    std::cout << data.test.name << ": accuracy " << test.accuracy << ", loss " << test.loss << " over " << test.samples
              << " samples\n";
  return kDone;
}

}  // namespace

Command add_eval_command(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand("eval", "loss and accuracy of a checkpoint, in the plan's arena");
  command->footer("example: thimble eval run/plan.json run/checkpoint.safetensors --data DIR");
  command->add_option("plan", options->plan, "a plan file")->required();
  command->add_option("checkpoint", options->checkpoint, "a safetensors file with the weights")->required();
  command->add_option("--data", options->data, "a folder with CIFAR-10's binary files, or `synthetic`")
      ->capture_default_str();
  command->add_flag("--json", options->json, "one JSON document instead of a line");
  return [options] { return run_eval(*options); };
}

}  // namespace thimble
