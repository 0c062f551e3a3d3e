#include "thimble/bleu.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "shared_text.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using Texts = std::vector<std::string>;
using Counts = std::array<std::int64_t, 4>;

constexpr BleuOptions kFairseq{.tokens = BleuTokens::none, .smoothing = BleuSmoothing::none};
constexpr BleuOptions kPlainWords{.tokens = BleuTokens::none};

Bleu bleu_of(const Texts& hypotheses, const Texts& references, const BleuOptions& options = {}) {
  return bleu(hypotheses, references, options);
}
std::string words(std::string_view text) { return bleu_words(text, {}); }

// The vectors were computed by sacreBLEU 2.6.0.
TEST(Bleu, EqualsSacreBleuToSixDigits) {
  const Bleu dog = bleu_of({"The dog bit the man."}, {"The dog had bit the man."});
  EXPECT_NEAR(dog.score, 51.150781, 5e-7);
  EXPECT_EQ(dog.matches, (Counts{6, 4, 2, 1}));
  EXPECT_EQ(dog.totals, (Counts{6, 5, 4, 3}));
  EXPECT_NEAR(dog.brevity_penalty, 0.846482, 5e-7);
  EXPECT_EQ(dog.hypothesis_words, 6);
  EXPECT_EQ(dog.reference_words, 7);
  EXPECT_NEAR(bleu_of({"a b c d e f"}, {"a b x d e f"}).score, 37.991784, 5e-7);
  EXPECT_NEAR(bleu_of({"a b c d e f", "g h i j k"}, {"a b x d e f", "g h i j k"}).score, 63.404663, 5e-7);
  EXPECT_EQ(bleu_of({"the the the"}, {"the cat sat"}).score, 0);
}

TEST(Bleu, ClipsAndPenalisesAsComputedByHand) {
  // Papineni's example: "the" comes twice in the reference, seven times in the hypothesis.
  const Bleu the = bleu_of({"the the the the the the the"}, {"the cat is on the mat"}, kPlainWords);
  EXPECT_EQ(the.matches, (Counts{2, 0, 0, 0}));
  EXPECT_EQ(the.totals, (Counts{7, 6, 5, 4}));
  EXPECT_EQ(the.brevity_penalty, 1);
  // 2/7, then 1/2 of 6, 1/4 of 5, 1/8 of 4.
  EXPECT_NEAR(the.score, 100 * std::pow(2. / 7 * 1 / 12 * 1 / 20 * 1 / 32, 0.25), 1e-12);
  EXPECT_NEAR(the.precisions[0], 200. / 7, 1e-12);
  EXPECT_NEAR(the.precisions[3], 100. / 32, 1e-12);

  const Bleu half = bleu_of({"a b c d"}, {"a b c d e f g h"}, kFairseq);
  EXPECT_NEAR(half.score, 100 * std::exp(1 - 8. / 4), 1e-12);
  EXPECT_NEAR(half.brevity_penalty, std::exp(-1), 1e-15);
  EXPECT_EQ(bleu_of({"a b c d e"}, {"a b c d"}, kFairseq).brevity_penalty, 1);
}

TEST(Bleu, SmoothsOnlyWhereItIsAsked) {
  const Texts hypothesis{"a b c d e f"}, reference{"a b x d e f"};
  EXPECT_EQ(bleu_of(hypothesis, reference, kFairseq).score, 0);
  EXPECT_EQ(bleu_of(hypothesis, reference, kFairseq).precisions[3], 0);
  EXPECT_GT(bleu_of(hypothesis, reference, kPlainWords).score, 0);
  EXPECT_NEAR(bleu_of(hypothesis, reference, kPlainWords).precisions[3], 100. / 6, 1e-12);
}

TEST(Bleu, IsOfTheCorpusNotTheMeanOfSentences) {
  const Bleu both = bleu_of({"a b c d", "x"}, {"a b c d", "y"}, kFairseq);
  EXPECT_EQ(both.matches, (Counts{4, 3, 2, 1}));
  EXPECT_EQ(both.totals, (Counts{5, 3, 2, 1}));
  EXPECT_NEAR(both.score, 100 * std::pow(4. / 5, 0.25), 1e-12);
  const Bleu crossed = bleu_of({"a b c d", "e f g h"}, {"e f g h", "a b c d"}, kFairseq);
  EXPECT_EQ(crossed.matches, (Counts{0, 0, 0, 0})) << "a word counts in its own pair only";
}

