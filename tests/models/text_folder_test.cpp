#include "thimble/text_folder.h"

#include <array>

#include "../cipher_text.h"
#include "temporary_folder.h"
#include "thimble/error.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using Lines = std::vector<std::string>;

constexpr const char* kCodes = "#version: 0.2\nl o\nlo w</w>\nn e\n";

class TextFolders : public ::testing::Test {
 protected:
  // The files of a set, outside of the folder that is made of them.
  TextPreparation::Set set(const std::string& name, const std::string& source, const std::string& target) const {
    folder_.write(name + ".de", source);
    folder_.write(name + ".en", target);
    return {name, folder_.file(name + ".de"), folder_.file(name + ".en")};
  }
  TextPreparation pieces() const {
    return {.sets = {set("train", "ein klein@@ er hund\nein hund\n", "a small d@@ og\na d@@ og\n"),
                     set("valid", "ein katze\n", "a c@@ at\n")}};
  }
  TextPreparation words() const {
    folder_.write("codes", kCodes);
    return {.sets = {set("train", "low now\nlow  new\n", "new low\nlow\n")}, .codes = folder_.file("codes")};
  }
  TextPreparation raw() const {
    const CipherText text(200, 8, 1);
    return {.sets = {set("train", CipherText::text(text.sources), CipherText::text(text.targets))},
            .sentence_pieces = 30};
  }
  enum class Kind { pieces, words, raw };
  TextPreparation of(Kind kind) const { return kind == Kind::raw ? raw() : kind == Kind::words ? words() : pieces(); }
  std::string text() const { return folder_.file("text"); }
  bool has(const std::string& file) const { return fs::exists(text() + "/" + file); }
  // What is refused, without the folder's path.
  template <class E>
  std::string refusal(const TextPreparation& preparation) const {
    std::string message = message_of<E>([&] { prepare_text_folder(text(), preparation); });
    for (auto at = message.find(folder_.path()); at != std::string::npos; at = message.find(folder_.path()))
      message.erase(at, folder_.path().size() + 1);
    return message;
  }

  TemporaryFolder folder_;
};

Ids ids_of(std::span<const std::int32_t> ids) { return {ids.begin(), ids.end()}; }

TEST_F(TextFolders, HoldLinesThatArePiecesAlready) {
  prepare_text_folder(text(), pieces());
  const TextFolder folder(text());
  EXPECT_EQ(folder.source().size(), Vocabulary::kSpecials + 4);
  EXPECT_EQ(folder.target().size(), Vocabulary::kSpecials + 4);
  EXPECT_FALSE(folder.pieces().makes_raw_text());
  const LoadedPairs train = folder.pairs("train", 100), valid = folder.pairs("valid", 100);
  EXPECT_EQ(train.report, (ParallelReport{.lines = 2, .kept = 2}));
  EXPECT_EQ(ids_of(train.text.source(1)), (Ids{4, 5, 2}));  // the frequent ones first: ein, hund
  EXPECT_EQ(folder.target().decode(train.text.target(0)), "a small d@@ og");
  EXPECT_EQ(valid.report, (ParallelReport{.lines = 1, .kept = 1, .unknown_sources = 1, .unknown_targets = 2}));
  EXPECT_EQ(folder.pairs("train", 3).report.too_long, 2);
  EXPECT_EQ(folder.sources("train"), (Lines{"ein klein@@ er hund", "ein hund"}));
  EXPECT_EQ(folder.references("train"), (Lines{"a small dog", "a dog"}));
  EXPECT_EQ(folder.references("valid"), (Lines{"a cat"}));
}

TEST_F(TextFolders, CutWordsByMerges) {
  prepare_text_folder(text(), words());
  const TextFolder folder(text());
  EXPECT_FALSE(folder.pieces().makes_raw_text());
  EXPECT_EQ(folder.pieces().apply("low new"), "low ne@@ w");
  EXPECT_EQ(folder.pieces().join("low ne@@ w"), "low new");
  const LoadedPairs train = folder.pairs("train", 100);
  EXPECT_EQ(folder.source().decode(train.text.source(0)), "low n@@ o@@ w");
  EXPECT_EQ(folder.target().decode(train.text.target(0)), "ne@@ w low");
  EXPECT_EQ(train.report, (ParallelReport{.lines = 2, .kept = 2}));
  EXPECT_EQ(folder.references("train"), (Lines{"new low", "low"}));
  EXPECT_EQ(folder.sources("train"), (Lines{"low now", "low  new"}));
}

