#include "thimble/byte_pair.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdio>
#include <map>
#include <sstream>

#include "shared_text.h"
#include "thimble/error.h"

namespace thimble {
namespace {

BytePairCodes codes_of(const std::string& merges) {
  std::istringstream in("#version: 0.2\n" + merges);
  return BytePairCodes::parse(in, "bpe.codes");
}

TEST(BytePairs, AppliesMergesInTheirOrder) {
  const BytePairCodes codes = codes_of("l o\nlo w\ne r</w>\nlow e\n");
  EXPECT_EQ(codes.size(), 4);
  EXPECT_EQ(codes.apply("lower low lowest r"), "low@@ er lo@@ w lowe@@ s@@ t r");
  EXPECT_EQ(codes.apply("loer"), "lo@@ er");
  EXPECT_EQ(codes.apply("err"), "e@@ r@@ r") << "the last merge is for the end of a word only";
}

TEST(BytePairs, MergesAtTheEndOfAWordByTheirMarkOnly) {
  EXPECT_EQ(codes_of("l o\n").apply("lo"), "l@@ o");
  EXPECT_EQ(codes_of("l o</w>\n").apply("lo lolo"), "lo l@@ o@@ lo");
}

TEST(BytePairs, TakesOverlapsFromTheLeft) {
  const BytePairCodes codes = codes_of("x x\nxx xx\n");
  EXPECT_EQ(codes.apply("xxxa"), "xx@@ x@@ a");
  EXPECT_EQ(codes.apply("xxxxxa"), "xxxx@@ x@@ a");
}

// What the first "bc" could begin ranks lower, but takes a letter of the second one, which is of the same round.
TEST(BytePairs, EndsARoundBeforeWhatItMadeCounts) {
  const BytePairCodes codes = codes_of("bc b\nb c\n");
  EXPECT_EQ(codes.apply("bcbc."), "bc@@ bc@@ .");
  EXPECT_EQ(codes.apply("bcb."), "bcb@@ .");
}

TEST(BytePairs, CutsCharactersNotBytes) {
  const BytePairCodes codes = codes_of("\xc3\xbc r\n\xe2\x82\xac \xf0\x9f\x98\x80</w>\n");
  EXPECT_EQ(codes.apply("f\xc3\xbcr\xc3\xbc"), "f@@ \xc3\xbcr@@ \xc3\xbc");
  EXPECT_EQ(codes.apply("\xe2\x82\xac\xf0\x9f\x98\x80"), "\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(message_of<InvalidArgument>([&] { codes.apply("ab \xff"); }), "byte pairs: byte 4 of a line is not UTF-8");
}

TEST(BytePairs, KeepsSpacesAtTheEndsOnly) {
  const BytePairCodes codes = codes_of("a b</w>\n");
  EXPECT_EQ(codes.apply("  ab   cd "), "  ab c@@ d ");
  EXPECT_EQ(codes.apply(""), "");
  EXPECT_EQ(codes.apply("  "), "  ");
  EXPECT_EQ(codes.apply("a\tb"), "a@@ \t@@ b") << "a tab is a character as any other";
}

TEST(BytePairs, CountsTheFirstOfEqualMerges) {
  EXPECT_EQ(codes_of("a b\nb c\na b\n").apply("abc."), "ab@@ c@@ .");
  EXPECT_EQ(codes_of("b c\na b\nb c\n").apply("abc."), "a@@ bc@@ .");
}

TEST(BytePairs, JoinsWhatWasCut) {
  EXPECT_EQ(join_byte_pairs("das ist un@@ glaub@@ lich ."), "das ist unglaublich .");
  EXPECT_EQ(join_byte_pairs("cut off in the mid@@"), "cut off in the mid");
  EXPECT_EQ(join_byte_pairs("a@@ @@ b@@  "), "ab");
  EXPECT_EQ(join_byte_pairs("x@@@@ "), "x@@") << "as fairseq: a mark with the space that follows it";
  EXPECT_EQ(join_byte_pairs("@@ a @@b @ b@@c"), "a @@b @ b@@c");
  EXPECT_EQ(join_byte_pairs("@@"), "");
  EXPECT_EQ(join_byte_pairs(""), "");
}

TEST(BytePairs, RefusesHostileCodesByLineAndValue) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "bpe.codes: line 1: is '', not '#version: 0.2' as subword-nmt writes it"},
      {"e n\n", "bpe.codes: line 1: is 'e n', not '#version: 0.2' as subword-nmt writes it"},
      {"#version: 0.1\n", "bpe.codes: line 1: is '#version: 0.1', not '#version: 0.2' as subword-nmt writes it"},
      {"#version: 0.2\ne n\na\n", "bpe.codes: line 3: 'a' is no merge of two pieces"},
      {"#version: 0.2\n\n", "bpe.codes: line 2: '' is no merge of two pieces"},
      {"#version: 0.2\n a\n", "bpe.codes: line 2: ' a' is no merge of two pieces"},
      {"#version: 0.2\na \n", "bpe.codes: line 2: 'a ' is no merge of two pieces"},
      {"#version: 0.2\na b 7\n", "bpe.codes: line 2: 'a b 7' is no merge of two pieces"},
      {"#version: 0.2\na \xc3\n", "bpe.codes: line 2: byte 3 (0xc3) is not UTF-8"},
      {std::string("#version: 0.2\na \0\n", 18), "bpe.codes: line 2: byte 3 (0x00) is no text"},
  };
  for (const auto& [text, message] : cases) {
    std::istringstream in(text);
    EXPECT_EQ(message_of<BadInput>([&] { BytePairCodes::parse(in, "bpe.codes"); }), message);
  }
  EXPECT_EQ(codes_of("").apply("ab"), "a@@ b");
  const TemporaryFolder folder;
  EXPECT_THROW(BytePairCodes::read(folder.file("none")), EnvironmentError);
}