TEST(Bleu, IsZeroForNothing) {
  const Bleu empty = bleu_of({""}, {"a b c d"});
  EXPECT_EQ(empty.score, 0);
  EXPECT_EQ(empty.brevity_penalty, 0);
  EXPECT_EQ(bleu_of({"", ""}, {"", ""}).score, 0);
  EXPECT_EQ(bleu_of({"a b c"}, {"a b c"}).score, 0) << "no four words";
  EXPECT_EQ(bleu_of({"a b c d"}, {""}).score, 0);
}

TEST(Bleu, RefusesWhatCannotBePaired) {
  EXPECT_EQ(message_of<InvalidArgument>([] { bleu_of({"a", "b"}, {"a"}); }), "bleu: 2 hypotheses for 1 references");
  EXPECT_EQ(message_of<InvalidArgument>([] { bleu_of({}, {}); }), "bleu: no sentence to score");
  EXPECT_EQ(message_of<InvalidArgument>([] {
              bleu_of({"a", "b\xff"}, {"a", "b"});
            }),
            "bleu: byte 2 of hypothesis 2 is not UTF-8");
  EXPECT_EQ(message_of<InvalidArgument>([] { bleu_of({"a"}, {"\xc3"}, kFairseq); }),
            "bleu: byte 1 of reference 1 is not UTF-8");
}

TEST(Bleu, SaysWhatWasComputed) {
  EXPECT_EQ(bleu_signature({}).substr(0, 64), "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:thimble-0.1");
  BleuOptions options = kFairseq;
  options.lower_case = true;
  EXPECT_TRUE(bleu_signature(options).starts_with("nrefs:1|case:lc|eff:no|tok:none|smooth:none|version:"));
}

TEST(Tokens13a, SplitPunctuationAsMteval) {
  EXPECT_EQ(words("Price: $1,234.56 (2.5%) - \"ok\"&amp;more, well-known 3-4"),
            "Price : $ 1,234.56 ( 2.5 % ) - \" ok \" & more , well-known 3 - 4");
  EXPECT_EQ(words("It's the U.S., isn't it?"), "It's the U . S . , isn't it ?");
  EXPECT_EQ(words("a/b [c] {d} <e> f_g h^i j~k l|m n\\o p`q r@s t#u v*w x+y z=!;"),
            "a / b [ c ] { d } < e > f _ g h ^ i j ~ k l | m n \\ o p ` q r @ s t # u v * w x + y z = ! ;");
  EXPECT_EQ(words("1.5 .5 5. 1,000 x,5 5,x 1.a a.1"), "1.5 . 5 5 . 1,000 x , 5 5 , x 1 . a a . 1");
  EXPECT_EQ(words("3-4 a-b 5- -5 1990-2000-x"), "3 - 4 a-b 5 - -5 1990 - 2000 - x");
}

TEST(Tokens13a, TakeTwoCharactersAMatch) {
  EXPECT_EQ(words("wait..."), "wait . . .");
  EXPECT_EQ(words("a..b,,c"), "a . . b , , c");
  EXPECT_EQ(words("1..2"), "1 . . 2");
  EXPECT_EQ(words("1.,2"), "1 . , 2");
  EXPECT_EQ(words("1...2"), "1 . . .2");
}

TEST(Tokens13a, UndoEntitiesAndMarkup) {
  EXPECT_EQ(words("&quot;a&quot; &lt;b&gt; &amp;lt; &apos;"), "\" a \" < b > < & apos ;")
      << "in this order: an ampersand undone can begin another entity";
  EXPECT_EQ(words("a <skipped> b<skipped>c"), "a bc");
  EXPECT_EQ(words("hyphen-\nated\nline"), "hyphenated line");
  EXPECT_EQ(words("at the end-\n"), "at the end-") << "white space at the end goes first";
}

TEST(Tokens13a, LeaveOtherScriptsAlone) {
  EXPECT_EQ(words("\xe2\x80\x9eGr\xc3\xbc\xc3\x9f"
                  "e\xe2\x80\x9c\xe3\x80\x82"),
            "\xe2\x80\x9eGr\xc3\xbc\xc3\x9f"
            "e\xe2\x80\x9c\xe3\x80\x82");
  EXPECT_EQ(words("\xc3\xbc.\xc3\xbc"), "\xc3\xbc . \xc3\xbc") << "a letter is no digit";
  EXPECT_EQ(words("\xd9\xa1.\xd9\xa2"), "\xd9\xa1 . \xd9\xa2") << "nor is an Arabic digit one";
  EXPECT_EQ(words("a\xc2\xa0"
                  "b\xe2\x80\x83"
                  "c\xe3\x80\x80"
                  "d\x1c"
                  "e\xe2\x80\x8b"
                  "f"),
            "a b c d e\xe2\x80\x8b"
            "f")
      << "white space as Python has it, U+200B is none";
}

