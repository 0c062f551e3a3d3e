#include "thimble/beam_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <string>

#include "thimble/error.h"
#include "thimble/vocabulary.h"

namespace thimble {
namespace {

using Ids = std::vector<std::int32_t>;

constexpr std::int32_t kEnd = Vocabulary::kEnd, kA = 4, kB = 5, kC = 6;

struct Row {
  std::vector<std::pair<double, std::int32_t>> choices;  // probabilities, descending
};

void advance(BeamSearch& search, const std::vector<Row>& rows) {
  std::vector<float> scores;
  Ids ids;
  for (const Row& row : rows)
    for (const auto& [probability, id] : row.choices) {
      scores.push_back(static_cast<float>(std::log(probability)));
      ids.push_back(id);
    }
  search.advance(scores, ids);
}

TEST(BeamSearch, ALikelyBeginningMayLose) {
  BeamSearch search({.beam = 2, .length_penalty = 1, .longest = 9});
  advance(search, {{{{.6, kA}, {.4, kB}}}});
  ASSERT_EQ(search.hypotheses(), 2);
  EXPECT_EQ(search.last(0), kA);
  advance(search, {{{{.3, kA}, {.2, kEnd}}}, {{{.9, kEnd}, {.1, kC}}}});  // .18, .12; .36, .04
  EXPECT_FALSE(search.is_done());
  EXPECT_EQ(search.parent(0), 0);
  EXPECT_EQ(search.parent(1), 1);
  advance(search, {{{{.9, kEnd}, {.1, kA}}}, {{{.5, kEnd}, {.5, kA}}}});
  ASSERT_TRUE(search.is_done());
  EXPECT_EQ(search.best().ids, Ids{kB});
  EXPECT_NEAR(search.best().score, std::log(.36) / 2, 1e-6);
}

TEST(BeamSearch, LengthPenaltyDecides) {
  for (const auto& [penalty, expected] : {std::pair{0.0, Ids{kA}}, {1.0, Ids{kA, kB, kC}}}) {
    BeamSearch search({.beam = 2, .length_penalty = penalty, .longest = 9});
    advance(search, {{{{.9, kA}, {.1, kB}}}});
    advance(search, {{{{.5, kEnd}, {.5, kB}}}, {{{.5, kA}, {.5, kB}}}});
    advance(search, {{{{.9, kC}, {.1, kA}}}, {{{.5, kA}, {.5, kB}}}});
    advance(search, {{{{.9, kEnd}, {.1, kA}}}, {{{.5, kA}, {.5, kB}}}});
    ASSERT_TRUE(search.is_done());
    EXPECT_EQ(search.best().ids, expected) << penalty;
  }
}

// The best 64 of so few sentences are all of them, so the search is exact: of a random model with three pieces, the
// best sentence of at most four pieces.
TEST(BeamSearch, WithAWideBeamIsExhaustive) {
  constexpr std::int64_t kLongest = 4;
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    std::map<Ids, Row> model;  // by what came before
    const auto row_of = [&](const Ids& prefix) -> const Row& {
      Row& row = model[prefix];
      if (!row.choices.empty()) return row;
      std::seed_seq words{
          seed, static_cast<std::uint32_t>(std::hash<std::string>{}(std::string(prefix.begin(), prefix.end())))};
      std::mt19937 random(words);
      for (std::int32_t id : {kEnd, kA, kB}) row.choices.emplace_back(1.0 + static_cast<double>(random() % 1000), id);
      double sum = 0;
      for (const auto& choice : row.choices) sum += choice.first;
      for (auto& choice : row.choices) choice.first /= sum;
      std::sort(row.choices.rbegin(), row.choices.rend());
      return row;
    };
    double best = -1e9;
    Ids best_ids;
    const auto visit = [&](const auto& self, const Ids& prefix, double score) -> void {
      for (const auto& [probability, id] : row_of(prefix).choices) {
        const double total = score + std::log(probability);
        const auto length = static_cast<std::int64_t>(prefix.size()) + 1;
        if (id == kEnd && prefix.empty()) continue;
        Ids next = prefix;
        if (id != kEnd) next.push_back(id);
        if (id == kEnd || length == kLongest) {
          if (total / static_cast<double>(length) > best) {
            best = total / static_cast<double>(length);
            best_ids = next;
          }
        } else {
          self(self, next, total);
        }
      }
    };
    visit(visit, {}, 0);
    BeamSearch search({.beam = 64, .length_penalty = 1, .longest = kLongest});
    std::vector<Ids> prefixes{{}};
    while (!search.is_done()) {
      std::vector<Row> rows;
      for (const Ids& prefix : prefixes) rows.push_back(row_of(prefix));
      advance(search, rows);
      std::vector<Ids> next;
      for (std::int64_t i = 0; i < search.hypotheses(); ++i) {
        next.push_back(prefixes[static_cast<std::size_t>(search.parent(i))]);
        next.back().push_back(search.last(i));
      }
      prefixes = std::move(next);
    }
    EXPECT_EQ(search.best().ids, best_ids) << seed;
    EXPECT_NEAR(search.best().score, best, 1e-6) << seed;
  }
}

TEST(BeamSearch, EndsAtTheLongest) {
  BeamSearch search({.beam = 2, .length_penalty = 1, .longest = 2});
  advance(search, {{{{.6, kA}, {.4, kB}}}});
  advance(search, {{{{.6, kA}, {.4, kB}}}, {{{.6, kA}, {.4, kB}}}});
  ASSERT_TRUE(search.is_done());
  EXPECT_EQ(search.best().ids, (Ids{kA, kA}));
  EXPECT_NEAR(search.best().score, std::log(.36) / 2, 1e-6);
}

TEST(BeamSearch, RefusesOptionsAndRowsThatCannotBe) {
  EXPECT_THROW(BeamSearch({.beam = 0}), InvalidArgument);
  EXPECT_THROW(BeamSearch({.longest = 0}), InvalidArgument);
  BeamSearch search({.beam = 2});
  EXPECT_THROW(search.best(), InvalidArgument);
  EXPECT_THROW(search.advance({}, {}), InvalidArgument);
  advance(search, {{{{.6, kA}, {.4, kB}}}});
  const float scores[] = {0, 0, 0};
  const std::int32_t ids[] = {kA, kB, kC};
  EXPECT_THROW(search.advance(scores, ids), InvalidArgument);
}

}  // namespace
}  // namespace thimble
