// One table: what recomputation costs at fractions of the peak without it, beside the proven bound, checkpoints as
// published and the recorded runs of the DTR simulator. Costs are overheads in percent of a run without recomputation.
//   remat_bench --peer public/peer_dtr_simulator.json public/*.json.gz
// at 0.9, 0.7, 0.5 and 0.3 of stats.peak_given_order_nonconst, then at the very budgets of the recorded runs. `dtr` is
// the best recorded run that fits.
#include <zlib.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <nlohmann/json.hpp>
#include <vector>

#include "remat_baselines.h"
#include "thimble/error.h"
#include "thimble/remat.h"

namespace {

using Json = nlohmann::json;
using thimble::Bytes;
using thimble::RematProblem;
using thimble::RematResult;
using thimble::RematStatus;
using namespace thimble::remat_baselines;

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

// Of this process: user time on one core.
double seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Instance {
  std::string name;
  RematProblem problem;
  double base = 0;  // cost without recomputation
  double peak = 0;  // bytes without recomputation, in the given order
  Baselines baselines;
  TimeRatios dtr;
};

struct Totals {
  int rows = 0, solved = 0, infeasible = 0, open = 0, slow = 0, worse = 0;
};

Instance read_instance(const std::string& path, const Json& peer) {
  const std::string text = read_text(path);
  const Json json = Json::parse(text);
  Instance instance;
  instance.name = json.at("name");
  instance.problem = thimble::read_remat_problem(text, path);
  instance.base =
      static_cast<double>(thimble::solve_remat(instance.problem, Bytes{std::int64_t{1} << 50}).cost.value());
  instance.peak = json.at("stats").at("peak_given_order_nonconst");
  instance.baselines = measure_baselines(instance.problem, json.at("stats").at("fwd_ops"));
  if (!peer.is_null()) instance.dtr = recorded_dtr(peer, instance.name);
  return instance;
}

void print_overhead(const std::optional<double>& ratio) {
  if (ratio)
    std::printf(" %8.2f", 100 * (*ratio - 1));
  else
    std::printf(" %8s", "-");
}

std::optional<double> ratio_of(const std::optional<std::int64_t>& cost, double base) {
  if (!cost) return std::nullopt;
  return static_cast<double>(*cost) / base;
}

void run(const Instance& instance, double fraction, std::int64_t bytes, Totals& totals) {
  const Bytes budget{bytes};
  const double start = seconds();
  const RematResult ours = thimble::solve_remat(instance.problem, budget);
  const double time = seconds() - start;
  const auto sqrt_n = ratio_of(cheapest_within(instance.baselines.sqrt_n, budget), instance.base);
  const auto greedy = ratio_of(cheapest_within(instance.baselines.greedy, budget), instance.base);
  const auto dtr = lowest_within(instance.dtr, budget);
  const auto cost = ratio_of(ours.cost, instance.base);
  std::printf("%-20s %5zu %5.2f %12lld", instance.name.c_str(), instance.problem.ops.size(), fraction,
              static_cast<long long>(bytes));
  print_overhead(cost);
  print_overhead(ours.status == RematStatus::infeasible ? std::nullopt
                                                        : ratio_of(ours.cost_lower_bound, instance.base));
  print_overhead(sqrt_n);
  print_overhead(greedy);
  print_overhead(dtr);
  std::printf(" %6.2f  %s%s%s\n", time, to_string(ours.status), ours.made_by.empty() ? "" : ", ", ours.made_by.c_str());
  std::fflush(stdout);
  ++totals.rows;
  totals.solved += cost.has_value();
  totals.infeasible += ours.status == RematStatus::infeasible;
  totals.open += ours.status == RematStatus::not_found;
  totals.slow += instance.problem.ops.size() <= 1000 && time > 10;
  for (const auto& other : {sqrt_n, greedy, dtr}) totals.worse += other && (!cost || *cost > *other + 1e-12);
}

void print(const char* what, const Totals& totals) {
  std::printf(
      "%s: %d rows, %d solved, %d proven infeasible, %d open; %d above 10 s up to 1000 ops; %d times worse than "
      "a baseline\n",
      what, totals.rows, totals.solved, totals.infeasible, totals.open, totals.slow, totals.worse);
}

}  // namespace

int main(int argc, char** argv) {
  std::printf("%-20s %5s %5s %12s %8s %8s %8s %8s %8s %6s\n", "graph", "ops", "of", "budget", "cost %", "bound %",
              "sqrt(n)", "greedy", "dtr", "s");
  try {
    Json peer;
    int first = 1;
    if (argc > 2 && std::strcmp(argv[1], "--peer") == 0) {
      peer = Json::parse(read_text(argv[2]));
      first = 3;
    }
    Totals fractions, recorded;
    for (int i = first; i < argc; ++i) {
      const Instance instance = read_instance(argv[i], peer);
      for (const double fraction : {0.9, 0.7, 0.5, 0.3})
        run(instance, fraction, static_cast<std::int64_t>(instance.peak * fraction), fractions);
      for (const auto& row : instance.dtr)
        run(instance, static_cast<double>(row.first) / instance.peak, row.first, recorded);
    }
    print("fractions of the peak", fractions);
    if (!peer.is_null()) print("recorded budgets of DTR", recorded);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
