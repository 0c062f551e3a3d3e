#include "thimble/vocabulary.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <sstream>

#include "shared_text.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using Ids = std::vector<std::int32_t>;

PieceCounts counts_of(std::initializer_list<const char*> lines) {
  PieceCounts counts;
  for (const char* line : lines) counts.add_line(line);
  return counts;
}

std::vector<std::string> pieces_of(const Vocabulary& vocabulary) {
  std::vector<std::string> pieces;
  for (std::int32_t id = 0; id < vocabulary.size(); ++id) pieces.push_back(vocabulary.piece(id));
  return pieces;
}

Vocabulary parsed(const std::string& text) {
  std::istringstream in(text);
  return Vocabulary::parse(in, "dict.txt");
}

TEST(Vocabulary, OrdersByCountThenByBytes) {
  const Vocabulary vocabulary(counts_of({"b a \xc3\xa4 c", "c \xef\xbc\x8c  Z", "\tc\va\r"}), 100);
  EXPECT_EQ(pieces_of(vocabulary), (std::vector<std::string>{"<s>", "<pad>", "</s>", "<unk>", "c", "a", "Z", "b",
                                                             "\xc3\xa4", "\xef\xbc\x8c"}));
  EXPECT_EQ(vocabulary.count(4), 3);
  EXPECT_EQ(vocabulary.count(6), 1);
  EXPECT_EQ(vocabulary.count(Vocabulary::kEnd), 0);
}

TEST(Vocabulary, CountsTheSpecialsInItsLimit) {
  const PieceCounts counts = counts_of({"a a a b b c"});
  EXPECT_EQ(pieces_of(Vocabulary(counts, 6)), (std::vector<std::string>{"<s>", "<pad>", "</s>", "<unk>", "a", "b"}));
  EXPECT_EQ(Vocabulary(counts, 6).encode("c b a").ids, (Ids{3, 5, 4, 2}));
  EXPECT_EQ(Vocabulary(counts, 4).size(), 4);
  EXPECT_EQ(Vocabulary(counts, 7).size(), 7);
  EXPECT_EQ(Vocabulary(counts, Vocabulary::kMost).size(), 7);
  EXPECT_EQ(message_of<InvalidArgument>([&] { Vocabulary(counts, 3); }),
            "vocabulary: a limit of 3 is outside [4, 16777216]");
  EXPECT_THROW(Vocabulary(counts, Vocabulary::kMost + 1), InvalidArgument);
}

TEST(Vocabulary, EncodesWithAnEndAndCountsWhatItLacks) {
  const Vocabulary vocabulary(counts_of({"das das ist"}), 100);
  EXPECT_EQ(vocabulary.encode("das ist das"), (EncodedLine{{4, 5, 4, 2}, 0}));
  EXPECT_EQ(vocabulary.encode(" ein  das\tdas da ein "), (EncodedLine{{3, 4, 4, 3, 3, 2}, 3}));
  EXPECT_EQ(vocabulary.encode(""), (EncodedLine{{2}, 0}));
  EXPECT_EQ(vocabulary.encode(" \t "), (EncodedLine{{2}, 0}));
  EXPECT_EQ(vocabulary.encode("das\xc2\xa0ist").unknown, 1) << "U+00A0 separates no pieces";
  Ids ids{7};
  EXPECT_EQ(vocabulary.encode_to(ids, "ist ein"), 1);
  EXPECT_EQ(ids, (Ids{7, 5, 3, 2}));
}

TEST(Vocabulary, TakesNamesOfSpecialsInTextForUnknownPieces) {
  const Vocabulary vocabulary(counts_of({"a </s> <s> <pad> <unk> </s>"}), 100);
  EXPECT_EQ(vocabulary.size(), 5);
  EXPECT_EQ(vocabulary.encode("a </s> <s> <pad> <unk>"), (EncodedLine{{4, 3, 3, 3, 3, 2}, 4}));
}

