// Small recomputation problems, a random source of more, an oracle for tiny ones, and the stored instances.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "thimble/remat.h"

namespace thimble::remat_cases {

/// A chain of `length` forward ops and the backward ops that read their inputs and outputs; one kept tensor at the end.
inline RematProblem chain(int length, std::int64_t bytes = 4) {
  RematProblem problem;
  for (int i = 0; i < length; ++i) {
    problem.tensors.push_back({Bytes{bytes}});
    problem.ops.push_back({2 + i % 3, Bytes{0}, {}, {i}});
    if (i > 0) problem.ops.back().inputs = {i - 1};
  }
  for (int i = length - 1; i >= 0; --i) {
    const auto gradient = static_cast<std::int32_t>(problem.tensors.size());
    problem.tensors.push_back({Bytes{i == 0 ? 1 : bytes}, i == 0});
    problem.ops.push_back({3, Bytes{1}, {i}, {gradient}});
    if (i + 1 < length) problem.ops.back().inputs.push_back(gradient - 1);
  }
  return problem;
}

/// Ops with one or two outputs, workspaces, zero sizes and costs, constants, kept tensors in the middle, alternative
/// producers (also ones that make a tensor from what was made of it).
inline RematProblem random_problem(std::uint32_t seed, int tensors, bool alternatives, bool wide = true) {
  std::mt19937 random(seed);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<std::uint32_t>(n)); };
  RematProblem problem;
  if (below(3) == 0) problem.tensors.push_back({Bytes{50}, false, true});
  while (static_cast<int>(problem.tensors.size()) < tensors) {
    const auto known = static_cast<int>(problem.tensors.size());
    RematOp op{below(6), Bytes{below(3) == 0 ? below(3) : 0}, {}, {known}};
    for (int i = 0; i < 1 + below(3) && known > 0; ++i)
      op.inputs.push_back(std::max(0, known - 1 - below(below(4) == 0 ? known : std::min(known, 3))));
    problem.tensors.push_back({Bytes{below(6)}, below(8) == 0});
    if (wide && below(4) == 0 && known + 1 < tensors) {
      problem.tensors.push_back({Bytes{below(5)}, below(8) == 0});
      op.outputs.push_back(known + 1);
    }
    problem.ops.push_back(op);
  }
  problem.tensors.back().keep = true;
  for (int i = 0; alternatives && i < 3; ++i) {
    const int out = below(tensors), from = below(tensors);
    if (problem.tensors[static_cast<std::size_t>(out)].constant || out == from) continue;
    problem.ops.push_back({below(4), Bytes{0}, {from}, {out}});
    if (below(2) == 0) problem.ops.back().inputs.push_back(below(tensors));
    auto& inputs = problem.ops.back().inputs;
    inputs.erase(std::remove(inputs.begin(), inputs.end(), out), inputs.end());
  }
  return problem;
}

/// Layers of tensors that read two to four of earlier ones, mostly of the layer before; the last op reads the last
/// layer.
inline RematProblem layered(std::uint32_t seed, int layers, int width) {
  std::mt19937 random(seed);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<std::uint32_t>(n)); };
  RematProblem problem;
  for (int t = 0; t < layers * width; ++t) {
    RematOp op{1 + below(9), Bytes{0}, {}, {t}};
    const int layer = t / width * width;
    for (int i = 0; i < 2 + below(3) && layer > 0; ++i)
      op.inputs.push_back(below(4) == 0 ? below(layer) : layer - width + below(width));
    problem.tensors.push_back({Bytes{1 + below(20)}});
    problem.ops.push_back(op);
  }
  RematOp last{1, Bytes{0}, {}, {layers * width}};
  for (int t = (layers - 1) * width; t < layers * width; ++t) last.inputs.push_back(t);
  problem.tensors.push_back({Bytes{1}, true});
  problem.ops.push_back(last);
  return problem;
}

/// The cheapest cost over all schedules, by Dijkstra over every resident set (at most about 12 tensors); empty where
/// nothing fits.
inline std::optional<std::int64_t> cheapest(const RematProblem& problem, std::int64_t budget) {
  const auto n = problem.tensors.size();
  std::uint32_t start = 0, goal = 0;
  for (std::size_t t = 0; t < n; ++t) {
    if (problem.tensors[t].constant) start |= 1U << t;
    if (problem.tensors[t].keep) goal |= 1U << t;
  }
  const auto bytes = [&](std::uint32_t set) {
    std::int64_t sum = 0;
    for (std::size_t t = 0; t < n; ++t)
      sum += (set >> t & 1U) && !problem.tensors[t].constant ? problem.tensors[t].size.value : 0;
    return sum;
  };
  std::vector<std::int64_t> best(std::size_t{1} << n, INT64_MAX);
  std::map<std::int64_t, std::vector<std::uint32_t>> open;
  best[start] = 0;
  open[0] = {start};
  while (!open.empty()) {
    const std::int64_t cost = open.begin()->first;
    std::vector<std::uint32_t>& bucket = open.begin()->second;
    if (bucket.empty()) {
      open.erase(open.begin());
      continue;
    }
    const std::uint32_t state = bucket.back();
    bucket.pop_back();
    if (best[state] < cost) continue;
    if ((state & goal) == goal) return cost;
    const auto reach = [&](std::uint32_t next, std::int64_t total) {
      if (best[next] <= total) return;
      best[next] = total;
      open[total].push_back(next);
    };
    for (std::size_t t = 0; t < n; ++t)
      if (state & ~start & 1U << t) reach(state & ~(1U << t), cost);
    for (const RematOp& op : problem.ops) {
      std::uint32_t in = 0, out = 0;
      for (std::int32_t t : op.inputs) in |= 1U << t;
      for (std::int32_t t : op.outputs) out |= 1U << t;
      if ((in & ~state) || !(out & ~state) || bytes(state | out) + op.workspace.value > budget) continue;
      reach(state | out, cost + op.cost);
    }
  }
  return std::nullopt;
}

inline std::filesystem::path instances() {
  const char* shared = std::getenv("THIMBLE_SHARED");
  return (shared ? std::filesystem::path(shared) : std::filesystem::path(THIMBLE_SOURCE_DIR) / ".." / "shared") /
         "instances/remat";
}

/// A file's text, inflated where it is gzipped.
inline std::string read_text(const std::filesystem::path& path) {
  std::string text;
  gzFile file = gzopen(path.c_str(), "rb");
  if (!file) return text;
  std::vector<char> buffer(1 << 16);
  for (int n; (n = gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(n));
  gzclose(file);
  return text;
}

/// Files of one folder of the instances, by name; empty where there is none.
inline std::vector<std::filesystem::path> files(const char* folder) {
  std::vector<std::filesystem::path> found;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(instances() / folder, missing))
    if (entry.is_regular_file()) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace thimble::remat_cases
