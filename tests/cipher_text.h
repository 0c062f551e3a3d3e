// Parallel text that a tiny model learns: twelve words, and every line's translation is the line read backwards, so
// word by word in the opposite order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace thimble {

struct CipherText {
  std::vector<std::string> sources, targets;

  CipherText(std::int64_t pairs, std::int64_t most_words, std::uint32_t seed) {
    static constexpr std::int64_t kWords = 12;
    std::mt19937 random(seed);
    const auto draw = [&](std::int64_t below) {
      return static_cast<std::size_t>(random() % static_cast<std::uint64_t>(below));
    };
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      std::string line;
      for (std::size_t words = 1 + draw(most_words); words > 0; --words) {
        const std::size_t word = draw(kWords);
        line += {"kmst"[word / 3], "aeo"[word % 3]};
        if (words > 1) line += ' ';
      }
      sources.push_back(line);
      targets.emplace_back(line.rbegin(), line.rend());
    }
  }

  static std::string text(const std::vector<std::string>& lines) {
    std::string all;
    for (const std::string& line : lines) all += line + '\n';
    return all;
  }
};

}  // namespace thimble
