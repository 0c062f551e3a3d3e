#include "thimble/parallel_text.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <chrono>
#include <cstdio>

#include "shared_text.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using Ids = std::vector<std::int32_t>;

Ids ids_of(std::span<const std::int32_t> ids) { return {ids.begin(), ids.end()}; }

// Letters a ... z are 4 ... 29.
Vocabulary letters() {
  PieceCounts counts;
  for (char letter = 'a'; letter <= 'z'; ++letter) counts.add_line(std::string(1, letter));
  return Vocabulary(counts, 100);
}

class ParallelTextFiles : public ::testing::Test {
 protected:
  LoadedPairs load(const std::string& source, const std::string& target, std::int64_t longest = 100) {
    folder.write("a.de", source);
    folder.write("a.en", target);
    return read_parallel_text(folder.file("a.de"), folder.file("a.en"), vocabulary, vocabulary, longest);
  }
  std::string refusal(const std::string& source, const std::string& target) {
    const std::string message = message_of<BadInput>([&] { load(source, target); });
    const std::string path = folder.path() + "/";
    std::string shorter = message;
    for (auto at = shorter.find(path); at != std::string::npos; at = shorter.find(path)) shorter.erase(at, path.size());
    return shorter;
  }

  TemporaryFolder folder;
  Vocabulary vocabulary = letters();
};

TEST_F(ParallelTextFiles, HoldsPairsWithTheirEnds) {
  const LoadedPairs loaded = load("a b\nc\n", "d\ne f g\n");
  ASSERT_EQ(loaded.text.size(), 2);
  EXPECT_EQ(ids_of(loaded.text.source(0)), (Ids{4, 5, 2}));
  EXPECT_EQ(ids_of(loaded.text.target(0)), (Ids{7, 2}));
  EXPECT_EQ(ids_of(loaded.text.source(1)), (Ids{6, 2}));
  EXPECT_EQ(ids_of(loaded.text.target(1)), (Ids{8, 9, 10, 2}));
  EXPECT_EQ(loaded.report, (ParallelReport{.lines = 2, .kept = 2}));
  EXPECT_EQ(load("", "").report, ParallelReport{});
  EXPECT_EQ(load("", "").text.size(), 0);
}

TEST_F(ParallelTextFiles, AcceptsEveryEndOfALine) {
  const LoadedPairs plain = load("a b\nc\n", "d\ne\n");
  EXPECT_EQ(load("a b\r\nc\r\n", "d\ne\n").text, plain.text);
  EXPECT_EQ(load("a b\nc", "d\r\ne\r").text, plain.text);
  EXPECT_EQ(load("\xef\xbb\xbf"
                 "a b\nc",
                 "\xef\xbb\xbf"
                 "d\ne")
                .text,
            plain.text);
  EXPECT_EQ(load("a b\nc", "d\ne").report, plain.report);
}

TEST_F(ParallelTextFiles, LeavesOutPairsWithAnEmptySideAndCountsThem) {
  const LoadedPairs loaded = load("a\n\n \t \nb\n\r\nc\n", "a\nb\nc\n\nd\nc\n");
  EXPECT_EQ(loaded.report, (ParallelReport{.lines = 6, .kept = 2, .empty = 4}));
  EXPECT_EQ(ids_of(loaded.text.source(1)), (Ids{6, 2}));
  EXPECT_EQ(ids_of(loaded.text.target(1)), (Ids{6, 2}));
}

TEST_F(ParallelTextFiles, LeavesOutPairsWithALongSideAndCountsThem) {
  const std::string source = "a b c\na b c d\na\na b c d\n\n", target = "a\na\na b c d\na b c d\na b c d\n";
  EXPECT_EQ(load(source, target, 4).report, (ParallelReport{.lines = 5, .kept = 1, .empty = 1, .too_long = 3}));
  EXPECT_EQ(load(source, target, 5).report, (ParallelReport{.lines = 5, .kept = 4, .empty = 1}));
  EXPECT_EQ(load(source, target, 3).report, (ParallelReport{.lines = 5, .kept = 0, .empty = 1, .too_long = 4}));
  EXPECT_EQ(ids_of(load(source, target, 4).text.source(0)), (Ids{4, 5, 6, 2}));
  EXPECT_EQ(message_of<InvalidArgument>([&] { load("a", "a", 1); }),
            "parallel text: a longest sentence of 1 ids leaves nothing; a piece and </s> are 2");
  EXPECT_THROW(load("a", "a", -1), InvalidArgument);
}

TEST_F(ParallelTextFiles, CountsUnknownPiecesOfThePairsKept) {
  const LoadedPairs loaded = load("a ? b\n? ? ? ?\n?\nc\n", "! !\na\n\n</s>\n", 4);
  EXPECT_EQ(
      loaded.report,
      (ParallelReport{.lines = 4, .kept = 2, .empty = 1, .too_long = 1, .unknown_sources = 1, .unknown_targets = 3}));
  EXPECT_EQ(ids_of(loaded.text.source(0)), (Ids{4, 3, 5, 2}));
  EXPECT_EQ(ids_of(loaded.text.target(1)), (Ids{3, 2}));
}

TEST_F(ParallelTextFiles, EachSideHasItsVocabulary) {
  folder.write("a.de", "a b\n");
  PieceCounts counts;
  counts.add_line("b b a");
  const LoadedPairs loaded =
      read_parallel_text(folder.file("a.de"), folder.file("a.de"), vocabulary, Vocabulary(counts, 100), 100);
  EXPECT_EQ(ids_of(loaded.text.source(0)), (Ids{4, 5, 2}));
  EXPECT_EQ(ids_of(loaded.text.target(0)), (Ids{5, 4, 2}));
}