TEST(BleuCase, FoldsByCharacter) {
  const auto lower = [](std::string_view text) { return bleu_words(text, {BleuTokens::none, {}, true}); };
  EXPECT_EQ(lower("ABC \xc3\x84\xc3\x96\xc3\x9c\xc3\x9f \xc3\x89 \xc3\x97"),
            "abc \xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f \xc3\xa9 \xc3\x97");
  EXPECT_EQ(lower("\xc5\xb8 \xc4\xb9 \xd0\x96 \xce\xa9"), "\xc3\xbf \xc4\xba \xd0\xb6 \xcf\x89");
  EXPECT_EQ(lower("\xf0\x90\x90\x80 \xc4\xb0 \xe1\xba\x9e"), "\xf0\x90\x90\xa8 i\xcc\x87 \xc3\x9f");
  EXPECT_EQ(lower("\xce\x9f\xce\xa3"), "\xce\xbf\xcf\x83") << "Python writes U+03C2 at the end of a word";
  EXPECT_NEAR(bleu_of({"A B C D"}, {"a b c d"}, {.lower_case = true}).score, 100, 1e-9);
  EXPECT_EQ(bleu_of({"A B C D"}, {"a b c d"}).score, 0);
}

rc::Gen<Texts> some_texts() {
  return rc::gen::nonEmpty(
      rc::gen::container<Texts>(rc::gen::container<std::string>(rc::gen::elementOf(std::string("abc    .,1-&;lt")))));
}

RC_GTEST_PROP(BleuProperty, IdenticalTextIsAHundred, ()) {
  Texts texts = *some_texts();
  texts.push_back("four words at least");
  const BleuOptions options{*rc::gen::element(BleuTokens::none, BleuTokens::mteval_13a),
                            *rc::gen::element(BleuSmoothing::none, BleuSmoothing::exponential),
                            *rc::gen::arbitrary<bool>()};
  const Bleu result = bleu(texts, texts, options);
  RC_ASSERT(std::abs(result.score - 100) < 1e-9);
  RC_ASSERT(result.matches == result.totals);
  RC_ASSERT(result.brevity_penalty == 1);
}

