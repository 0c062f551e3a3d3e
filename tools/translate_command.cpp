#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <memory>

#include "commands.h"
#include "model_options.h"
#include "search_options.h"
#include "thimble/error.h"
#include "thimble/text_lines.h"
#include "thimble/translate_lines.h"

namespace thimble {
namespace {

struct TranslateOptions {
  std::string plan, checkpoint, folder;
  SearchOptions search;
  std::int64_t buffer = 0;
};

// As many lines as are searched together; one where somebody waits at a terminal.
std::int64_t lines_at_a_time(const TranslateOptions& options) {
  constexpr std::int64_t kLines = 512;
  if (options.buffer > 0) return options.buffer;
  return isatty(STDIN_FILENO) != 0 ? 1 : kLines;
}

int run_translate(const TranslateOptions& options) {
  const Plan plan = load_plan(options.plan);
  const std::string beside = std::filesystem::path(options.plan).parent_path().string();
  const TextFolder text(!options.folder.empty() ? options.folder : beside.empty() ? "." : beside);
  OpenTranslator translator(plan, options.checkpoint, options.search);
  std::fprintf(stderr, "translate: an arena of %lld bytes\n", static_cast<long long>(translator->arena().value));
  TextLines lines(std::cin, "standard input");
  std::int64_t unknown = 0, cut = 0;
  const auto translate = [&](std::vector<std::string>& waiting) {
    const TranslatedLines out = translate_lines(*translator, text, waiting);
    for (const std::string& line : out.lines) std::cout << line << '\n';
    std::cout.flush();
    unknown += out.unknown;
    cut += out.cut;
    waiting.clear();
  };
  std::vector<std::string> waiting;
  const auto at_a_time = static_cast<std::size_t>(lines_at_a_time(options));
  try {
    while (const auto line = lines.next()) {
      waiting.emplace_back(*line);
      if (waiting.size() == at_a_time) translate(waiting);
    }
  } catch (const BadInput&) {
    translate(waiting);  // what came before the line that cannot be read
    throw;
  }
  translate(waiting);
  if (unknown > 0) std::fprintf(stderr, "translate: %lld unknown pieces\n", static_cast<long long>(unknown));
  if (cut > 0)
    std::fprintf(stderr, "translate: %lld line%s cut after %lld ids\n", static_cast<long long>(cut),
                 cut == 1 ? "" : "s", static_cast<long long>(kLongestSentence));
  if (!std::cout) throw EnvironmentError("cannot write to standard output");
  return kDone;
}

}  // namespace

Command add_translate_command(CLI::App& app) {
  auto options = std::make_shared<TranslateOptions>();
  CLI::App* command = app.add_subcommand("translate", "lines from standard input, translated, in order");
  command->footer("example: echo 'Ein kleiner Hund.' | thimble translate run/plan.json run/checkpoint.safetensors");
  command->add_option("plan", options->plan, "the plan that the model was trained by")->required();
  command->add_option("checkpoint", options->checkpoint, "a safetensors file with the weights")->required();
  command->add_option("--data", options->folder, "where dictionaries and pieces are; by default beside the plan");
  command->add_option("--buffer", options->buffer, "lines read before they are translated; 512, or 1 at a terminal")
      ->check(CLI::Range(1, 1 << 20));
  add_search_options(*command, options->search);
  return [options] { return run_translate(*options); };
}

}  // namespace thimble