TEST_F(TextFolders, LearnPiecesOfRawText) {
  prepare_text_folder(text(), raw());
  const TextFolder folder(text());
  const CipherText all(200, 8, 1);
  EXPECT_TRUE(folder.pieces().makes_raw_text());
  EXPECT_LE(folder.source().size(), Vocabulary::kSpecials + 30);
  EXPECT_EQ(folder.references("train"), all.targets);
  EXPECT_EQ(folder.sources("train"), all.sources);
  const LoadedPairs train = folder.pairs("train", 100);
  EXPECT_EQ(train.report, (ParallelReport{.lines = 200, .kept = 200}));
  std::size_t pieces = 0;
  for (std::int64_t pair = 0; pair < 200; ++pair) {
    const auto i = static_cast<std::size_t>(pair);
    EXPECT_EQ(folder.pieces().join(folder.source().decode(train.text.source(pair))), all.sources[i]);
    EXPECT_EQ(folder.pieces().join(folder.target().decode(train.text.target(pair))), all.targets[i]);
    pieces += train.text.source(pair).size() - 1;
  }
  EXPECT_LT(pieces, CipherText::text(all.sources).size()) << "pieces are no single characters";
}

TEST_F(TextFolders, LimitTheirDictionaries) {
  TextPreparation limited = pieces();
  limited.source_limit = 6;
  limited.target_limit = 5;
  prepare_text_folder(text(), limited);
  const TextFolder folder(text());
  EXPECT_EQ(folder.source().size(), 6);
  EXPECT_EQ(folder.target().size(), 5);
  EXPECT_EQ(folder.source().piece(4), "ein");
  EXPECT_EQ(folder.source().piece(5), "hund");
  EXPECT_EQ(folder.pairs("train", 100).report.unknown_targets, 5);
  limited.target_limit = 3;
  EXPECT_THROW(prepare_text_folder(text(), limited), InvalidArgument);
}

TEST_F(TextFolders, GiveTheirRulesToAnotherFolder) {
  const std::string run = folder_.file("run");
  fs::create_directories(run);
  // One after the other into the same folder: nothing of the one before stays.
  for (Kind kind : {Kind::raw, Kind::words, Kind::raw, Kind::pieces}) {
    prepare_text_folder(text(), of(kind));
    const TextFolder folder(text());
    folder.copy_rules(run);
    folder.copy_rules(text());
    const TextFolder copy(run);
    for (const char* file : {"source.dict", "target.dict"}) EXPECT_TRUE(has(file));
    ASSERT_EQ(copy.source().size(), folder.source().size());
    ASSERT_EQ(copy.target().size(), folder.target().size());
    for (std::int32_t id = 0; id < folder.source().size(); ++id)
      EXPECT_EQ(copy.source().piece(id), folder.source().piece(id));
    for (const char* line : {"low new ka", "ein klein@@ er"})
      EXPECT_EQ(copy.pieces().apply(line), folder.pieces().apply(line));
    EXPECT_EQ(copy.pieces().makes_raw_text(), folder.pieces().makes_raw_text());
    EXPECT_TRUE(holds(message_of<EnvironmentError>([&] { copy.sources("train"); }), "train.source"));
  }
  EXPECT_THROW(TextFolder(text()).copy_rules(folder_.file("none")), EnvironmentError);
}

TEST_F(TextFolders, MadeAgainHoldNothingStale) {
  prepare_text_folder(text(), raw());
  EXPECT_TRUE(has("pieces.model"));
  prepare_text_folder(text(), words());
  EXPECT_FALSE(has("pieces.model"));
  EXPECT_TRUE(has("pieces.codes"));
  EXPECT_EQ(TextFolder(text()).source().id("ka"), Vocabulary::kUnknown);
  TextPreparation by_own_codes = words();
  by_own_codes.codes = text() + "/pieces.codes";
  prepare_text_folder(text(), by_own_codes);
  EXPECT_EQ(TextFolder(text()).pieces().apply("low new"), "low ne@@ w");
  prepare_text_folder(text(), pieces());
  EXPECT_FALSE(has("pieces.codes"));
  EXPECT_EQ(TextFolder(text()).pieces().apply("low new"), "low new");
  EXPECT_EQ(TextFolder(text()).source().size(), Vocabulary::kSpecials + 4);
  // From its own sets: they stay as they are.
  TextPreparation own{.sets = {{"train", text() + "/train.source", text() + "/train.target"}}, .source_limit = 5};
  prepare_text_folder(text(), own);
  EXPECT_EQ(TextFolder(text()).sources("train"), (Lines{"ein klein@@ er hund", "ein hund"}));
  EXPECT_EQ(TextFolder(text()).source().size(), 5);
}