RC_GTEST_PROP(BleuProperty, TheOrderOfPairsDoesNotMatter, ()) {
  auto pairs = *rc::gen::nonEmpty(rc::gen::container<std::vector<std::pair<std::string, std::string>>>(
      rc::gen::pair(rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab  "))),
                    rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab  "))))));
  const auto score = [&] {
    Texts hypotheses, references;
    for (const auto& [hypothesis, reference] : pairs) {
      hypotheses.push_back(hypothesis);
      references.push_back(reference);
    }
    return bleu(hypotheses, references);
  };
  const Bleu before = score();
  for (std::size_t i = pairs.size(); i > 1; --i) std::swap(pairs[i - 1], pairs[*rc::gen::inRange<std::size_t>(0, i)]);
  const Bleu after = score();
  RC_ASSERT(before.score == after.score);
  RC_ASSERT(before.matches == after.matches);
  RC_ASSERT(before.totals == after.totals);
  RC_ASSERT(before.score >= 0 && before.score <= 100 + 1e-9);
  for (std::size_t n = 0; n < Bleu::kOrders; ++n) RC_ASSERT(before.matches[n] <= before.totals[n]);
}

// Python's own re, str.split and str.lower over the same rules, and n-grams counted in dictionaries.
class Oracle {
 public:
  // Its words of every text, then its score of the texts as pairs (even ones are hypotheses).
  Oracle(const Texts& texts, const BleuOptions& options) {
    std::string all;
    for (const std::string& text : texts) all += text + '\0';
    folder_.write("texts", all);
    const std::string command = std::string(THIMBLE_PYTHON " " THIMBLE_SOURCE_DIR "/tests/models/bleu_oracle.py ") +
                                (options.tokens == BleuTokens::none ? "none " : "13a ") +
                                (options.lower_case ? "lc " : "mixed ") +
                                (options.smoothing == BleuSmoothing::none ? "none '" : "exp '") +
                                folder_.file("texts") + "' > '" + folder_.file("words") + "'";
    EXPECT_EQ(std::system(command.c_str()), 0);
    words = lines_of(folder_.file("words"));
    if (words.empty()) return;
    score = std::stod(words.back());
    words.pop_back();
  }

  Texts words;
  double score = -1;

 private:
  TemporaryFolder folder_;
};

void compare_with_oracle(const Texts& texts, const BleuOptions& options) {
  const Oracle oracle(texts, options);
  ASSERT_EQ(oracle.words.size(), texts.size());
  Texts hypotheses, references;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(bleu_words(texts[i], options), oracle.words[i]) << ::testing::PrintToString(texts[i]);
    (i % 2 == 0 ? hypotheses : references).push_back(texts[i]);
  }
  const Bleu result = bleu(hypotheses, references, options);
  EXPECT_NEAR(result.score, oracle.score, 1e-9);
}

// Pieces that the rules take an interest in, in any order.
Texts random_texts(std::uint32_t seed, int count) {
  const Texts parts = {"a",
                       "b",
                       "c",
                       "1",
                       "2",
                       ".",
                       ",",
                       "-",
                       " ",
                       " ",
                       "\n",
                       "'",
                       "&amp;",
                       "&lt;",
                       "&quot;",
                       "&gt;",
                       "<skipped>",
                       ";",
                       "!",
                       "$",
                       "/",
                       "_",
                       "~",
                       "\xc3\xbc",
                       "\xc3\x9c",
                       "\xe2\x82\xac",
                       "\xd9\xa1",
                       "\xc2\xa0",
                       "\xe3\x80\x80",
                       "\x1f",
                       "\t",
                       "\r",
                       "\xc2\x85",
                       "A",
                       "\xc4\xb0",
                       "\xf0\x90\x90\x80"};
  std::uint64_t state = seed;
  const auto below = [&](std::size_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::size_t>(state >> 33) % n;
  };
  Texts texts;
  for (int i = 0; i < count; ++i) {
    std::string& text = texts.emplace_back();
    for (std::size_t j = below(30); j > 0; --j) text += parts[below(parts.size())];
  }
  return texts;
}

TEST(BleuOracle, PythonCountsTheSameOfRandomText) {
  for (const BleuOptions& options :
       {BleuOptions{}, kFairseq, kPlainWords, BleuOptions{BleuTokens::mteval_13a, BleuSmoothing::none, true}})
    compare_with_oracle(random_texts(7, 4000), options);
}

TEST(BleuOracle, PythonLowersEveryCharacterTheSame) {
  Texts texts;
  for (char32_t first = 0x80; first < 0x110000; first += 0x1000) {
    std::string& text = texts.emplace_back();
    for (char32_t c = first; c < std::min<char32_t>(first + 0x1000, 0x110000); ++c) {
      if (c >= 0xd800 && c < 0xe000) continue;
      std::ostringstream bytes;
      const auto put = [&](char32_t byte) { bytes.put(static_cast<char>(byte)); };
      if (c < 0x800) {
        put(0xc0 + c / 64), put(0x80 + c % 64);
      } else if (c < 0x10000) {
        put(0xe0 + c / 4096), put(0x80 + c / 64 % 64), put(0x80 + c % 64);
      } else {
        put(0xf0 + c / 262144), put(0x80 + c / 4096 % 64), put(0x80 + c / 64 % 64), put(0x80 + c % 64);
      }
      text += bytes.str() + ' ';
    }
  }
  if (texts.size() % 2 == 1) texts.emplace_back();
  compare_with_oracle(texts, {BleuTokens::none, BleuSmoothing::none, true});
}

TEST(BleuOracle, PythonScoresTheSharedTextTheSame) {
  const TemporaryFolder folder;
  UNPACK_IWSLT14_OR_SKIP(folder);
  // German against English: many clipped counts, few long matches.
  const Texts german = lines_of(folder.file("test.de")), english = lines_of(folder.file("test.en"));
  Texts texts;
  for (std::size_t i = 0; i < german.size(); ++i) texts.insert(texts.end(), {german[i], english[i]});
  compare_with_oracle(texts, {});
  compare_with_oracle(texts, kFairseq);
}

}  // namespace
}  // namespace thimble
