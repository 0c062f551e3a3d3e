#include <iostream>
#include <memory>

#include "commands.h"
#include "thimble/checkpoint.h"

namespace thimble {
namespace {

struct AverageOptions {
  std::vector<std::string> checkpoints;
  std::string out;
};

}  // namespace

Command add_average_command(CLI::App& app) {
  auto options = std::make_shared<AverageOptions>();
  CLI::App* command = app.add_subcommand("average", "the mean of the weights of several checkpoints of a model");
  command->footer("example: thimble average run/checkpoint.epoch*.safetensors -o run/average.safetensors");
  command->add_option("checkpoints", options->checkpoints, "safetensors files with the same tensors")->required();
  command->add_option("-o,--out", options->out, "where to write it; for `eval`, `translate` and `train --init`")
      ->required();
  return [options] {
    average_checkpoints(options->checkpoints, options->out);
    std::cout << "mean of " << options->checkpoints.size() << " checkpoints: " << options->out << '\n';
    return kDone;
  };
}

}  // namespace thimble
