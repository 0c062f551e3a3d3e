#include "thimble/sentence_pieces.h"

#include "shared_text.h"
#include "thimble/error.h"

namespace thimble {
namespace {

// A few hundred lines over a few dozen words.
std::string small_text() {
  const std::vector<std::string> words = {"Hello",
                                          "world",
                                          "the",
                                          "house",
                                          "houses",
                                          "gr\xc3\xbc\xc3\x9f"
                                          "e",
                                          "tree",
                                          "trees",
                                          "walking",
                                          "walked",
                                          "talk",
                                          "talking",
                                          "small",
                                          "smaller"};
  std::string text;
  for (std::size_t i = 0; i < 400; ++i) {
    for (std::size_t j = 0; j < 3 + i % 5; ++j) text += words[(i * i + 7 * j + i / 3) % words.size()] + " ";
    text += "now.\n";
  }
  return text;
}

class SentencePieceModels : public ::testing::Test {
 protected:
  SentencePieceModels() { folder.write("a.txt", small_text()); }
  SentencePieces trained(std::int64_t size = 36, SentencePieceKind kind = SentencePieceKind::unigram) {
    return train_sentence_pieces({folder.file("a.txt")}, {.vocabulary_size = size, .kind = kind});
  }

  TemporaryFolder folder;
};

TEST_F(SentencePieceModels, CutTextThatComesBackFromThem) {
  for (SentencePieceKind kind : {SentencePieceKind::unigram, SentencePieceKind::byte_pair}) {
    const SentencePieces pieces = trained(36, kind);
    EXPECT_EQ(pieces.size(), 36);
    EXPECT_EQ(pieces.piece(0), "<unk>");
    const std::string cut = pieces.apply("Hello smaller houses now.");
    EXPECT_TRUE(cut.starts_with("\xe2\x96\x81")) << cut;
    EXPECT_TRUE(holds(cut, " ")) << cut;
    EXPECT_EQ(pieces.join(cut), "Hello smaller houses now.");
    for (const std::string& line : lines_of(folder.file("a.txt"))) ASSERT_EQ(pieces.join(pieces.apply(line)), line);
  }
}

TEST_F(SentencePieceModels, NormaliseAsTheModelSays) {
  const SentencePieces pieces = trained();
  EXPECT_EQ(pieces.join(pieces.apply("  the \t tree ")), "the tree");
  EXPECT_EQ(pieces.join(pieces.apply("\xef\xbd\x94ree")), "tree") << "NFKC of a full-width t";
  EXPECT_EQ(pieces.apply(""), "");
  EXPECT_EQ(pieces.apply("   "), "");
  EXPECT_EQ(pieces.join(""), "");
}

TEST_F(SentencePieceModels, KeepWhatTheModelLacks) {
  const SentencePieces pieces = trained();
  const std::string cut = pieces.apply("the \xe2\x98\x83 tree");
  EXPECT_TRUE(holds(cut, "\xe2\x98\x83")) << cut;
  EXPECT_EQ(pieces.join(cut), "the \xe2\x98\x83 tree");
}

TEST_F(SentencePieceModels, AreLearnedToTheByteAgain) {
  trained().write(folder.file("first.model"));
  trained().write(folder.file("second.model"));
  const std::string first = bytes_of(folder.file("first.model"));
  EXPECT_GT(first.size(), 1000u);
  EXPECT_TRUE(first == bytes_of(folder.file("second.model")));
  trained(37).write(folder.file("third.model"));
  EXPECT_FALSE(first == bytes_of(folder.file("third.model")));
}

TEST_F(SentencePieceModels, AreTheSameFromAFile) {
  const SentencePieces written = trained();
  written.write(folder.file("a.model"));
  EXPECT_EQ(folder.file_count(), 2u);
  const SentencePieces read = SentencePieces::read(folder.file("a.model"));
  ASSERT_EQ(read.size(), written.size());
  for (std::int64_t i = 0; i < read.size(); ++i) EXPECT_EQ(read.piece(i), written.piece(i));
  EXPECT_EQ(read.apply("Hello walking trees"), written.apply("Hello walking trees"));
  EXPECT_THROW(read.piece(-1), InvalidArgument);
  EXPECT_THROW(read.piece(read.size()), InvalidArgument);
  EXPECT_THROW(written.write(folder.file("none/a.model")), EnvironmentError);
}

TEST_F(SentencePieceModels, AreLearnedFromAllFilesWhateverTheirNames) {
  const std::string text = small_text();
  const std::size_t half = text.find('\n', text.size() / 2) + 1;
  folder.write("a,b=1 --c.txt", text.substr(0, half));
  folder.write("rest.txt", text.substr(half));
  train_sentence_pieces({folder.file("a,b=1 --c.txt"), folder.file("rest.txt")}, {.vocabulary_size = 36})
      .write(folder.file("two.model"));
  trained().write(folder.file("one.model"));
  EXPECT_TRUE(bytes_of(folder.file("two.model")) == bytes_of(folder.file("one.model")));
}

TEST_F(SentencePieceModels, AreNotLearnedFromVeryLongLines) {
  folder.write("long.txt", small_text() + std::string(4192, 'q') + "\n");
  EXPECT_THROW(train_sentence_pieces({folder.file("long.txt")}, {.vocabulary_size = 24}), InvalidArgument)
      << "one character too many for the vocabulary";
  folder.write("long.txt", small_text() + std::string(4193, 'q') + "\n");
  train_sentence_pieces({folder.file("long.txt")}, {.vocabulary_size = 24}).write(folder.file("long.model"));
  trained(24).write(folder.file("a.model"));
  EXPECT_TRUE(bytes_of(folder.file("long.model")) == bytes_of(folder.file("a.model")));
}

TEST_F(SentencePieceModels, RefuseWhatIsNoModel) {
  trained().write(folder.file("a.model"));
  const std::string good = bytes_of(folder.file("a.model"));
  for (const std::string& bytes : {std::string(), std::string("no model"), std::string(1000, '\xff'),
                                   std::string(1000, '\0'), good.substr(0, good.size() / 2), good + "tail"}) {
    folder.write("bad.model", bytes);
    const std::string message = message_of<BadInput>([&] { SentencePieces::read(folder.file("bad.model")); });
    EXPECT_TRUE(holds(message, "bad.model: is ")) << message << ", " << bytes.size() << " bytes";
  }
  EXPECT_THROW(SentencePieces::read(folder.file("none.model")), EnvironmentError);
  EXPECT_THROW(SentencePieces::read(folder.path()), EnvironmentError);
  std::filesystem::resize_file(folder.file("bad.model"), (64 << 20) + 1);
  EXPECT_TRUE(holds(message_of<BadInput>([&] { SentencePieces::read(folder.file("bad.model")); }), "67108864 bytes"));
}

TEST_F(SentencePieceModels, RefuseTextThatIsNone) {
  const SentencePieces pieces = trained();
  EXPECT_EQ(message_of<InvalidArgument>([&] { pieces.apply("ab\xff"); }),
            "sentence pieces: byte 3 of a line is NUL or not UTF-8");
  EXPECT_THROW(pieces.apply(std::string_view("a\0b", 3)), InvalidArgument);
}

TEST_F(SentencePieceModels, RefuseToLearnFromBadTextOrToBadSizes) {
  const auto train = [&](std::vector<std::string> files, SentencePieceTraining options = {.vocabulary_size = 36}) {
    for (std::string& file : files) file = folder.file(file);
    train_sentence_pieces(files, options);
  };
  folder.write("bad.txt", "good\nb\xff\n");
  EXPECT_TRUE(holds(message_of<BadInput>([&] { train({"a.txt", "bad.txt"}); }), "bad.txt: line 2: byte 2 (0xff)"));
  EXPECT_THROW(train({"none.txt"}), EnvironmentError);
  EXPECT_THROW(train({}), InvalidArgument);
  // SentencePiece ends the process where every line is blank.
  for (const std::string& text : {std::string(), std::string("\n \t\n"), std::string("\xe2\x80\x8b\xc2\xa0\n\x01")}) {
    folder.write("blank.txt", text);
    EXPECT_EQ(message_of<InvalidArgument>([&] { train({"blank.txt"}); }), "sentence pieces: no line to learn from");
  }
  EXPECT_TRUE(holds(message_of<InvalidArgument>([&] { train({"a.txt"}, {.vocabulary_size = 5000}); }), "too high"));
  EXPECT_THROW(train({"a.txt"}, {.vocabulary_size = 8}), InvalidArgument) << "fewer than there are characters";
  EXPECT_THROW(train({"a.txt"}, {.vocabulary_size = 3}), InvalidArgument);
  EXPECT_THROW(train({"a.txt"}, {.vocabulary_size = 1'000'001}), InvalidArgument);
  EXPECT_THROW(train({"a.txt"}, {.vocabulary_size = 36, .character_coverage = 0}), InvalidArgument);
  EXPECT_THROW(train({"a.txt"}, {.vocabulary_size = 36, .character_coverage = 1.01}), InvalidArgument);
}

TEST_F(SentencePieceModels, PrintNothing) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const SentencePieces pieces = trained();
  pieces.join(pieces.apply("Hello \xe2\x98\x83"));
  EXPECT_THROW(trained(5000), InvalidArgument);
  EXPECT_THROW(SentencePieces("no model", "x"), BadInput);
  EXPECT_THROW(SentencePieces(std::string(100, '\xff'), "x"), BadInput);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace thimble