TEST_F(TextFolders, RefuseWhatCannotBePrepared) {
  EXPECT_EQ(refusal<InvalidArgument>({}), "text folder: there is no text to learn from");
  TextPreparation both = words();
  both.sentence_pieces = 30;
  EXPECT_EQ(refusal<InvalidArgument>(both),
            "text folder: pieces come from a SentencePiece model or from a list of merges, not from both");
  EXPECT_EQ(refusal<BadInput>({.sets = {set("train", "a\nb\nc", "a\n")}}),
            "train.de has 3 lines, train.en has 1; the same line of both is a pair");
  EXPECT_EQ(refusal<BadInput>({.sets = {set("train", "a\nb", "a\nb \xc3(\n")}}),
            "train.en: line 2: byte 3 (0xc3) is not UTF-8");
  EXPECT_EQ(refusal<BadInput>({.sets = {set("train", "a", "a"), set("valid", "\xff", "a")}}),
            "valid.de: line 1: byte 1 (0xff) is not UTF-8");
  EXPECT_EQ(refusal<EnvironmentError>({.sets = {{"train", folder_.file("none"), folder_.file("none")}}}),
            "cannot read 'none': No such file or directory");
  TextPreparation no_codes = words();
  no_codes.codes = folder_.file("none");
  EXPECT_TRUE(holds(refusal<EnvironmentError>(no_codes), "'none'"));
  TextPreparation too_many = raw();
  too_many.sentence_pieces = 5000;
  EXPECT_TRUE(holds(refusal<InvalidArgument>(too_many), "sentence pieces: "));
  folder_.write("file", "");
  EXPECT_TRUE(
      holds(message_of<EnvironmentError>([&] { prepare_text_folder(folder_.file("file"), pieces()); }), "file"));
}

// Text that is refused leaves a folder as it was; rules that are refused leave none that could be read.
TEST_F(TextFolders, AreNotLeftHalfMade) {
  prepare_text_folder(text(), raw());
  TextPreparation uneven = pieces();
  uneven.sets[1] = set("valid", "a\n", "a\nb\n");
  EXPECT_NE(refusal<BadInput>(uneven), "");
  const TextFolder as_it_was(text());
  EXPECT_TRUE(as_it_was.pieces().makes_raw_text());
  EXPECT_EQ(as_it_was.sources("train"), CipherText(200, 8, 1).sources);
  TextPreparation damaged = words();
  folder_.write("codes", "#version: 0.2\nx\n");
  EXPECT_NE(refusal<BadInput>(damaged), "");
  EXPECT_THROW(TextFolder{text()}, EnvironmentError);
}

TEST_F(TextFolders, RefuseAFolderThatIsNone) {
  prepare_text_folder(text(), words());
  const auto refused = [this](const char* part) {
    std::string message = message_of<Error>([&] { TextFolder{text()}; });
    EXPECT_TRUE(holds(message, part)) << message;
  };
  EXPECT_TRUE(holds(message_of<EnvironmentError>([&] { TextFolder(text()).pairs("test", 100); }), "test.source"));
  folder_.write("text/pieces.model", "");
  refused("text: has pieces.model and pieces.codes; text is cut into pieces by one of them");
  fs::remove(text() + "/pieces.codes");
  refused("pieces.model");
  fs::remove(text() + "/pieces.model");
  folder_.write("text/target.dict", "low\n");
  refused("target.dict: line 1: 'low' has no count");
  fs::remove(text() + "/source.dict");
  refused("cannot read '");
}

TEST_F(TextFolders, RefuseLinesThatAreNotUtf8WhateverTheirPieces) {
  for (Kind kind : {Kind::pieces, Kind::words, Kind::raw}) {
    prepare_text_folder(text(), of(kind));
    EXPECT_THROW(TextFolder(text()).pieces().apply("ka \xff"), InvalidArgument);
  }
}

}  // namespace
}  // namespace thimble
