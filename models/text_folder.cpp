#include "thimble/text_folder.h"

#include <filesystem>

#include "thimble/error.h"
#include "thimble/text_lines.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSourceDictionary = "source.dict";
constexpr const char* kTargetDictionary = "target.dict";

std::string side_of(const std::string& folder, const std::string& set, const char* side) {
  return folder + "/" + set + "." + side;
}

template <class Use>
std::int64_t for_each_line(const std::string& file, Use use) {
  std::ifstream in = open_text(file);
  TextLines lines(in, file);
  while (const auto line = lines.next()) use(*line);
  return lines.number();
}

std::vector<std::string> lines_of(const std::string& file) {
  std::vector<std::string> all;
  for_each_line(file, [&](std::string_view line) { all.emplace_back(line); });
  return all;
}

void copy(const std::string& from, const std::string& to) {
  std::error_code error;
  if (fs::equivalent(from, to, error)) return;
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
  if (error) throw EnvironmentError("cannot copy '" + from + "' to '" + to + "': " + error.message());
}

void remove(const std::string& file) {
  std::error_code error;
  fs::remove(file, error);
  if (error) throw EnvironmentError("cannot remove '" + file + "': " + error.message());
}

// Every line is read here once, so that what training would refuse is refused before anything is written.
void check_set(const TextPreparation::Set& set) {
  const std::int64_t sources = for_each_line(set.source_file, [](std::string_view) {});
  const std::int64_t targets = for_each_line(set.target_file, [](std::string_view) {});
  if (sources != targets)
    throw BadInput(set.source_file + " has " + std::to_string(sources) + " lines, " + set.target_file + " has " +
                   std::to_string(targets) + "; the same line of both is a pair");
}

void write_dictionary(const std::string& text, const TextPieces& pieces, std::int64_t limit, const std::string& path) {
  PieceCounts counts;
  for_each_line(text, [&](std::string_view line) { counts.add_line(pieces.apply(line)); });
  Vocabulary(counts, limit).write(path);
}

}  // namespace

TextFolder::TextFolder(const std::string& folder)
    : folder_(folder),
      source_(Vocabulary::read(folder + "/" + kSourceDictionary)),
      target_(Vocabulary::read(folder + "/" + kTargetDictionary)),
      pieces_(TextPieces::of_folder(folder)) {}

LoadedPairs TextFolder::pairs(const std::string& set, std::int64_t longest) const {
  return read_parallel_text(side_of(folder_, set, "source"), side_of(folder_, set, "target"), source_, target_, longest,
                            [this](std::string_view line) { return pieces_.apply(line); });
}

std::vector<std::string> TextFolder::references(const std::string& set) const {
  std::vector<std::string> all = lines_of(side_of(folder_, set, "target"));
  if (!pieces_.makes_raw_text())
    for (std::string& line : all) line = join_byte_pairs(line);
  return all;
}

std::vector<std::string> TextFolder::sources(const std::string& set) const {
  return lines_of(side_of(folder_, set, "source"));
}

void TextFolder::copy_rules(const std::string& to) const {
  std::error_code ignored;
  if (fs::equivalent(folder_, to, ignored)) return;
  for (const char* file : {TextPieces::kModelFile, TextPieces::kCodesFile})
    if (fs::exists(folder_ + "/" + file))
      copy(folder_ + "/" + file, to + "/" + file);
    else
      remove(to + "/" + file);
  source_.write(to + "/" + kSourceDictionary);
  target_.write(to + "/" + kTargetDictionary);
}

void prepare_text_folder(const std::string& folder, const TextPreparation& preparation) {
  if (preparation.sets.empty()) throw InvalidArgument("text folder: there is no text to learn from");
  if (preparation.sentence_pieces != 0 && !preparation.codes.empty())
    throw InvalidArgument(
        "text folder: pieces come from a SentencePiece model or from a list of merges, not from both");
  for (const TextPreparation::Set& set : preparation.sets) check_set(set);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw EnvironmentError("cannot make the folder '" + folder + "': " + error.message());
  // Dictionaries go first and come last: without them it is no folder of text.
  for (const char* file : {kSourceDictionary, kTargetDictionary, TextPieces::kModelFile, TextPieces::kCodesFile})
    if (!fs::equivalent(folder + "/" + file, preparation.codes, error)) remove(folder + "/" + file);
  for (const TextPreparation::Set& set : preparation.sets) {
    copy(set.source_file, side_of(folder, set.name, "source"));
    copy(set.target_file, side_of(folder, set.name, "target"));
  }
  const std::string& first = preparation.sets.front().name;
  const std::string source = side_of(folder, first, "source"), target = side_of(folder, first, "target");
  if (preparation.sentence_pieces != 0)
    train_sentence_pieces({source, target}, {.vocabulary_size = preparation.sentence_pieces})
        .write(folder + "/" + TextPieces::kModelFile);
  if (!preparation.codes.empty()) copy(preparation.codes, folder + "/" + TextPieces::kCodesFile);
  const TextPieces pieces = TextPieces::of_folder(folder);
  write_dictionary(source, pieces, preparation.source_limit, folder + "/" + kSourceDictionary);
  write_dictionary(target, pieces, preparation.target_limit, folder + "/" + kTargetDictionary);
}

}  // namespace thimble
