#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "thimble/buckets.h"
#include "thimble/error.h"
#include "thimble/text_folder.h"

namespace thimble {
namespace {

struct PrepareOptions {
  std::string train, valid, test, source, target, out;
  TextPreparation preparation{};
  bool json = false;
};

int run_prepare(const PrepareOptions& options) {
  TextPreparation preparation = options.preparation;
  const auto add = [&](const char* name, const std::string& prefix) {
    if (!prefix.empty())
      preparation.sets.push_back({name, prefix + "." + options.source, prefix + "." + options.target});
  };
  add("train", options.train);
  add("valid", options.valid);
  add("test", options.test);
  prepare_text_folder(options.out, preparation);
  const TextFolder folder(options.out);
  nlohmann::ordered_json report{{"source_pieces", folder.source().size()}, {"target_pieces", folder.target().size()}};
  for (const TextPreparation::Set& set : preparation.sets) {
    const ParallelReport pairs = folder.pairs(set.name, kLongestSentence).report;
    report[set.name] = {{"pairs", pairs.kept},
                        {"empty", pairs.empty},
                        {"too_long", pairs.too_long},
                        {"unknown_source_pieces", pairs.unknown_sources},
                        {"unknown_target_pieces", pairs.unknown_targets}};
  }
  std::cout << report.dump(options.json ? 2 : -1) << '\n';
  return kDone;
}

}  // namespace

Command add_prepare_command(CLI::App& app) {
  auto options = std::make_shared<PrepareOptions>();
  CLI::App* command = app.add_subcommand("prepare", "text files to a folder that a translation model is trained on");
  command->footer(
      "example: thimble prepare --train data/train --valid data/val --source de --target en --sentence-pieces 6000 -o "
      "text");
  command->add_option("--train", options->train, "PREFIX of PREFIX.de and PREFIX.en; dictionaries and pieces are of it")
      ->required();
  command->add_option("--valid", options->valid, "prefix of the text that epochs are evaluated on")->required();
  command->add_option("--test", options->test, "prefix of the text for `eval --set test`");
  command->add_option("--source", options->source, "ending of the files to translate from, as de")->required();
  command->add_option("--target", options->target, "ending of the files to translate to, as en")->required();
  command
      ->add_option("--sentence-pieces", options->preparation.sentence_pieces,
                   "for raw text: learn so many SentencePiece pieces, of both sides together")
      ->check(CLI::Range(8, 1 << 20));
  command->add_option("--byte-pairs", options->preparation.codes,
                      "for words: cut them by these subword-nmt merges; with neither, lines are pieces already");
  command->add_option("--source-limit", options->preparation.source_limit, "pieces of the dictionary at most")
      ->check(CLI::Range(Vocabulary::kSpecials + 1, Vocabulary::kMost));
  command->add_option("--target-limit", options->preparation.target_limit, "pieces of the dictionary at most")
      ->check(CLI::Range(Vocabulary::kSpecials + 1, Vocabulary::kMost));
  command->add_option("-o,--out", options->out, "the folder to make")->required();
  command->add_flag("--json", options->json, "pretty-print the report");
  return [options] { return run_prepare(*options); };
}

}  // namespace thimble