TEST(Vocabulary, DecodesUpToTheEnd) {
  const Vocabulary vocabulary(counts_of({"a a b"}), 100);
  EXPECT_EQ(vocabulary.decode(Ids{0, 4, 1, 3, 5, 1, 2, 4, 4}), "a <unk> b");
  EXPECT_EQ(vocabulary.decode(Ids{4, 5}), "a b");
  EXPECT_EQ(vocabulary.decode(Ids{2, 4}), "");
  EXPECT_EQ(vocabulary.decode(Ids{}), "");
  EXPECT_EQ(message_of<InvalidArgument>([&] { vocabulary.decode(Ids{4, 6}); }), "vocabulary: id 6 is outside [0, 6)");
  EXPECT_THROW(vocabulary.decode(Ids{-1}), InvalidArgument);
  EXPECT_THROW(vocabulary.piece(6), InvalidArgument);
  EXPECT_THROW(vocabulary.count(-1), InvalidArgument);
}

TEST(Vocabulary, ReadsFilesInTheirOrder) {
  const Vocabulary vocabulary = parsed("\xef\xbb\xbfund 3\r\n, 7\nmadeupword0000 0");
  EXPECT_EQ(pieces_of(vocabulary),
            (std::vector<std::string>{"<s>", "<pad>", "</s>", "<unk>", "und", ",", "madeupword0000"}));
  EXPECT_EQ(vocabulary.count(5), 7);
  EXPECT_EQ(parsed("").size(), 4);
}

TEST(Vocabulary, RefusesHostileFilesByLineAndValue) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a 1\nb 2\na 3\n", "dict.txt: line 3: the piece 'a' comes twice"},
      {"a 1\nb\n", "dict.txt: line 2: 'b' has no count; lines are `piece count`"},
      {"a 1\n\nb 1\n", "dict.txt: line 2: '' has no count; lines are `piece count`"},
      {" 1\n", "dict.txt: line 1: ' 1' has no piece; lines are `piece count`"},
      {"a \n", "dict.txt: line 1: the count '' of 'a' is outside [0, 2^63)"},
      {"a -1\n", "dict.txt: line 1: the count '-1' of 'a' is outside [0, 2^63)"},
      {"a +1\n", "dict.txt: line 1: the count '+1' of 'a' is outside [0, 2^63)"},
      {"a 1.5\n", "dict.txt: line 1: the count '1.5' of 'a' is outside [0, 2^63)"},
      {"a 0x1\n", "dict.txt: line 1: the count '0x1' of 'a' is outside [0, 2^63)"},
      {"a  1\n", "dict.txt: line 1: the count ' 1' of 'a' is outside [0, 2^63)"},
      {"a b 1\n", "dict.txt: line 1: the count 'b 1' of 'a' is outside [0, 2^63)"},
      {"a 1 #fairseq:overwrite\n", "dict.txt: line 1: the count '1 #fairseq:overwrite' of 'a' is outside [0, 2^63)"},
      {"a 9223372036854775808\n", "dict.txt: line 1: the count '9223372036854775808' of 'a' is outside [0, 2^63)"},
      {"a\tb 1\n", "dict.txt: line 1: the piece 'a\tb' has a blank"},
      {"a 1\n</s> 1\n", "dict.txt: line 2: the piece '</s>' is a special, which files leave out"},
      {"<unk> 1\n", "dict.txt: line 1: the piece '<unk>' is a special, which files leave out"},
      {std::string("a 1\nb\0 1\n", 9), "dict.txt: line 2: byte 2 (0x00) is no text"},
      {"a 1\nb\xff 1\n", "dict.txt: line 2: byte 2 (0xff) is not UTF-8"},
      {"a" + std::string(1 << 20, 'a') + " 1\n", "dict.txt: line 1: is longer than 1048576 bytes"},
      {std::string(1 << 22, 'a'), "dict.txt: line 1: is longer than 1048576 bytes"},
  };
  for (const auto& [text, message] : cases) {
    const std::string& hostile = text;
    EXPECT_EQ(message_of<BadInput>([&] { parsed(hostile); }), message);
  }
  EXPECT_EQ(parsed("a 9223372036854775807\n").count(4), 9223372036854775807);
  EXPECT_EQ(parsed(std::string((1 << 20) - 2, 'a') + " 1\r\nb 2").size(), 6);
}

