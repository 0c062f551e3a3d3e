#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "search_options.h"
#include "thimble/bleu.h"
#include "thimble/error.h"
#include "thimble/translate_lines.h"
#include "training_job.h"

namespace thimble {
namespace {

struct EvalOptions {
  std::string plan;
  std::string checkpoint;
  std::string data;
  std::string set = "valid";
  std::string bleu = "auto";
  std::string output;
  SearchOptions search;
  bool json = false;
  std::vector<std::string> of_text;  // options that were given and act on translation models alone
};

// Words as a tokeniser left them are compared as they are, raw text as sacreBLEU does.
BleuOptions bleu_options(const std::string& name, const TextPieces& pieces) {
  if (name == "13a" || (name == "auto" && pieces.makes_raw_text())) return {};
  return {.tokens = BleuTokens::none, .smoothing = BleuSmoothing::none};
}

// Loss is of the pairs that training would take, BLEU of every line.
void add_bleu(const EvalOptions& options, const Plan& plan, const TextFolder& text, nlohmann::ordered_json& report) {
  OpenTranslator translator(plan, options.checkpoint, options.search);
  const std::vector<std::string> references = text.references(options.set);
  const TranslatedLines out = translate_lines(*translator, text, text.sources(options.set));
  if (out.lines.size() != references.size())
    throw BadInput(options.data + ": set '" + options.set + "' has " + std::to_string(out.lines.size()) +
                   " sources for " + std::to_string(references.size()) + " references");
  const BleuOptions how = bleu_options(options.bleu, text.pieces());
  const Bleu score = bleu(out.lines, references, how);
  report["bleu"] = score.score;
  report["bleu_signature"] = bleu_signature(how);
  report["brevity_penalty"] = score.brevity_penalty;
  report["search_arena_bytes"] = translator->arena().value;
  report["search_high_water_bytes"] = translator->high_water().value;
  if (options.output.empty()) return;
  std::string lines;
  for (const std::string& line : out.lines) lines += line + "\n";
  write_file(options.output, lines);
}

// In the plan's arena, which is gone when a search needs one.
nlohmann::ordered_json evaluate(const EvalOptions& options, const Plan& plan, const TrainingData& data) {
  OpenRuntime open(plan);
  Runtime& runtime = open.runtime();
  const auto job = make_training_job(runtime, data, {.steps = 1}, false);
  job->run().load_initial(options.checkpoint);
  nlohmann::ordered_json report{{"data", data.text ? options.data : data.pictures.test.name}};
  if (data.text) report["set"] = options.set;
  report.update(job->evaluated_on());
  report.update(job->evaluate());
  report["arena_bytes"] = plan.arena.value;
  report["program_high_water_bytes"] = runtime.last_high_water().value;
  return report;
}

int run_eval(const EvalOptions& options) {
  const Plan plan = load_plan(options.plan);
  if (!is_translation(plan) && !options.of_text.empty())
    throw InvalidArgument(options.of_text.front() + " does nothing for pictures: it is for translation models");
  const TrainingData data = load_evaluation_data(plan, options.data, options.set);
  nlohmann::ordered_json report = evaluate(options, plan, data);
  if (data.text && options.bleu != "off") add_bleu(options, plan, data.text->folder, report);
  std::cout << report.dump(options.json ? 2 : -1) << '\n';
  return kDone;
}

}  // namespace

Command add_eval_command(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand(
      "eval", "loss and accuracy of a checkpoint, or loss, perplexity and BLEU, in the plan's arena");
  command->footer("example: thimble eval run/plan.json run/checkpoint.safetensors --data DIR");
  command->add_option("plan", options->plan, "a plan file")->required();
  command->add_option("checkpoint", options->checkpoint, "a safetensors file with the weights")->required();
  command->add_option("--data", options->data,
                      "a folder with CIFAR-10's binary files, or `synthetic`; for translation a folder of text");
  command->add_option("--set", options->set, "translation: which of the folder's sets")->capture_default_str();
  command
      ->add_option("--bleu", options->bleu,
                   "translation: 13a as sacreBLEU, of raw text; tokenised: of words as they are, as fairseq; auto: 13a "
                   "where pieces make raw text; off")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "13a", "tokenised", "off"}));
  command->add_option("--output", options->output, "translation: write the translations, a line each");
  add_search_options(*command, options->search);
  for (const char* name : {"--set", "--bleu", "--output", "--beam", "--lenpen", "--max-length", "--sentences",
                           "--device", "--threads", "--math"})
    command->get_option(name)->each([options, name](const std::string&) { options->of_text.emplace_back(name); });
  command->add_flag("--json", options->json, "pretty-print the report");
  return [options] { return run_eval(*options); };
}

}  // namespace thimble
