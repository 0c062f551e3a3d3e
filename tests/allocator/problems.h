// Tiny named problems and a generator of random ones, shared by the tests of placement.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "thimble/placement.h"

namespace thimble::testing {

inline Buffer buffer(std::string name, std::int32_t begin, std::int32_t end, std::int64_t size,
                     std::optional<Offset> fixed = {}) {
  return {std::move(name), {Step{begin}, Step{end}}, Bytes{size}, fixed};
}

/// Forward and backward pass of `layers` layers: activation i lives until its backward step, gradients for two.
inline PlacementProblem chain(std::int32_t layers) {
  PlacementProblem problem;
  const std::int32_t last = 2 * layers;
  for (std::int32_t i = 0; i < layers; ++i) {
    const std::int64_t size = 100 + 37 * ((i * 7) % 5);
    problem.buffers.push_back(buffer("a" + std::to_string(i), i, last - i, size));
    problem.buffers.push_back(buffer("g" + std::to_string(i), last - i - 1, last - i + 1, size));
  }
  return problem;
}

/// Lifetimes such that no placement reaches max live for some greedy orders: interlocking blocks.
inline PlacementProblem interlocked() {
  return {
      {buffer("a", 0, 3, 4), buffer("b", 3, 9, 4), buffer("c", 0, 9, 4), buffer("d", 9, 21, 4), buffer("e", 0, 21, 4)},
      Bytes{1}};
}

/// A rectangle of 1000 steps by 1000 bytes cut into `count` buffers again and again: max live is 1000, and so is the
/// least peak.
inline PlacementProblem cut_rectangle(std::uint32_t seed, std::size_t count) {
  struct Piece {
    std::int32_t begin, end, size;
  };
  std::mt19937 random(seed);
  std::vector<Piece> pieces{{0, 1000, 1000}};
  while (pieces.size() < count) {
    Piece& piece = pieces[random() % pieces.size()];
    const bool in_time = random() % 2 == 0;
    const std::int32_t length = in_time ? piece.end - piece.begin : piece.size;
    if (length < 2) continue;
    const auto kept = static_cast<std::int32_t>(1 + random() % static_cast<std::uint32_t>(length - 1));
    const Piece rest =
        in_time ? Piece{piece.begin + kept, piece.end, piece.size} : Piece{piece.begin, piece.end, piece.size - kept};
    (in_time ? piece.end : piece.size) = in_time ? piece.begin + kept : kept;
    pieces.push_back(rest);
  }
  PlacementProblem problem;
  for (std::size_t i = 0; i < pieces.size(); ++i)
    problem.buffers.push_back(buffer("p" + std::to_string(i), pieces[i].begin, pieces[i].end, pieces[i].size));
  return problem;
}

}  // namespace thimble::testing