TEST(Vocabulary, KnowsUtf8FromWhatOnlyResemblesIt) {
  const std::vector<std::string> good = {"\x7f",         "\xc2\x80",         "\xdf\xbf",
                                         "\xe0\xa0\x80", "\xed\x9f\xbf",     "\xee\x80\x80",
                                         "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
  const std::vector<std::string> bad = {"\x80",
                                        "\xbf",
                                        "\xc0\x80",
                                        "\xc1\xbf",
                                        "\xc2",
                                        "\xc2\x41",
                                        "\xc2\xc2",
                                        "\xe0\x9f\xbf",
                                        "\xe0\xa0",
                                        "\xe1\x80\x41",
                                        "\xed\xa0\x80",
                                        "\xed\xbf\xbf",
                                        "\xf0\x90\x80",
                                        "\xf0\x8f\xbf\xbf",
                                        "\xf4\x90\x80\x80",
                                        "\xf1\x80\x80\xc0",
                                        "\xf5\x80\x80\x80",
                                        "\xf8\x88\x80\x80\x80",
                                        "\xff"};
  for (const std::string& text : good) {
    EXPECT_EQ(parsed("a" + text + "b 1").size(), 5) << ::testing::PrintToString(text);
    EXPECT_NO_THROW(PieceCounts().add_line(text));
  }
  for (const std::string& text : bad) {
    EXPECT_THROW(parsed("a" + text + "b 1"), BadInput) << ::testing::PrintToString(text);
    EXPECT_THROW(parsed("b 1\na 1" + text), BadInput) << ::testing::PrintToString(text);
    EXPECT_EQ(message_of<InvalidArgument>([&] { PieceCounts().add_line("ab" + text); }),
              "vocabulary: byte 3 of a line is NUL or not UTF-8");
  }
}

TEST(Vocabulary, CannotReadOrWriteWhatIsNotThere) {
  const TemporaryFolder folder;
  EXPECT_TRUE(holds(message_of<EnvironmentError>([&] { Vocabulary::read(folder.file("none")); }), "none': No such"));
  EXPECT_TRUE(holds(message_of<EnvironmentError>([&] { Vocabulary::read(folder.path()); }), "it is a folder"));
  EXPECT_THROW(PieceCounts().add_file(folder.file("none")), EnvironmentError);
  EXPECT_THROW(parsed("a 1").write(folder.file("none/dict.txt")), EnvironmentError);
  EXPECT_EQ(folder.file_count(), 0u);
}

RC_GTEST_PROP(Vocabulary, WritesWhatItReads, ()) {
  const auto lines = *rc::gen::container<std::vector<std::string>>(
      rc::gen::container<std::string>(rc::gen::elementOf(std::string("abcde    <>/s"))));
  PieceCounts counts;
  for (const std::string& line : lines) counts.add_line(line);
  const Vocabulary written(counts, *rc::gen::inRange(4, 30));
  const TemporaryFolder folder;
  written.write(folder.file("dict.txt"));
  const Vocabulary read = Vocabulary::read(folder.file("dict.txt"));
  RC_ASSERT(pieces_of(read) == pieces_of(written));
  for (std::int32_t id = 0; id < read.size(); ++id) {
    RC_ASSERT(read.count(id) == written.count(id));
    if (id >= Vocabulary::kSpecials) RC_ASSERT(read.id(read.piece(id)) == id);
    if (id > Vocabulary::kSpecials) RC_ASSERT(read.count(id) <= read.count(id - 1));
  }
  for (const std::string& line : lines) {
    const EncodedLine encoded = read.encode(line);
    RC_ASSERT(encoded == written.encode(line));
    if (encoded.unknown == 0) RC_ASSERT(read.encode(read.decode(encoded.ids)) == encoded);
  }
}

TEST(Vocabulary, CountsTheSharedTextAsItsAuthorsTools) {
  const TemporaryFolder folder;
  UNPACK_IWSLT14_OR_SKIP(folder);
  PieceCounts joint;
  for (const std::string language : {"de", "en"}) {
    PieceCounts counts;
    counts.add_file(folder.file("train.bpe." + language));
    joint.add_file(folder.file("train.bpe." + language));
    Vocabulary(counts, Vocabulary::kMost).write(folder.file("counted"));
    EXPECT_TRUE(bytes_of(folder.file("counted")) == bytes_of(folder.file("vocab." + language))) << language;
  }
  Vocabulary(joint, Vocabulary::kMost).write(folder.file("counted"));
  EXPECT_TRUE(bytes_of(folder.file("counted")) == bytes_of(folder.file("vocab.joint")));
  EXPECT_EQ(Vocabulary::read(folder.file("vocab.joint")).size(), 4 + 10074);
}

}  // namespace
}  // namespace thimble
