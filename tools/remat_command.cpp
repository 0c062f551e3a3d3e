#include <algorithm>
#include <iomanip>
#include <iostream>
#include <memory>
#include <sstream>

#include "commands.h"
#include "gunzip.h"
#include "model_options.h"
#include "thimble/error.h"
#include "thimble/remat.h"

namespace thimble {
namespace {

constexpr std::size_t kLargestFile = std::size_t{1} << 28;  // bytes of JSON, inflated

struct RematCommandOptions {
  std::string graph;
  std::string output;
  std::string budget;
  std::string solver;
  bool json = false;
};

std::string report(const RematProblem& problem, const RematResult& result, Bytes budget) {
  std::ostringstream text;
  text << problem.ops.size() << " ops, " << problem.tensors.size() << " tensors, budget " << budget.value
       << " bytes (constants apart): " << to_string(result.status) << '\n';
  if (result.cost) {
    const auto bound = static_cast<double>(result.cost_lower_bound);
    const double gap = bound > 0 ? 100.0 * (static_cast<double>(*result.cost) / bound - 1) : 0;
    const auto runs = std::count_if(result.schedule.begin(), result.schedule.end(),
                                    [](const RematStep& step) { return step.kind == RematStep::Kind::compute; });
    text << "cost          " << *result.cost << " (nothing costs less than " << result.cost_lower_bound << "; gap "
         << std::setprecision(3) << gap << " %)\n";
    text << "peak          " << result.peak.value << " bytes\n";
    text << "runs          " << runs << " of ops, by " << result.made_by << '\n';
  } else {
    text << (result.status == RematStatus::infeasible ? "nothing fits  proven" : "not found     raise --budget")
         << "; no schedule fits fewer than " << result.budget_lower_bound.value << " bytes\n";
  }
  return text.str();
}

int run_remat(const RematCommandOptions& options) {
  const Bytes budget = parse_bytes(options.budget);
  const std::string text = gunzip(read_file(options.graph), kLargestFile, options.graph);
  const RematProblem problem = read_remat_problem(text, options.graph);
  const RematResult result = solve_remat(problem, budget, {.solver = options.solver});
  const bool is_kept = !options.output.empty() && result.cost;
  const std::string document = is_kept || options.json ? write_remat_result(result, budget) : "";
  if (is_kept) write_file(options.output, document);
  std::cout << (options.json ? document : report(problem, result, budget));
  if (result.cost) return kDone;
  return result.status == RematStatus::infeasible ? kHonestNo : kFailed;
}

}  // namespace

Command add_remat_command(CLI::App& app) {
  auto options = std::make_shared<RematCommandOptions>();
  CLI::App* command = app.add_subcommand("remat", "the recomputation scheduler alone, on anybody's graph");
  command->footer("example: thimble remat graph.json.gz --budget 640MB -o schedule.json");
  command->add_option("graph", options->graph, "remat-exact/1 or remat-graph/1, plain or gzipped")->required();
  command->add_option("--budget", options->budget, "bytes that all but the constants fit in; exit 3 where nothing does")
      ->required();
  command->add_option("-o,--output", options->output,
                      "write status, cost, peak and schedule: cK runs op K, eT frees tensor T");
  command->add_option("--solver", options->solver, "one member of the portfolio alone")
      ->check(CLI::IsMember(remat_solver_names()));
  command->add_flag("--json", options->json, "the same document on standard output");
  return [options] { return run_remat(*options); };
}

}  // namespace thimble