TEST_F(ParallelTextFiles, RefusesWhatIsNoTextByLineAndByte) {
  EXPECT_EQ(refusal("a\nb \xc3( c\n", "a\nb\n"), "a.de: line 2: byte 3 (0xc3) is not UTF-8");
  EXPECT_EQ(refusal("a\nb\n", "a\n\xed\xa0\x80\n"), "a.en: line 2: byte 1 (0xed) is not UTF-8");
  EXPECT_EQ(refusal("a\n", std::string("b\0c\n", 4)), "a.en: line 1: byte 2 (0x00) is no text");
  EXPECT_EQ(refusal("a\n" + std::string((1 << 20) + 1, 'a'), "a\nb"), "a.de: line 2: is longer than 1048576 bytes");
  EXPECT_EQ(refusal("\xff\xfe"
                    "a",
                    "b\n"),
            "a.de: line 1: byte 1 (0xff) is not UTF-8");
}

TEST_F(ParallelTextFiles, RefusesUnequalCountsWithBoth) {
  const std::string same = "; the same line of both is a pair";
  EXPECT_EQ(refusal("a\nb\nc\n", "a\n"), "a.de has 3 lines, a.en has 1" + same);
  EXPECT_EQ(refusal("a\nb", "a\nb\n\n"), "a.de has 2 lines, a.en has 3" + same);
  EXPECT_EQ(refusal("", "a"), "a.de has 0 lines, a.en has 1" + same);
  EXPECT_EQ(refusal("a\nb\n\xff", "a\n"), "a.de: line 3: byte 1 (0xff) is not UTF-8");
}

TEST_F(ParallelTextFiles, NamesTheFileThatIsMissing) {
  folder.write("a.de", "a\n");
  const auto read = [&](const std::string& source, const std::string& target) {
    return message_of<EnvironmentError>(
        [&] { read_parallel_text(folder.file(source), folder.file(target), vocabulary, vocabulary, 100); });
  };
  EXPECT_TRUE(holds(read("none.de", "a.de"), "none.de': No such file"));
  EXPECT_TRUE(holds(read("a.de", "none.en"), "none.en': No such file"));
  EXPECT_TRUE(holds(read("a.de", "."), "it is a folder"));
}

// Lines that end at, before and behind the border of a block.
RC_GTEST_PROP(ParallelTextBlocks, DoNotMatter, ()) {
  const Vocabulary vocabulary = letters();
  const auto lengths =
      *rc::gen::resize(8, rc::gen::container<std::vector<std::size_t>>(rc::gen::oneOf(
                              rc::gen::inRange<std::size_t>(1, 9), rc::gen::inRange<std::size_t>(32766, 32770))));
  std::string text;
  for (std::size_t length : lengths) {
    for (std::size_t i = 0; i < length; ++i) text += i == 0 ? "a" : " b";
    text += length % 3 == 2 ? " \n" : "\n";  // 32768 pieces of two bytes are one block
  }
  const TemporaryFolder folder;
  folder.write("a", text);
  const LoadedPairs loaded = read_parallel_text(folder.file("a"), folder.file("a"), vocabulary, vocabulary, 1 << 20);
  RC_ASSERT(loaded.text.size() == static_cast<std::int64_t>(lengths.size()));
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    Ids expected(lengths[i] + 1, 5);
    expected.front() = 4;
    expected.back() = 2;
    RC_ASSERT(ids_of(loaded.text.source(static_cast<std::int64_t>(i))) == expected);
  }
  RC_ASSERT(loaded.text.sources == loaded.text.targets);
}

TEST_F(ParallelTextFiles, LoadsTheSharedTrainingText) {
  UNPACK_IWSLT14_OR_SKIP(folder);
  const Vocabulary german = Vocabulary::read(folder.file("vocab.de"));
  const Vocabulary english = Vocabulary::read(folder.file("vocab.en"));
  const auto load_set = [&](const std::string& set, std::int64_t longest) {
    return read_parallel_text(folder.file(set + ".bpe.de"), folder.file(set + ".bpe.en"), german, english, longest);
  };
  const auto start = std::chrono::steady_clock::now();
  const LoadedPairs train = load_set("train", 1024);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("47112 pairs in %.3f s\n", seconds.count());
  EXPECT_EQ(train.report, (ParallelReport{.lines = 47112, .kept = 47112}));
  EXPECT_EQ(train.text.sources.ids.size(), 1138957u + 47112);
  EXPECT_EQ(train.text.targets.ids.size(), 1114721u + 47112);
  EXPECT_EQ(train.text.sources.ids.capacity(), train.text.sources.ids.size());
  const auto source_lines = lines_of(folder.file("train.bpe.de")), target_lines = lines_of(folder.file("train.bpe.en"));
  for (std::int64_t i = 0; i < train.text.size(); ++i) {
    ASSERT_EQ(german.decode(train.text.source(i)), source_lines[static_cast<std::size_t>(i)]);
    ASSERT_EQ(english.decode(train.text.target(i)), target_lines[static_cast<std::size_t>(i)]);
  }
  const ParallelReport test = load_set("test", 1024).report;
  EXPECT_EQ(test.kept, 6750);
  EXPECT_GT(test.unknown_sources, 0);
  EXPECT_LT(test.unknown_sources, 155088 * 12 / 10000) << "under 0.12 %";
}

}  // namespace
}  // namespace thimble
