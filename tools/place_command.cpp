#include <sys/resource.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "commands.h"
#include "model_options.h"
#include "thimble/error.h"
#include "thimble/exact_placement.h"
#include "thimble/problem_csv.h"

namespace thimble {
namespace {

struct PlaceOptions {
  std::string problem;
  std::string output;
  std::string capacity;
  std::int64_t alignment = 1;
  std::int64_t nodes = -1;  // not said: enough for a few seconds
  bool minimize = false;
  bool json = false;
};

constexpr std::int64_t kCapacityNodes = 2'000'000;

/// A node costs more where there are more buffers: a few seconds at most. Counted, so that the answer is the same
/// everywhere.
std::int64_t minimize_nodes(const PlacementProblem& problem) {
  return std::min<std::int64_t>(500'000, 50'000'000 / static_cast<std::int64_t>(problem.buffers.size() + 1));
}

/// Seconds of processor time in this process: what a search costs, whoever else is on the machine.
double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// What both ways of placing have to report.
struct Outcome {
  CapacityAnswer::Verdict verdict = CapacityAnswer::Verdict::kPlaced;
  Placement placement;  // without offsets where the verdict is another
  Bytes lower_bound;
  std::int64_t nodes = 0;
  double seconds = 0;

  bool fits() const { return verdict == CapacityAnswer::Verdict::kPlaced; }
  bool is_optimal() const { return fits() && placement.peak <= lower_bound; }
  double gap_percent() const {
    if (!fits() || lower_bound == Bytes{}) return 0;
    return 100.0 * static_cast<double>((placement.peak - lower_bound).value) / static_cast<double>(lower_bound.value);
  }
};

Outcome place(const PlacementProblem& problem, std::optional<Bytes> capacity, const PlaceOptions& options) {
  const double start = processor_seconds();
  Outcome result;
  if (!capacity || options.minimize) {
    MinimizedPlacement best = minimize_peak(problem, options.nodes < 0 ? minimize_nodes(problem) : options.nodes);
    result.placement = std::move(best.placement);
    result.lower_bound = result.placement.lower_bound;
    result.nodes = best.nodes;
    if (capacity && result.placement.peak > *capacity)
      result.verdict =
          result.lower_bound > *capacity ? CapacityAnswer::Verdict::kInfeasible : CapacityAnswer::Verdict::kNotFound;
  } else {
    CapacityAnswer answer = place_into(problem, *capacity, options.nodes < 0 ? kCapacityNodes : options.nodes);
    result = {answer.verdict, std::move(answer.placement), answer.lower_bound, answer.nodes, 0};
  }
  result.seconds = processor_seconds() - start;
  return result;
}

void print_json(const PlacementProblem& problem, std::optional<Bytes> capacity, const Outcome& outcome) {
  using Json = nlohmann::ordered_json;
  const bool has_peak = outcome.placement.offsets.size() == problem.buffers.size();
  const bool is_refuted = outcome.verdict == CapacityAnswer::Verdict::kInfeasible;
  const Json report{{"buffers", problem.buffers.size()},
                    {"peak_bytes", has_peak ? Json(outcome.placement.peak.value) : Json(nullptr)},
                    {"lower_bound_bytes", outcome.lower_bound.value},
                    {"gap_percent", has_peak ? Json(outcome.gap_percent()) : Json(nullptr)},
                    {"proven_optimal", outcome.is_optimal()},
                    {"nodes", outcome.nodes},
                    {"seconds", outcome.seconds},
                    {"made_by", has_peak ? Json(outcome.placement.made_by) : Json(nullptr)},
                    {"capacity_bytes", capacity ? Json(capacity->value) : Json(nullptr)},
                    {"fits", outcome.fits()},
                    {"proven_infeasible", is_refuted}};
  std::cout << report.dump(2) << '\n';
}

void print_line(const PlacementProblem& problem, std::optional<Bytes> capacity, const Outcome& outcome) {
  const std::string bound = std::to_string(outcome.lower_bound.value);
  if (outcome.fits())
    std::cout << problem.buffers.size() << " buffers, peak " << outcome.placement.peak.value << " bytes, lower bound "
              << bound << " bytes (" << outcome.gap_percent() << " % over"
              << (outcome.is_optimal() ? ", proven optimal" : "") << "), by " << outcome.placement.made_by << '\n';
  else if (outcome.verdict == CapacityAnswer::Verdict::kInfeasible)
    std::cout << "no: proven infeasible, nothing fits into " << capacity->value << " bytes; at least " << bound
              << " bytes are needed\n";
  else
    std::cout << "not found: no placement into " << capacity->value << " bytes within " << outcome.nodes
              << " search nodes, and no proof that there is none (lower bound " << bound
              << " bytes); raise --nodes to search longer\n";
}

int run_place(const PlaceOptions& options) {
  PlacementProblem problem = read_problem_csv(read_file(options.problem), options.problem).problem;
  problem.alignment = Bytes{options.alignment};
  std::optional<Bytes> capacity;
  if (!options.capacity.empty()) capacity = parse_bytes(options.capacity);
  const Outcome outcome = place(problem, capacity, options);
  if (outcome.fits())
    if (const auto findings = check_placement(problem, outcome.placement.offsets, capacity); !findings.empty())
      throw Error("place: the independent check refuses the placement: " + findings.front());
  if (options.json)
    print_json(problem, capacity, outcome);
  else
    print_line(problem, capacity, outcome);
  if (outcome.verdict == CapacityAnswer::Verdict::kInfeasible) return kHonestNo;
  if (!outcome.fits()) return kFailed;
  if (!options.output.empty()) {
    std::ostringstream csv;
    write_problem_csv(csv, problem, outcome.placement.offsets);
    write_file(options.output, csv.str());
  }
  return kDone;
}

}  // namespace

Command add_place_command(CLI::App& app) {
  auto options = std::make_shared<PlaceOptions>();
  CLI::App* command = app.add_subcommand("place", "the offset planner alone: CSV in, offsets out");
  command->footer(
      "exit codes: 0 placed, 3 proven not to fit, 1 not found within the node limit\n"
      "example: thimble place problem.csv --capacity 1MiB -o solution.csv");
  command->add_option("problem", options->problem, "id,lower,upper,size; lifetimes are half-open")->required();
  command->add_option("-o,--output", options->output, "write the problem with its offsets");
  command->add_option("--capacity", options->capacity, "size it has to fit in, such as 1048576 or 1MiB");
  command->add_flag("--minimize", options->minimize, "smallest peak (the default without --capacity)");
  command
      ->add_option("--nodes", options->nodes,
                   "search nodes at most (default: 2000000 with --capacity, else what takes a few seconds)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--alignment", options->alignment)->capture_default_str()->check(CLI::Range(1, 1 << 20));
  command->add_flag("--json", options->json, "one JSON document instead of a line");
  return [options] { return run_place(*options); };
}

}  // namespace thimble
