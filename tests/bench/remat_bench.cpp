// Prints what recomputation costs at fractions of the peak without it, beside checkpoints, an evictor and the bound.
//   remat_bench instances/remat/public/*.json.gz                      at 0.9, 0.7, 0.5 and 0.3 of
//   stats.peak_given_order_nonconst remat_bench --peer peer_dtr_simulator.json instances/remat/public/dtr_*.json.gz at
//   the budgets of the peer's runs
#include <zlib.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "thimble/error.h"
#include "thimble/remat.h"

namespace {

using Json = nlohmann::json;
using thimble::Bytes;
using thimble::RematProblem;
using thimble::RematResult;

std::string read_text(const std::string& path) {
  gzFile file = gzopen(path.c_str(), "rb");
  if (!file) throw thimble::EnvironmentError(path + ": cannot be opened");
  std::string text;
  std::vector<char> buffer(1 << 16);
  for (int n; (n = gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(n));
  gzclose(file);
  return text;
}

double seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}  // of this process: user time on one core

struct Row {
  std::string name;
  std::int64_t budget;
  double fraction;
  double peer = 0;  // time ratio of the peer's best heuristic; 0: none
};

void print_ratio(const std::optional<std::int64_t>& cost, double base) {
  if (cost)
    std::printf(" %9.4f", static_cast<double>(*cost) / base);
  else
    std::printf(" %9s", "-");
}

void run(const RematProblem& problem, const Row& row, double base) {
  const Bytes budget{row.budget};
  const RematResult segments = thimble::solve_remat(problem, budget, {.solver = "segments"});
  const RematResult eviction = thimble::solve_remat(problem, budget, {.solver = "eviction"});
  const double start = seconds();
  const RematResult ours = thimble::solve_remat(problem, budget);
  const double time = seconds() - start;
  std::printf("%-22s %5.2f %14lld", row.name.c_str(), row.fraction, static_cast<long long>(row.budget));
  print_ratio(ours.cost, base);
  std::printf(" %9.4f", static_cast<double>(ours.cost_lower_bound) / base);
  print_ratio(segments.cost, base);
  print_ratio(eviction.cost, base);
  if (row.peer > 0)
    std::printf(" %9.4f", row.peer);
  else
    std::printf(" %9s", "-");
  std::printf(" %7.2f  %s%s%s\n", time, to_string(ours.status), ours.made_by.empty() ? "" : ", ", ours.made_by.c_str());
  std::fflush(stdout);
}

// The budgets of the peer's runs that ended well, with the best ratio of its heuristics.
std::map<std::int64_t, std::pair<double, double>> peer_rows(const Json& peer, const std::string& name) {
  std::map<std::int64_t, std::pair<double, double>> rows;
  for (const Json& entry : peer.at("entries")) {
    if (entry.at("name") != name) continue;
    for (const Json& result : entry.at("results")) {
      if (result.at("status") != "ok") continue;
      const double ratio = result.at("time_ratio");
      auto& row = rows.emplace(result.at("budget_bytes_nonconst").get<std::int64_t>(),
                               std::pair{result.at("ratio").get<double>(), ratio})
                      .first->second;
      row.second = std::min(row.second, ratio);
    }
  }
  return rows;
}

void run_file(const std::string& path, const Json& peer) {
  const std::string text = read_text(path);
  const Json json = Json::parse(text);
  const RematProblem problem = thimble::read_remat_problem(text, path);
  const std::string name = json.at("name");
  const auto base = static_cast<double>(thimble::solve_remat(problem, Bytes{std::int64_t{1} << 50}).cost.value());
  if (!peer.is_null()) {
    for (const auto& [budget, ratios] : peer_rows(peer, name))
      run(problem, {name, budget, ratios.first, ratios.second}, base);
    return;
  }
  const double peak = json.at("stats").at("peak_given_order_nonconst");
  for (double fraction : {0.9, 0.7, 0.5, 0.3})
    run(problem, {name, static_cast<std::int64_t>(peak * fraction), fraction}, base);
}

}  // namespace

int main(int argc, char** argv) {
  std::printf("%-22s %5s %14s %9s %9s %9s %9s %9s %7s\n", "graph", "of", "budget", "cost", "bound", "segments",
              "eviction", "peer", "s");
  try {
    Json peer;
    int first = 1;
    if (argc > 2 && std::strcmp(argv[1], "--peer") == 0) {
      peer = Json::parse(read_text(argv[2]));
      first = 3;
    }
    for (int i = first; i < argc; ++i) run_file(argv[i], peer);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
