// What recomputation is measured against: checkpoints as published, and the recorded runs of an online evictor. Shares
// no code with the solvers; every plan is judged by replay_remat.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "thimble/remat.h"

namespace thimble::remat_baselines {

/// What one plan came to when it was replayed.
struct Measured {
  std::int64_t cost = 0;
  Bytes peak;
};

/// Plans of one method, for whichever budget they fit; the first recomputes nothing.
struct Baselines {
  std::vector<Measured> sqrt_n;  ///< Chen et al. 2016: sqrt(n) segments of as many ops each
  std::vector<Measured> greedy;  ///< the same paper's algorithm 3: a segment ends where its bytes exceed a limit
};

/// Each method in its kindest reading: cut anywhere, or only where one op's outputs alone cross; what crosses a cut
/// held or made again; the forward pass ending after `forward_ops` ops, or at the fullest moment. Every tensor has one
/// producer.
Baselines measure_baselines(const RematProblem& problem, std::size_t forward_ops);

/// The cheapest plan within the budget; empty where none is.
std::optional<std::int64_t> cheapest_within(const std::vector<Measured>& plans, Bytes budget);

/// By budget in bytes without constants.
using TimeRatios = std::map<std::int64_t, double>;

/// Lowest recorded time ratio of the DTR simulator's heuristics on a graph. Runs that failed are left out.
TimeRatios recorded_dtr(const nlohmann::json& peer, const std::string& graph);

/// The lowest ratio of the runs that fit a budget; empty where none does.
std::optional<double> lowest_within(const TimeRatios& ratios, Bytes budget);

}  // namespace thimble::remat_baselines