// subword-nmt's own loop, letter by letter.
std::string cut_plainly(const std::vector<std::pair<std::string, std::string>>& merges, const std::string& word) {
  std::map<std::pair<std::string, std::string>, std::size_t> ranks;
  for (std::size_t i = 0; i < merges.size(); ++i) ranks.emplace(merges[i], i);
  std::vector<std::string> symbols;
  for (char letter : word) symbols.emplace_back(1, letter);
  symbols.back() += "</w>";
  while (true) {
    auto best = ranks.end();
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ranks.find({symbols[i], symbols[i + 1]});
      if (found != ranks.end() && (best == ranks.end() || found->second < best->second)) best = found;
    }
    if (best == ranks.end()) break;
    std::vector<std::string> merged;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      const bool is_place = i + 1 < symbols.size() && std::pair(symbols[i], symbols[i + 1]) == best->first;
      merged.push_back(is_place ? symbols[i] + symbols[i + 1] : symbols[i]);
      i += is_place;
    }
    symbols = merged;
  }
  std::string line;
  for (const std::string& symbol : symbols) line += symbol + "@@ ";
  return line.substr(0, line.size() - std::string("</w>@@ ").size());
}

RC_GTEST_PROP(BytePairs, EqualsThePlainLoopAndCanBeUndone, ()) {
  const auto letters = [](std::size_t most) {
    return rc::gen::resize(static_cast<int>(most),
                           rc::gen::nonEmpty(rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab")))));
  };
  const auto merges = *rc::gen::container<std::vector<std::pair<std::string, std::string>>>(
      rc::gen::pair(letters(3), rc::gen::map(rc::gen::pair(letters(3), rc::gen::arbitrary<bool>()),
                                             [](const auto& end) { return end.first + (end.second ? "</w>" : ""); })));
  std::string text;
  for (const auto& [left, right] : merges) text += left + " " + right + "\n";
  const BytePairCodes codes = codes_of(text);
  std::string line, expected;
  for (const std::string& word : *rc::gen::container<std::vector<std::string>>(letters(24))) {
    line += (line.empty() ? "" : " ") + word;
    expected += (expected.empty() ? "" : " ") + cut_plainly(merges, word);
  }
  RC_ASSERT(codes.apply(line) == expected);
  RC_ASSERT(join_byte_pairs(codes.apply(line)) == line);
}

TEST(BytePairs, GiveTheSharedFilesByteForByte) {
  const TemporaryFolder folder;
  UNPACK_IWSLT14_OR_SKIP(folder);
  const BytePairCodes codes = BytePairCodes::read(folder.file("bpe10k.codes"));
  EXPECT_EQ(codes.size(), 10000);
  std::size_t compared = 0;
  for (const std::string set : {"valid", "test"})
    for (const std::string language : {"de", "en"}) {
      const auto plain = lines_of(folder.file(set + "." + language));
      const auto cut = lines_of(folder.file(set + ".bpe." + language));
      ASSERT_EQ(plain.size(), cut.size());
      for (std::size_t i = 0; i < plain.size(); ++i) {
        ASSERT_EQ(codes.apply(plain[i]), cut[i]) << set << "." << language << " line " << i + 1;
        ASSERT_EQ(join_byte_pairs(cut[i]), plain[i]) << set << "." << language << " line " << i + 1;
      }
      compared += plain.size();
    }
  EXPECT_EQ(compared, 2u * (7283 + 6750));
}

}  // namespace
}  // namespace thimble
